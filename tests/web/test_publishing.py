"""Publishing modules over the wire: what is taken, what is refused, and how it is served."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.principal import OPERATOR, Scope
from app.core.published import PUBLISHED
from app.db.audit import AuditLog
from app.db.modules import ModuleFile
from app.services.modules import publishing
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.nouns import an_owner
from tests.web.harbour import (
    add_route,
    add_tenant,
    add_token,
    assert_one_line,
    bearer,
    harbour,
    settled,
)
from tests.web.wire import Got, Site, request, until

PREFIX = "corp.example/acme"
X = f"{PREFIX}/x"


@dataclass(frozen=True)
class Publisher:
    """A site where the tenant `acme` owns a prefix and publishes.

    Attributes:
        secret: a token that may publish and nothing else.
        reader: a token that may read.
        proxy: the upstream that is asked after published modules.
    """

    site: Site
    secret: str
    reader: str
    proxy: FakeGoproxy

    async def put(
        self, one: Module, data: bytes | None = None, *, secret: str = "", tenant: str = "acme"
    ) -> Got:
        target = f"/goproxy/{tenant}/{one.path}/@v/{one.version}.zip"
        body = one.zip if data is None else data
        return await self.site.ask(target, "PUT", bearer(secret or self.secret), body)

    async def get(self, rest: str, tenant: str = "acme", secret: str = "") -> Got:
        return await self.site.ask(
            f"/goproxy/{tenant}/{rest}", headers=bearer(secret or self.reader)
        )

    async def list(self, path: str = X) -> list[str]:
        return (await self.get(f"{path}/@v/list")).text.split()


@pytest.fixture
async def acme(tmp_path: Path) -> AsyncIterator[Publisher]:
    async with harbour(tmp_path) as site:
        with FakeGoproxy() as proxy:
            services = site.services
            for name in ("acme", "other"):
                await add_tenant(services, name, open_to_all=False)
            await services.tenants.ownership.put(an_owner(PREFIX, "acme"), OPERATOR)
            await add_route(services, "acme", PREFIX, PUBLISHED, proxy, private=True)
            _, secret = await add_token(services, "acme", {Scope.PUBLISH}, name="ci")
            _, reader = await add_token(services, "acme", {Scope.READ})
            await services.sumdb.logs.create("acme")
            await settled(services)
            yield Publisher(site, secret, reader, proxy)


async def audit(site: Site, action: str) -> list[tuple[str, str]]:
    rows = await site.services.shared.db.read(lambda s: AuditLog(s).rows(action=action))
    return [(row.actor, row.object) for row, _, _ in rows]


async def test_a_published_version_is_served_at_once_and_in_the_log(acme: Publisher) -> None:
    # Asked for before: neither an absence nor an empty list outlives the publication.
    assert (await acme.get(f"{X}/@v/list")).status == 404
    assert (await acme.get(f"{X}/@v/v1.0.0.info")).status == 404
    one = module(X, "v1.0.0")
    got = await acme.put(one)
    assert (got.status, got.text) == (201, f"{X}@v1.0.0 is published: {one.h1}\n")
    assert await acme.list() == ["v1.0.0"]
    assert (await acme.get(f"{X}/@v/v1.0.0.zip")).body == one.zip
    assert (await acme.get(f"{X}/@v/v1.0.0.mod")).body == one.mod
    info = json.loads((await acme.get(f"{X}/@v/v1.0.0.info")).body)
    latest = json.loads((await acme.get(f"{X}/@latest")).body)
    assert info == latest
    assert info["Version"] == "v1.0.0"
    log = (await acme.site.services.shared.policies.current()).tenants["acme"].log
    assert log is not None
    record = await acme.get(f"sumdb/{log.name}/lookup/{X}@v1.0.0")
    assert f"{X} v1.0.0 {one.h1}\n{X} v1.0.0/go.mod {one.mod_h1}\n" in record.text
    [(actor, obj)] = await audit(acme.site, "module.publish")
    assert (actor.startswith("token:"), obj) == (True, f"module:acme/{X}@v1.0.0")


async def test_the_same_bytes_are_taken_again_and_others_never(acme: Publisher) -> None:
    one = module(X, "v1.0.0")
    assert (await acme.put(one)).status == 201
    again = await acme.put(one)
    assert (again.status, "with the same bytes" in again.text) == (200, True)
    other = await acme.put(module(X, "v1.0.0", {"x.go": b"package x // other\n"}))
    assert_one_line(other, 409)
    assert (await acme.get(f"{X}/@v/v1.0.0.zip")).body == one.zip
    assert len(await audit(acme.site, "module.publish")) == 1


async def test_of_two_uploads_at_once_one_counts(acme: Publisher) -> None:
    uploads = [module(X, "v1.0.0", {"x.go": b"package x // %d\n" % n}) for n in range(4)]
    answers = await asyncio.gather(*(acme.put(one) for one in uploads))
    assert sorted(got.status for got in answers) == [201, 409, 409, 409]
    [winner] = [one for one, got in zip(uploads, answers, strict=True) if got.status == 201]
    assert (await acme.get(f"{X}/@v/v1.0.0.zip")).body == winner.zip


async def test_an_upload_that_is_overtaken_by_other_bytes_is_told_so_not_what_the_log_says(
    acme: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_zip, overtaking = publishing.check_zip, []

    async def overtaken(*arguments: Any) -> ModuleFile:
        if not overtaking:
            overtaking.append(True)
            assert (await acme.put(module(X, "v1.0.0"))).status == 201  # and its record is made
        return await check_zip(*arguments)

    monkeypatch.setattr(publishing, "check_zip", overtaken)
    late = await acme.put(module(X, "v1.0.0", {"x.go": b"package x // other\n"}))
    assert_one_line(late, 409)
    assert "is published with other bytes" in late.text


async def test_an_upload_without_a_turn_is_503_and_leaves_nothing(
    acme: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """409 would say that other bytes are published."""
    monkeypatch.setattr(publishing, "_WAIT_S", 0.0)
    turns = acme.site.services.sumdb.publishing._turns
    taken = []
    while (turn := turns.queue("acme")).done():
        taken.append(turn)
    turn.cancel()
    got = await acme.put(module(X, "v1.0.0"))
    assert_one_line(got, 503)
    assert "uploads under way" in got.text
    for _ in taken:
        turns.release("acme")
    assert (await acme.put(module(X, "v1.0.0"))).status == 201


async def test_latest_is_the_newest_release_or_else_pre_release(acme: Publisher) -> None:
    async def latest() -> str:
        return str(json.loads((await acme.get(f"{X}/@latest")).body)["Version"])

    for version, newest in [
        ("v0.9.0-rc.1", "v0.9.0-rc.1"),
        ("v0.9.0", "v0.9.0"),
        ("v1.10.0", "v1.10.0"),
        ("v1.9.0", "v1.10.0"),
        ("v1.11.0-dev.1", "v1.10.0"),
    ]:
        assert (await acme.put(module(X, version))).status == 201
        assert await latest() == newest


def staged(site: Site) -> list[Path]:
    files = (site.services.shared.settings.data_dir / "tmp").rglob("*")
    return [path for path in files if path.is_file() and path.suffix != ".lock"]


def changed(one: Module, n: int) -> bytes:
    return one.zip[:n] + bytes([one.zip[n] ^ 1]) + one.zip[n + 1 :]


ONE = module(X, "v1.0.0")


@pytest.mark.parametrize(
    ("one", "data", "status", "says"),
    [
        (ONE, b"", 400, "refused"),
        (ONE, b"no zip", 400, "refused"),
        (ONE, ONE.zip[:-1], 400, "refused"),
        (ONE, changed(ONE, 60), 400, "refused"),
        (ONE, module(X, "v1.0.1").zip, 400, "refused"),
        (ONE, module(f"{PREFIX}/y", "v1.0.0").zip, 400, "refused"),
        (
            ONE,
            module(X, "v1.0.0", {"go.mod": b"module corp.example/fork\n"}).zip,
            400,
            "declares corp.example/fork",
        ),
        (module(X, "v0.0.0-20200101000000-abcdefabcdef"), None, 400, "names a commit"),
        (module("corp.example/acmes", "v1.0.0"), None, 403, "does not own"),
        (module("example.com/x", "v1.0.0"), None, 403, "does not own"),
    ],
    ids=[
        "empty",
        "no zip",
        "cut",
        "flipped",
        "another version",
        "another module",
        "another declared path",
        "a pseudo-version",
        "beside the prefix",
        "public",
    ],
)
async def test_what_is_wrong_is_refused_and_leaves_nothing(
    acme: Publisher, one: Module, data: bytes | None, status: int, says: str
) -> None:
    got = await acme.put(one, data)
    assert_one_line(got, status)
    assert says in got.text
    assert (await acme.get(f"{X}/@v/list")).status == 404
    assert await audit(acme.site, "module.publish") == []
    assert staged(acme.site) == []


@pytest.mark.parametrize("target", ["@v/v1.0.0.info", "@v/v1.0.0.mod", "@latest", "@v/list"])
async def test_only_a_zip_is_put(acme: Publisher, target: str) -> None:
    got = await acme.site.ask(f"/goproxy/acme/{X}/{target}", "PUT", bearer(acme.secret), b"x")
    assert_one_line(got, 400)


async def test_who_may_publish(acme: Publisher) -> None:
    services = acme.site.services
    _, others = await add_token(services, "other", {Scope.PUBLISH})
    _, audits = await add_token(services, "acme", {Scope.AUDIT}, name="audit")
    _, admins = await add_token(services, "acme", {Scope.ADMIN}, name="admin")
    for secret, status in ((acme.reader, 403), (others, 403), (audits, 403), (admins, 201)):
        assert (await acme.put(ONE, secret=secret)).status == status, secret
    assert_one_line(await acme.site.ask(f"/goproxy/acme/{X}/@v/v1.0.0.zip", "PUT", {}, b"x"), 401)
    # Into another tenant's own proxy: it does not own the prefix.
    assert_one_line(await acme.put(ONE, secret=others, tenant="other"), 403)


async def test_without_a_route_the_refusal_says_which(acme: Publisher) -> None:
    services = acme.site.services
    await services.tenants.ownership.put(an_owner("corp.example/new", "acme"), OPERATOR)
    await settled(services)
    got = await acme.put(module("corp.example/new/x", "v1.0.0"))
    assert_one_line(got, 403)
    command = "moorage route add --tenant acme corp.example/new published: --private"
    assert command in got.text


async def test_a_version_that_is_taken_upstream_is_refused(acme: Publisher) -> None:
    acme.proxy.put(module(X, "v1.0.0", {"x.go": b"package x // upstream's\n"}))
    got = await acme.put(ONE)
    assert_one_line(got, 409)
    assert "an upstream of tenant acme has" in got.text
    assert (await acme.put(module(X, "v1.0.1"))).status == 201


async def test_a_route_that_is_off_asks_nobody(acme: Publisher) -> None:
    services = acme.site.services
    acme.proxy.put(ONE)
    await services.tenants.ownership.put(an_owner("corp.example/off", "acme"), OPERATOR)
    await add_route(
        services, "acme", "corp.example/off", PUBLISHED, acme.proxy, private=True, off=True
    )
    one = module("corp.example/off/x", "v1.0.0")
    acme.proxy.put(one)
    before = len(acme.proxy.requests)
    assert (await acme.put(one)).status == 201
    assert len(acme.proxy.requests) == before
    assert await acme.list("corp.example/off/x") == ["v1.0.0"]


async def test_if_upstream_cant_be_asked_nothing_is_published(acme: Publisher) -> None:
    acme.proxy.stop()
    assert (await acme.put(ONE)).status in (502, 503)
    assert await audit(acme.site, "module.publish") == []


async def test_what_the_log_vouches_for_otherwise_is_refused(acme: Publisher) -> None:
    # The version was served from upstream once, and upstream has forgotten it.
    acme.proxy.put(module(X, "v1.0.0", {"x.go": b"package x // upstream's\n"}))
    log = (await acme.site.services.shared.policies.current()).tenants["acme"].log
    assert log is not None
    assert (await acme.get(f"sumdb/{log.name}/lookup/{X}@v1.0.0")).status == 200
    got = await acme.put(ONE)
    assert_one_line(got, 409)


async def test_another_tenant_sees_nothing_unless_it_is_granted(acme: Publisher) -> None:
    assert (await acme.put(ONE)).status == 201
    services = acme.site.services
    await add_route(services, "other", PREFIX, PUBLISHED, private=True)
    _, reader = await add_token(services, "other", {Scope.READ})
    for rest in (f"{X}/@v/list", f"{X}/@v/v1.0.0.zip", f"{PREFIX}/nothing/@v/list"):
        assert (await acme.get(rest, "other", reader)).status == 403
    await services.tenants.ownership.put(an_owner(PREFIX, "acme", "other"), OPERATOR)
    await settled(services)
    assert (await acme.get(f"{X}/@v/v1.0.0.zip", "other", reader)).body == ONE.zip
    assert (await acme.put(module(X, "v1.0.1"), secret=acme.reader)).status == 403


async def test_a_prefix_that_nobody_owns_any_more_is_read_by_nobody(acme: Publisher) -> None:
    assert (await acme.put(ONE)).status == 201
    services = acme.site.services
    await add_route(services, "other", PREFIX, PUBLISHED, private=True)
    _, reader = await add_token(services, "other", {Scope.READ})
    await services.tenants.ownership.remove(PREFIX, OPERATOR)
    await settled(services)
    for tenant, secret in (("acme", acme.reader), ("other", reader)):
        for rest in (f"{X}/@v/list", f"{X}/@v/v1.0.0.zip", f"{X}/@latest"):
            assert (await acme.get(rest, tenant, secret)).status in (403, 404), (tenant, rest)


async def test_a_retired_version_is_served_but_not_listed(acme: Publisher) -> None:
    for version in ("v1.0.0", "v1.1.0"):
        assert (await acme.put(module(X, version))).status == 201
    assert (await acme.get(f"{X}/@v/v1.1.0.info")).status == 200
    versions = acme.site.services.sumdb.published_versions
    await versions.retire("acme", X, "v1.1.0", "it is slow", OPERATOR, is_gone=False)
    assert await acme.list() == ["v1.0.0"]
    assert json.loads((await acme.get(f"{X}/@latest")).body)["Version"] == "v1.0.0"
    assert (await acme.get(f"{X}/@v/v1.1.0.zip")).status == 200
    assert (await acme.put(module(X, "v1.1.0"))).status == 200
    assert await acme.list() == ["v1.0.0"]


async def test_a_version_that_is_gone_is_410_for_ever_wherever_it_is_asked_for(
    acme: Publisher,
) -> None:
    assert (await acme.put(ONE)).status == 201
    assert (await acme.get(f"{X}/@v/v1.0.0.zip")).status == 200
    services = acme.site.services
    await services.sumdb.published_versions.retire(
        "acme", X, "v1.0.0", "a key was in it", OPERATOR, is_gone=True
    )
    await settled(services)
    # Another upstream of the route must not bring the version back.
    acme.proxy.put(module(X, "v1.0.0", {"x.go": b"package x // upstream's\n"}))
    for kind in ("info", "mod", "zip"):
        got = await acme.get(f"{X}/@v/v1.0.0.{kind}")
        assert_one_line(got, 410)
        assert "a key was in it" in got.text
    for data in (ONE.zip, module(X, "v1.0.0", {"x.go": b"package x // new\n"}).zip):
        assert_one_line(await acme.put(ONE, data), 410)
    assert await audit(acme.site, "module.withdraw") == [("cli", f"module:acme/{X}@v1.0.0")]


async def test_an_upload_that_is_cut_leaves_nothing(acme: Publisher) -> None:
    target = f"/goproxy/acme/{X}/@v/v1.0.0.zip"
    head = request(target, "PUT", {**bearer(acme.secret), "Content-Length": str(len(ONE.zip))})

    async def is_staged() -> bool:
        return staged(acme.site) != []

    async def is_clean() -> bool:
        return staged(acme.site) == []

    async with acme.site.calling() as caller:
        await caller.send(head + ONE.zip[:-10])
        await until(is_staged)
    await until(is_clean)
    assert (await acme.get(f"{X}/@v/list")).status == 404
    assert (await acme.put(ONE)).status == 201


async def test_an_upload_that_says_it_is_too_large_is_refused_before_it_comes(
    acme: Publisher,
) -> None:
    head = request(
        f"/goproxy/acme/{X}/@v/v1.0.0.zip",
        "PUT",
        {**bearer(acme.secret), "Content-Length": str((500 << 20) + 1), "Expect": "100-continue"},
    )
    async with acme.site.calling() as caller:
        await caller.send(head)
        got = await caller.response("PUT")
    assert_one_line(got, 413)
    assert got.text == "the zip is larger than 524288000 bytes (a limit of `go`)\n"
    assert got.header("connection") == "close"
