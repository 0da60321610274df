"""Importing a folder: what is right is stored as if fetched, what is wrong is refused by name."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import BadInputError
from app.core.principal import OPERATOR
from app.core.routing import LogPolicy
from app.services.modules.importing import ImportOutcome
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, escape, module
from tests.fakes.sumdb import FakeSumdb
from tests.web.harbour import add_route, add_tenant, harbour, settled
from tests.web.wire import Site

X, Y = module("example.com/Acme/x", "v1.0.0"), module("example.com/y", "v1.2.0")


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose upstream is down: what is served was imported."""
    async with harbour(tmp_path / "site") as served:
        await add_tenant(served.services, "acme", "http://127.0.0.1:9")
        yield served


def cache(folder: Path, *versions: Module) -> Path:
    for one in versions:
        place = folder / "cache/download" / escape(one.path) / "@v"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{one.version}.info").write_bytes(one.info)
        (place / f"{one.version}.mod").write_bytes(one.mod)
        (place / f"{one.version}.zip").write_bytes(one.zip)
        (place / f"{one.version}.ziphash").write_text(one.h1)
    return folder


def athens(folder: Path, *versions: Module) -> Path:
    for one in versions:
        place = folder / one.path / one.version
        place.mkdir(parents=True)
        (place / f"{one.version}.info").write_bytes(one.info)
        (place / "go.mod").write_bytes(one.mod)
        (place / "source.zip").write_bytes(one.zip)
    return folder


async def imported(site: Site, folder: Path) -> ImportOutcome:
    return await site.services.modules.imports.run("acme", folder, lambda done, total: None)


@pytest.mark.parametrize("layout", [cache, athens], ids=["GOMODCACHE", "Athens"])
async def test_a_folder_is_served_without_its_upstream(site: Site, tmp_path: Path, layout) -> None:
    outcome = await imported(site, layout(tmp_path / "old", X, Y))
    assert (outcome.imported, outcome.present, outcome.refused) == (6, 0, [])
    for one in (X, Y):
        for kind, data in (("info", one.info), ("mod", one.mod), ("zip", one.zip)):
            path = f"/goproxy/acme/{escape(one.path)}/@v/{one.version}.{kind}"
            assert (await site.ask(path)).body == data
    again = await imported(site, tmp_path / "old")
    assert (again.imported, again.present) == (0, 6)


async def test_what_is_wrong_is_refused_by_name_and_the_rest_imported(
    site: Site, tmp_path: Path
) -> None:
    folder = cache(tmp_path / "old", X, Y)
    place = folder / "cache/download" / escape(X.path) / "@v"
    (place / "v1.0.0.zip").write_bytes(X.zip[:-1])
    (place / "v1.0.0.mod").write_bytes(b"not a go.mod\n")
    outcome = await imported(site, folder)
    assert outcome.imported == 3
    assert [name for name, _ in outcome.refused] == [f"{X.path}@v1.0.0"]
    got = await site.ask(f"/goproxy/acme/{escape(X.path)}/@v/v1.0.0.zip")
    assert got.status in (502, 503)


async def test_a_zip_that_is_not_the_one_go_noted_is_refused(site: Site, tmp_path: Path) -> None:
    folder = cache(tmp_path / "old", Y)
    other = module(Y.path, Y.version, {"y.go": b"package y // changed\n"})
    place = folder / "cache/download" / Y.path / "@v"
    (place / "v1.2.0.zip").write_bytes(other.zip)
    outcome = await imported(site, folder)
    [(name, why)] = outcome.refused
    assert (name, other.h1 in why, outcome.imported) == (f"{Y.path}@v1.2.0", True, 0)


async def test_content_that_contradicts_what_is_stored_is_not_taken(
    site: Site, tmp_path: Path
) -> None:
    assert (await imported(site, cache(tmp_path / "one", Y))).imported == 3
    other = module(Y.path, Y.version, {"y.go": b"package y // changed\n"})
    outcome = await imported(site, cache(tmp_path / "two", other))
    assert (outcome.imported, outcome.present) == (0, 2)
    [(name, why)] = outcome.refused
    assert name == f"{Y.path}@v1.2.0.zip"
    assert f"{name} is recorded with {Y.h1}, and upstream sent {other.h1}" in why
    path = f"/goproxy/acme/{Y.path}/@v/v1.2.0.zip"
    assert (await site.ask(path)).body == Y.zip


async def test_links_lead_nowhere(site: Site, tmp_path: Path) -> None:
    folder = cache(tmp_path / "old", Y)
    place = folder / "cache/download" / Y.path / "@v"
    elsewhere = tmp_path / "elsewhere.zip"
    (place / "v1.2.0.zip").rename(elsewhere)
    (place / "v1.2.0.zip").symlink_to(elsewhere)
    outcome = await imported(site, folder)
    assert outcome.imported == 2
    assert [name for name, _ in outcome.refused] == [f"{Y.path}@v1.2.0.zip"]


async def test_what_no_route_leads_to_is_refused(site: Site, tmp_path: Path) -> None:
    await add_tenant(site.services, "none")
    folder = cache(tmp_path / "old", Y)
    outcome = await site.services.modules.imports.run("none", folder, lambda done, total: None)
    [(_, why)] = outcome.refused
    assert "no route of tenant none serves" in why


async def test_a_public_module_needs_the_public_log(tmp_path: Path) -> None:
    log = {"name": "sum.fake.example", "url": "http://127.0.0.1:9"}
    vkey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    upstreams = [{**log, "name": "sum.golang.org", "vkey": vkey}]
    async with harbour(tmp_path / "site", sumdb={"upstreams": upstreams}) as site:
        await add_tenant(site.services, "acme")
        with FakeGoproxy() as proxy:
            await add_route(site.services, "acme", "*", proxy)
        outcome = await imported(site, cache(tmp_path / "old", Y))
    # Only the .info, of which no log says anything.
    assert outcome.imported == 1
    assert sorted(name for name, _ in outcome.refused) == [
        f"{Y.path}@v1.2.0.mod",
        f"{Y.path}@v1.2.0.zip",
    ]
    for _, why in outcome.refused:
        assert "which has to vouch for it and can't be asked now: http://127.0.0.1:9/" in why


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Site, FakeSumdb]]:
    """A site whose tenant acme asks no log about what its tenant beta must have vouched for."""
    with FakeSumdb() as log, FakeGoproxy() as proxy:
        upstreams = [{"name": log.name, "vkey": log.vkey, "url": log.url}]
        async with harbour(tmp_path / "site", sumdb={"upstreams": upstreams}) as served:
            for tenant, policy in (("acme", LogPolicy.OFF), ("beta", LogPolicy.DEFER)):
                await add_tenant(served.services, tenant)
                await add_route(served.services, tenant, "*", proxy, log=policy)
            yield served, log


async def for_beta(site: Site, folder: Path) -> ImportOutcome:
    return await site.services.modules.imports.run("beta", folder, lambda done, total: None)


async def test_what_another_tenant_brought_in_is_verified_for_the_next_one(
    two: tuple[Site, FakeSumdb], tmp_path: Path
) -> None:
    site, log = two
    log.add_module(Y)
    folder = cache(tmp_path / "old", Y)
    outcome = await imported(site, folder)
    assert (outcome.imported, outcome.vouched, log.lookups) == (3, 0, 0)
    outcome = await for_beta(site, folder)
    assert (outcome.imported, outcome.present, outcome.vouched) == (0, 3, 2)
    assert outcome.refused == []
    log.stop()
    own = await site.services.sumdb.logs.create("beta", OPERATOR)
    await settled(site.services)
    path = f"/goproxy/beta/sumdb/{own.name}/lookup/{Y.path}@{Y.version}"
    assert Y.h1.encode() in (await site.ask(path)).body


async def test_what_another_tenant_brought_in_is_refused_while_the_log_is_away(
    two: tuple[Site, FakeSumdb], tmp_path: Path
) -> None:
    site, log = two
    folder = cache(tmp_path / "old", Y)
    await imported(site, folder)
    log.stop()
    outcome = await for_beta(site, folder)
    assert (outcome.imported, outcome.present) == (0, 1)  # the .info
    assert [name for name, _ in outcome.refused] == [f"{Y.path}@v1.2.0.{k}" for k in ("mod", "zip")]


async def test_what_the_log_contradicts_is_quarantined_by_the_next_import(
    two: tuple[Site, FakeSumdb], tmp_path: Path
) -> None:
    site, log = two
    log.add_module(Y)
    forged = cache(tmp_path / "old", module(Y.path, Y.version, {"y.go": b"package y // forged\n"}))
    await imported(site, forged)
    for _ in range(2):  # the second import finds the quarantine
        outcome = await for_beta(site, forged)
        assert (outcome.imported, outcome.present) == (0, 2)
        [(name, why)] = outcome.refused
        assert name == f"{Y.path}@v1.2.0.zip"
        assert f"vouches for {Y.h1}" in why


async def test_a_folder_without_modules_is_said_to_be_one(site: Site, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BadInputError, match="has no module versions"):
            await imported(site, folder)
