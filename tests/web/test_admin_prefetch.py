"""Prefetching: what was asked for verifies with every log down, and private names stay at home."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.signer import Signer
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import an_owner
from tests.services.publiclog.goclient import GoClient
from tests.web.asking import Admin, admin_of, refused, rows
from tests.web.conftest import settings_for
from tests.web.harbour import add_route, add_rule, add_tenant, harbour
from tests.web.wire import Site, serving

X, Y = module("example.com/BurntSushi", "v1.0.0"), module("example.com/y", "v2.0.0+incompatible")
PRIVATE = module("corp.example/team", "v1.0.0")
PATH = "/tenants/acme/sumdb/prefetch"


@dataclass(frozen=True)
class Bench:
    site: Site
    public: FakeSumdb
    proxy: FakeGoproxy

    async def prefetch(self, **body: Any) -> dict[str, Any]:
        got = await Admin(self.site).ask("POST", PATH, body)
        assert got.status == 200, got.text
        return dict(json.loads(got.body))

    async def outcomes(self, *names: str, **options: Any) -> list[tuple[str, str]]:
        answer = await self.prefetch(modules=names, **options)
        return [(one["outcome"], one["detail"]) for one in answer["items"]]

    @property
    def asked(self) -> set[str]:
        """The lookups that came to the public log."""
        return {path for path in self.public.hits if path.startswith("/lookup/")}


@pytest.fixture
def public() -> Iterator[FakeSumdb]:
    with FakeSumdb() as log:
        for one in (X, Y):
            log.grow(300)
            log.add_module(one)
        yield log


@pytest.fixture
async def bench(tmp_path: Path, public: FakeSumdb) -> AsyncIterator[Bench]:
    upstreams = [{"name": public.name, "vkey": public.vkey, "url": public.url}]
    with FakeGoproxy([X, Y, PRIVATE]) as proxy:
        async with harbour(tmp_path, sumdb={"upstreams": upstreams}) as site:
            await add_tenant(site.services, "acme", proxy)
            yield Bench(site, public, proxy)


async def keep_private(bench: Bench) -> None:
    await bench.site.services.tenants.ownership.put(an_owner("corp.example", "acme"), OPERATOR)
    await add_route(bench.site.services, "acme", "corp.example", bench.proxy, private=True)


def name(one: Module) -> str:
    return f"{one.path}@{one.version}"


def lines(one: Module) -> str:
    return f"{one.path} {one.version} {one.h1}\n{one.path} {one.version}/go.mod {one.mod_h1}\n"


async def test_what_was_prefetched_verifies_for_a_fresh_client_with_the_log_down(
    bench: Bench,
) -> None:
    report = await bench.prefetch(go_sum=lines(X), modules=[name(Y)])
    assert (report["ok"], report["skipped"], report["failed"]) == (2, 0, 0)
    assert report["items"][0] == {
        "name": name(X),
        "outcome": "ok",
        "detail": f"record {bench.public.name} 300",
    }
    bench.public.stop()
    relay = bench.site.services.publiclog.relays[bench.public.name]
    for one in (X, Y):
        client = GoClient(bench.public.vkey, relay.lookup, relay.tile)
        await client.lookup(one.path, one.version)
    assert (await bench.prefetch(modules=[name(X)]))["ok"] == 1
    [row, _] = await rows(bench.site, "sumdb.prefetch")
    assert (row.object, row.detail) == ("tenant:acme", "2 ok, 0 skipped, 0 failed")


async def test_the_tenants_own_log_takes_the_records_too(bench: Bench) -> None:
    await keep_private(bench)
    log = await bench.site.services.sumdb.logs.create("acme")
    outcomes = await bench.outcomes(name(X), name(PRIVATE))
    assert outcomes == [
        ("ok", f"record {bench.public.name} 300, {log.name} {outcomes[0][1].split()[-1]}"),
        ("ok", f"record {log.name} {outcomes[1][1].split()[-1]}"),
    ]
    for one in (X, PRIVATE):
        assert await bench.site.services.sumdb.logs.prove(log, one.path, one.version)
    assert not any("corp.example" in path for path in bench.public.hits)


async def test_F78_a_private_name_is_skipped_and_no_public_log_hears_of_it(bench: Bench) -> None:
    await keep_private(bench)
    report = await bench.prefetch(go_sum=lines(PRIVATE), modules=[name(PRIVATE)])
    assert (report["ok"], report["skipped"], report["failed"]) == (0, 2, 0)
    assert "its prefix has an owner" in report["items"][0]["detail"]
    assert bench.asked == set()


async def test_a_denied_module_is_skipped_with_its_rule_and_asked_nowhere(bench: Bench) -> None:
    await add_rule(bench.site.services, "acme", Effect.DENY, X.path, reason="CVE-1")
    [(outcome, why)] = await bench.outcomes(name(X))
    assert outcome == "skipped"
    assert "CVE-1" in why
    assert bench.asked == set()


async def test_each_version_fails_by_itself(bench: Bench) -> None:
    absent, malformed, query = "example.com/absent@v1.0.0", "UPPER@v1.0.0", f"{X.path}@master"
    outcomes = await bench.outcomes(absent, malformed, query, "", "x@", f"{X.path}@v1", name(X))
    assert [outcome for outcome, _ in outcomes] == ["failed"] * 6 + ["ok"]
    assert "has no record of example.com/absent@v1.0.0" in outcomes[0][1]


async def test_F74_a_go_sum_that_contradicts_the_log_is_told(bench: Bench) -> None:
    wrong = lines(X).replace(X.h1, Y.h1)
    report = await bench.prefetch(go_sum=wrong + lines(Y))
    assert [one["outcome"] for one in report["items"]] == ["failed", "ok"]
    assert X.h1 in report["items"][0]["detail"]
    assert Y.h1 in report["items"][0]["detail"]


async def test_F76_a_forged_answer_fails_and_nothing_is_kept(bench: Bench) -> None:
    bench.public.forge_record(X.path, X.version)
    [(outcome, why)] = await bench.outcomes(name(X))
    assert (outcome, "refused" in why) == ("failed", True)
    bench.public.heal()
    assert (await bench.outcomes(name(X)))[0][0] == "ok"


BAD: list[tuple[Any, int]] = [
    ({"go_sum": "nonsense"}, 400),
    ({"go_sum": 1}, 422),
    ({"modules": "example.com/x@v1.0.0"}, 422),
    ({"modules": ["x" * 2501]}, 422),
    ({"modules": ["x"] * 10_001}, 422),
    ({"toolchains": "yes"}, 422),
    ({"extra": 1}, 422),
    (b"[" * 10_000, 400),
    (b" " * ((1 << 20) + 1), 413),
]


async def test_F98_a_malformed_wish_is_refused(bench: Bench) -> None:
    for body, status in BAD:
        refused(await Admin(bench.site).ask("POST", PATH, body), status)
    both = {"go_sum": "".join(map(lines, (X, Y))), "modules": ["x"] * 9_999}
    detail = refused(await Admin(bench.site).ask("POST", PATH, both), 400)
    assert "10001 versions are more than 10000" in detail
    assert await rows(bench.site, "sumdb.prefetch") == []


async def test_F28_a_tenants_admin_prefetches_for_its_tenant_alone(bench: Bench) -> None:
    await add_tenant(bench.site.services, "other", bench.proxy)
    inside, outside = await admin_of(bench.site, "acme"), await admin_of(bench.site, "other")
    assert (await inside.ask("POST", PATH, {"modules": [name(X)]})).status == 200
    refused(await outside.ask("POST", PATH, {"modules": [name(X)]}), 403)
    absent = PATH.replace("acme", "absent")
    refused(await Admin(bench.site).ask("POST", absent, {"modules": [name(X)]}), 404)


async def test_without_any_log_there_is_nothing_to_fill(tmp_path: Path) -> None:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "acme")
        detail = refused(await Admin(site).ask("POST", PATH, {"modules": [name(X)]}), 409)
    assert "MOORAGE_SUMDB__UPSTREAMS" in detail
    assert "sumdb create" in detail


async def test_toolchains_of_stored_archives_are_asked_about_and_no_archive_is_fetched(
    tmp_path: Path, signer: Signer, public: FakeSumdb
) -> None:
    stored, offered = archive_name("go1.99.1"), archive_name("go1.99.0")
    with FakeGodev() as fake:
        for release, file in (("go1.99.1", stored), ("go1.99.0", offered)):
            data = go_archive(release)
            fake.put_file(file, data, signature=signer.sign(data))
        settings = settings_for(fake, signer, tmp_path)
        async with serving(settings) as site:
            await site.services.releases.reader.refresh()
            record = await site.services.releases.ingestion.ensure(stored, forced=True)
            await site.services.releases.catalog.current(fresh=True)
            await add_tenant(site.services, "acme")
            log = await site.services.sumdb.logs.create("acme")
            got = await Admin(site).ask("POST", PATH, {"toolchains": True})
            assert record.toolchain is not None
            version = record.toolchain.version
            [item] = json.loads(got.body)["items"]
            assert (item["name"], item["outcome"]) == (f"golang.org/toolchain@{version}", "ok")
            lookup = await site.services.sumdb.logs.lookup(log, "golang.org/toolchain", version)
            assert record.toolchain.h1.encode() in lookup
            assert not any(offered in path for path in fake.hits)
