"""Refresh: forgetting what changes, and comparing what must not change with upstream of today."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.core.principal import OPERATOR, Scope
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.nouns import an_owner
from tests.services.bench import audit_rows, count_of
from tests.web.api import ok, refused
from tests.web.harbour import add_route, add_tenant, add_token, harbour, settled
from tests.web.wire import Site

REFRESH = "/tenants/acme/refresh"
X = module("example.com/x", "v1.0.0")
OTHER_BYTES = module(X.path, X.version, {"x.go": b"package x // another\n"})
FILES = [f"/example.com/x/@v/v1.0.0.{kind}" for kind in ("info", "mod", "zip")]


@pytest.fixture
def upstream() -> Iterator[FakeGoproxy]:
    with FakeGoproxy([X]) as fake:
        yield fake


@pytest.fixture(scope="module")
async def port(module_folder: Path) -> AsyncIterator[Site]:
    async with harbour(module_folder) as served:
        yield served


@pytest.fixture
async def site(port: Site, upstream: FakeGoproxy) -> AsyncIterator[Site]:
    """One server for all; each test has the tenant acme anew, and an upstream of its own."""
    await add_tenant(port.services, "acme", upstream)
    yield port
    for tenant in await port.services.tenants.tenants.page(OPERATOR):
        await port.services.tenants.tenants.remove(tenant.name, OPERATOR)


async def fetched(site: Site) -> None:
    for path in FILES:
        assert (await site.ask(f"/goproxy/acme{path}")).status == 200


async def test_without_a_version_the_next_request_asks_upstream(
    site: Site, upstream: FakeGoproxy
) -> None:
    listed = "/goproxy/acme/example.com/x/@v/list"
    assert (await site.ask(listed)).text == "v1.0.0\n"
    upstream.put(module(X.path, "v1.1.0"))
    assert (await site.ask(listed)).text == "v1.0.0\n"
    generation = await site.services.shared.watch.poll()
    assert await ok(site, "POST", REFRESH, {"module": X.path}) == {
        "module": X.path,
        "version": None,
        "files": [],
    }
    assert await site.services.shared.watch.poll() == generation + 1
    assert (await site.ask(listed)).text == "v1.0.0\nv1.1.0\n"
    row = (await audit_rows(site.services))[-1]
    assert (row.action, row.object) == ("module.refresh", "module:acme/example.com/x")


async def test_what_was_absent_a_moment_ago_is_asked_for_again(
    site: Site, upstream: FakeGoproxy
) -> None:
    new = module("example.com/new", "v1.0.0")
    listed = "/goproxy/acme/example.com/new/@v/list"
    assert (await site.ask(listed)).status == 404
    upstream.put(new)
    assert (await site.ask(listed)).status == 404
    await ok(site, "POST", REFRESH, {"module": new.path})
    await settled(site.services)
    assert (await site.ask(listed)).text == "v1.0.0\n"


async def test_a_version_stays_at_the_upstream_that_it_was_first_served_from(
    site: Site, upstream: FakeGoproxy
) -> None:
    one = module("example.com/both", "v1.0.0")
    with FakeGoproxy([one]) as second:
        await add_route(site.services, "acme", "example.com/both", upstream, second)
        path = "/goproxy/acme/example.com/both/@v/v1.0.0.zip"
        assert (await site.ask(path)).body == one.zip
        upstream.put(module(one.path, one.version, {"x.go": b"package x // another\n"}))
        await ok(site, "POST", REFRESH, {"module": one.path})
        await settled(site.services)
        assert (await site.ask(path)).body == one.zip


@pytest.mark.parametrize("name", ["short", "long" * 2000], ids=["in its row", "as a blob"])
async def test_an_info_that_changed_is_taken_over(
    site: Site, upstream: FakeGoproxy, name: str
) -> None:
    await fetched(site)
    changed = info_of(X.version, "2030-01-01T00:00:00Z", {"URL": name})
    upstream.put_raw(FILES[0], changed)
    report = await ok(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    assert [f["outcome"] for f in report["files"]] == ["changed", "same", "same"]
    await settled(site.services)
    assert (await site.ask(f"/goproxy/acme{FILES[0]}")).body == changed
    row = (await audit_rows(site.services))[-1]
    assert (row.action, "info changed" in row.detail, " became " in row.detail) == (
        "module.compare",
        True,
        True,
    )


async def test_with_a_version_its_files_are_fetched_again_and_are_the_same(
    site: Site, upstream: FakeGoproxy
) -> None:
    await fetched(site)
    before = upstream.hits
    report = await ok(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    assert [(f["kind"], f["outcome"], f["h1"]) for f in report["files"]] == [
        ("info", "same", ""),
        ("mod", "same", X.mod_h1),
        ("zip", "same", X.h1),
    ]
    assert [upstream.hits[path] - before[path] for path in FILES] == [1, 1, 1]
    row = (await audit_rows(site.services))[-1]
    assert (row.action, row.object, row.detail) == (
        "module.compare",
        "module:acme/example.com/x@v1.0.0",
        "info same, mod same, zip same",
    )


async def test_F74_a_version_that_differs_upstream_today_is_refused_told_and_kept_as_evidence(
    site: Site, upstream: FakeGoproxy
) -> None:
    await fetched(site)
    upstream.put(OTHER_BYTES)
    alarms = count_of("moorage_module_conflicts_total")
    status, detail = await refused(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    assert status == 502
    name = f"{X.path}@{X.version}"
    assert detail == (
        f"upstream sends something else today: {name}.zip is recorded with {X.h1}, and upstream "
        f"sent {OTHER_BYTES.h1}; what is recorded stays served, and `moorage explain --tenant acme "
        f"{name}` shows the evidence"
    )
    assert count_of("moorage_module_conflicts_total") == alarms + 1
    rows = [(r.action, r.actor) for r in await audit_rows(site.services)]
    assert ("module.refuse", "system") in rows[-2:]
    assert rows[-1][0] == "module.compare"

    # The first is what is served, and the evidence is what an admin is shown.
    await settled(site.services)
    assert (await site.ask(f"/goproxy/acme{FILES[2]}")).body == X.zip
    explanation = await ok(
        site, "GET", f"/tenants/acme/explain?module={X.path}&version={X.version}"
    )
    [evidence] = explanation["conflicts"]
    assert (evidence["kind"], evidence["origin"]) == ("zip", upstream.url)
    assert OTHER_BYTES.h1 in evidence["seen"]
    assert X.h1 in evidence["recorded"]

    # The same again is the same evidence.
    assert (await refused(site, "POST", REFRESH, {"module": X.path, "version": X.version}))[
        0
    ] == 502
    explanation = await ok(
        site, "GET", f"/tenants/acme/explain?module={X.path}&version={X.version}"
    )
    assert len(explanation["conflicts"]) == 1


async def test_what_upstream_has_no_more_is_told_and_stays_served(
    site: Site, upstream: FakeGoproxy
) -> None:
    await fetched(site)
    upstream.remove(X.path, X.version)
    report = await ok(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    assert {f["outcome"] for f in report["files"]} == {"gone"}
    assert (await site.ask(f"/goproxy/acme{FILES[2]}")).body == X.zip


async def test_an_upstream_that_is_down_is_no_difference(site: Site, upstream: FakeGoproxy) -> None:
    await fetched(site)
    upstream.stop()
    try:
        status, _ = await refused(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    finally:
        upstream.start()
    assert status in (502, 503)
    assert (await audit_rows(site.services))[-1].action not in ("module.refuse", "module.compare")


BAD = [
    ({}, 422),
    ({"module": X.path, "extra": 1}, 422),
    ({"module": 7}, 422),
    ({"module": "a" * 2001}, 422),
    ({"module": ""}, 400),
    ({"module": "../etc"}, 400),
    ({"module": "UPPER"}, 400),
    ({"module": X.path, "version": "master"}, 400),
    ({"module": X.path, "version": "v1"}, 400),
    ({"module": X.path, "version": ""}, 400),
    ({"module": X.path, "version": "v9.9.9"}, 400),  # no canonical one: the path lacks /v9
    ({"module": X.path, "version": "v1.9.9"}, 404),
]


@pytest.mark.parametrize(("body", "status"), BAD, ids=range(len(BAD)))
async def test_F98_a_malformed_request_is_a_problem(
    site: Site, body: dict[str, object], status: int
) -> None:
    assert (await refused(site, "POST", REFRESH, body))[0] == status


async def test_a_module_without_a_way_to_it_is_a_conflict_and_no_denial(
    site: Site, upstream: FakeGoproxy
) -> None:
    await add_tenant(site.services, "other", upstream)
    await site.services.tenants.ownership.put(an_owner("corp.example", "other"), OPERATOR)
    status, detail = await refused(site, "POST", REFRESH, {"module": "corp.example/x"})
    assert (status, "is a private name" in detail) == (409, True)
    rows = [r for r in await audit_rows(site.services) if r.action != "access.malformed"]
    assert rows[-1].action == "ownership.put"
    await add_route(site.services, "acme", "example.com", upstream, off=True)
    status, detail = await refused(site, "POST", REFRESH, {"module": X.path, "version": X.version})
    assert (status, "is off" in detail) == (409, True)


async def test_a_tenants_admin_refreshes_for_the_own_tenant(
    site: Site, upstream: FakeGoproxy
) -> None:
    await add_tenant(site.services, "other", upstream)
    _, secret = await add_token(site.services, "acme", {Scope.ADMIN})
    await ok(site, "POST", REFRESH, {"module": X.path}, token=secret)
    refusal = await refused(
        site, "POST", "/tenants/other/refresh", {"module": X.path}, token=secret
    )
    assert refusal[0] == 403
