"""Two tenants, one URL space: neither sees the other's lists, files, errors, or what exists there.

The fakes count: a private name reaches its own upstream, or nobody.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.principal import OPERATOR
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import info_of, module
from tests.nouns import a_credential, an_owner, an_upstream
from tests.services.bench import stored
from tests.web.harbour import add_route, add_tenant, cooled, harbour
from tests.web.wire import Got, Site

NAME = "corp.example/x"
TAILS = ("@v/list", "@latest", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip", "@v/master.info")
OURS = module(NAME, "v1.0.0", {"x.go": b"package x // acme\n"})
THEIRS = module(NAME, "v1.0.0", {"x.go": b"package x // globex\n"})
SAME = module("corp.example/same", "v1.0.0")
PUBLIC = module("example.com/public", "v1.0.0")


@dataclass(frozen=True)
class Two:
    """Tenants acme and globex with private upstreams, and outsider with the public one alone."""

    site: Site
    public: FakeGoproxy
    acme: FakeGoproxy
    globex: FakeGoproxy

    async def ask(self, tenant: str, tail: str, name: str = NAME, method: str = "GET") -> Got:
        return await self.site.ask(f"/goproxy/{tenant}/{name}/{tail}", method)


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    with (
        FakeGoproxy([PUBLIC]) as public,
        FakeGoproxy([OURS, SAME]) as acme,
        FakeGoproxy() as globex,
    ):
        for one in (THEIRS, SAME, module(NAME, "v1.1.0")):
            globex.put(one)
        acme.put_query(NAME, "master", info_of("v1.0.0"))
        globex.put_query(NAME, "master", info_of("v1.1.0"))
        async with harbour(tmp_path) as site:
            for tenant in ("acme", "globex", "outsider"):
                await add_tenant(site.services, tenant, public)
            await add_route(site.services, "acme", "corp.example", acme, private=True)
            await add_route(site.services, "globex", "corp.example", globex, private=True)
            yield Two(site, public, acme, globex)


@pytest.mark.parametrize("first", ["acme", "globex"])
async def test_each_tenant_gets_its_own_upstreams_bytes(two: Two, first: str) -> None:
    order = ["acme", "globex"] if first == "acme" else ["globex", "acme"]
    for _ in ("cold", "prepared"):
        got = {tenant: {tail: await two.ask(tenant, tail) for tail in TAILS} for tenant in order}
        assert got["acme"]["@v/list"].body == b"v1.0.0\n"
        assert got["globex"]["@v/list"].body == b"v1.0.0\nv1.1.0\n"
        assert b"v1.0.0" in got["acme"]["@latest"].body
        assert b"v1.1.0" in got["globex"]["@latest"].body
        assert b"v1.0.0" in got["acme"]["@v/master.info"].body
        assert b"v1.1.0" in got["globex"]["@v/master.info"].body
        assert got["acme"]["@v/v1.0.0.zip"].body == OURS.zip
        assert got["globex"]["@v/v1.0.0.zip"].body == THEIRS.zip
    assert not two.public.asked_for("corp.example")


async def test_a_version_that_one_has_is_absent_for_the_other(two: Two) -> None:
    for tail in ("@v/v1.1.0.info", "@v/v1.1.0.mod", "@v/v1.1.0.zip"):
        assert (await two.ask("globex", tail)).status == 200
        assert (await two.ask("acme", tail)).status == 404
        assert (await two.ask("globex", tail)).status == 200


async def test_a_remembered_absence_is_its_origins(two: Two) -> None:
    for tail in ("@v/v1.1.0.zip", "@v/v1.1.0.info"):
        assert (await two.ask("acme", tail)).status == 404
        assert (await two.ask("globex", tail)).status == 200


async def test_F51_one_tenants_upstream_trouble_is_not_the_others(two: Two) -> None:
    for path in (f"/{NAME}/@v/list", f"/{NAME}/@v/v1.0.0.info"):
        two.acme.fault(path, Fault.status(503), times=None)
    for tail in ("@v/list", "@v/v1.0.0.info"):
        assert (await two.ask("acme", tail)).status == 503
        assert (await two.ask("globex", tail)).status == 200
    assert not two.public.asked_for("corp.example")


async def test_an_error_names_neither_the_other_tenant_nor_any_upstream(two: Two) -> None:
    for tenant, tail in (
        ("acme", "@v/v9.9.9.info"),
        ("outsider", "@v/list"),
        ("outsider", "@latest"),
    ):
        got = await two.ask(tenant, tail)
        assert got.status in (403, 404)
        for other in {"acme", "globex", "outsider"} - {tenant}:
            assert other not in got.text
        assert "127.0.0.1" not in got.text


async def test_equal_bytes_are_one_blob_and_two_rows(two: Two) -> None:
    before = stored(two.site.services)
    for tenant in ("acme", "globex"):
        got = await two.ask(tenant, "@v/v1.0.0.zip", "corp.example/same")
        assert got.body == SAME.zip
    assert len(stored(two.site.services) - before) == 1
    assert two.acme.hits["/corp.example/same/@v/v1.0.0.zip"] == 1
    assert two.globex.hits["/corp.example/same/@v/v1.0.0.zip"] == 1


async def test_a_blob_is_reached_by_no_digest(two: Two) -> None:
    await two.ask("acme", "@v/v1.0.0.zip")
    [digest] = {d.hex for d in stored(two.site.services)}
    for target in (f"/dl/{digest}", f"/goproxy/outsider/blobs/sha256/{digest}", f"/go/{digest}"):
        got = await two.site.ask(target)
        assert got.status in (403, 404, 503)  # 503: whether /dl has it, the index would tell
        assert OURS.zip not in got.body


async def test_tenants_with_one_anonymous_upstream_share_what_it_said(two: Two) -> None:
    for tenant in ("acme", "globex", "outsider"):
        for tail in ("@v/list", "@v/v1.0.0.info", "@v/v1.0.0.mod", "@v/v1.0.0.zip"):
            assert (await two.ask(tenant, tail, PUBLIC.path)).status == 200
    assert set(two.public.hits.values()) == {1}


async def test_tenants_with_different_credentials_share_nothing(tmp_path: Path) -> None:
    with FakeGoproxy([PUBLIC], credential=basic("acme", "pw1")) as fake:
        async with harbour(tmp_path) as site:
            for tenant, password in (("acme", "pw1"), ("globex", "wrong")):
                await add_tenant(site.services, tenant)
                draft = a_credential("basic", password, "acme")
                await site.services.tenants.credentials.put(tenant, "up", draft, OPERATOR)
                await add_route(site.services, tenant, "*", an_upstream(fake.url, credential="up"))
            target = "/goproxy/{}/example.com/public/@v/v1.0.0.zip"
            assert (await site.ask(target.format("acme"))).status == 200
            refused = await site.ask(target.format("globex"))
            assert refused.status == 502
            assert "wrong" not in refused.text
            assert (await site.ask(target.format("acme"))).status == 200


PROBES = [
    "corp.example",
    "corp.example/x",
    "corp.example/x/sub/pkg",
    "corp.example/x/v2",
    "corp.example/!x",
    "corp.example/!corp!x",
    "corp.example/unknown/y",
]


@pytest.mark.parametrize("probe", PROBES)
async def test_F51_no_private_name_reaches_the_public_upstream(two: Two, probe: str) -> None:
    tails = [*TAILS, "@v/abcdef1.info", "@v/v0.0.0-20240102030405-abcdef123456.info"]
    for tenant in ("outsider", "acme", "globex"):
        for tail in tails:
            for method in ("GET", "HEAD"):
                got = await two.ask(tenant, tail, probe, method)
                assert got.status in (200, 400, 403, 404), (tenant, tail, got.body)
                if tenant == "outsider":
                    assert got.status in (400, 403)
    assert not two.public.asked_for("corp.example")
    for fake in (two.acme, two.globex):
        assert not fake.asked_for("example.com")


@pytest.mark.parametrize("status", [404, 410, 500, 503])
async def test_F51_whatever_a_private_upstream_answers_the_public_one_is_not_asked(
    two: Two, status: int
) -> None:
    for tail in TAILS:
        two.acme.fault(f"/{NAME}/{tail}", Fault.status(status), times=None)
    for tail in TAILS:
        got = await two.ask("acme", tail)
        assert got.status == (503 if status >= 500 else status), (tail, got.body)
    assert not two.public.asked_for("corp.example")


async def test_F51_a_private_upstream_that_is_gone_is_503_and_never_404(two: Two) -> None:
    two.acme.stop()
    for name in (NAME, f"{NAME}/sub", "corp.example"):
        got = await two.ask("acme", "@v/list", name)
        assert got.status == 503, got.body
        assert got.header("retry-after") is not None
    assert not two.public.asked_for("corp.example")


async def test_an_owned_prefix_is_private_for_everybody(two: Two) -> None:
    await two.site.services.tenants.ownership.put(an_owner("own.example/team", "acme"), OPERATOR)
    await cooled(two.site.services)
    for tenant in ("acme", "globex", "outsider"):
        for tail in TAILS:
            assert (await two.ask(tenant, tail, "own.example/team/x")).status == 403
    assert not two.public.asked_for("own.example")
    assert (await two.ask("outsider", "@v/list", "own.example/teamwork")).status == 404


async def test_a_name_that_becomes_private_is_served_to_nobody_else_any_more(two: Two) -> None:
    for _ in range(2):
        assert (await two.ask("outsider", "@v/v1.0.0.zip", PUBLIC.path)).status == 200
    await add_route(two.site.services, "acme", "example.com/public", two.acme, private=True)
    assert (await two.ask("outsider", "@v/v1.0.0.zip", PUBLIC.path)).status == 403
    assert (await two.ask("acme", "@v/v1.0.0.zip", PUBLIC.path)).status == 404


async def test_prepared_answers_never_cross_by_host(two: Two) -> None:
    services = two.site.services
    for tenant, fake in (("east", two.acme), ("west", two.globex)):
        await add_tenant(services, tenant, hosts=(f"{tenant}.example",))
        await add_route(services, tenant, "corp.example", fake, private=True)

    async def ask(host: str, target: str) -> Got:
        return await two.site.ask(target, headers={"Host": host})

    for _ in ("cold", "prepared"):
        for host, body in (
            ("east.example", OURS.zip),
            ("west.example:8080", THEIRS.zip),
            ("WEST.example", THEIRS.zip),
        ):
            assert (await ask(host, f"/goproxy/{NAME}/@v/v1.0.0.zip")).body == body
        assert (await ask("other.example", f"/goproxy/{NAME}/@v/v1.0.0.zip")).status == 400
    for host, name in (
        ("east.example", "east"),
        ("west.example", "west"),
        ("east.example", "east"),
    ):
        assert f"tenant {name}" in (await ask(host, "/goproxy/?go-get=1")).text


async def test_refusals_never_cross_by_host(two: Two) -> None:
    services = two.site.services
    await add_tenant(services, "shut", two.public, open_to_all=False, hosts=("shut.example",))
    await add_tenant(services, "open", two.public, hosts=("open.example",))
    for target in (
        "/goproxy/?x",
        "/goproxy/",
        f"/goproxy/{PUBLIC.path}/@v/list",
        f"/goproxy/{PUBLIC.path}/@v/list?x",
    ):
        for _ in range(2):
            assert (await two.site.ask(target, headers={"Host": "shut.example"})).status == 401
            assert (await two.site.ask(target, headers={"Host": "open.example"})).status == 200


async def test_what_an_empty_credential_is_refused_with_is_for_nobody_else(two: Two) -> None:
    path = f"/goproxy/acme/{NAME}/@v/list"
    assert (await two.site.ask(path, headers={"Authorization": ""})).status == 401
    assert (await two.site.ask(path)).status == 200
    assert (await two.site.ask(path, headers={"Authorization": ""})).status == 401


async def test_at_once_and_in_any_order_each_gets_its_own(two: Two) -> None:
    asked = [(tenant, tail) for tenant in ("acme", "globex") for tail in TAILS] * 4
    got = await asyncio.gather(*(two.ask(tenant, tail) for tenant, tail in asked))
    expected = {("acme", "@v/v1.0.0.zip"): OURS.zip, ("globex", "@v/v1.0.0.zip"): THEIRS.zip}
    for key, one in zip(asked, got, strict=True):
        assert one.status == 200
        assert one.body == expected.get(key, one.body)
    for hits in (two.acme.hits, two.globex.hits):
        # The .mod that comes with a zip is compared with it before either is kept, and not shared.
        most = {path: 2 if path.endswith(".mod") else 1 for path in hits}
        assert all(count <= most[path] for path, count in hits.items())
