"""`/dl/channels/<channel>/`: `/dl/` restricted to a revision, and the channel's own texts."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest

from app.core.channel import Choice, parse_manifest
from app.core.note import open_note
from app.core.notekey import parse_vkey
from app.core.principal import OPERATOR
from app.core.releaseindex import parse_index
from app.services.generation import POLL_S
from tests.fakes.archives import archive_name
from tests.fakes.signer import Signer
from tests.installation import running
from tests.verified import VerifiedMirror, verified_mirror
from tests.web.api import ok, refused
from tests.web.harbour import add_token, bearer
from tests.web.wire import Got, Site, request, serving

A, B, C = "go1.99.2", "go1.99.1", "go1.98.5"
ROOT = "/dl/channels/stable/"


@pytest.fixture(scope="module")
def mirror(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VerifiedMirror]:
    with verified_mirror(tmp_path_factory.mktemp("verified"), signer, [A, B, C]) as made:
        yield made


@pytest.fixture
async def site(mirror: VerifiedMirror, tmp_path: Path) -> AsyncIterator[Site]:
    """A mirror with three verified releases, and a channel that offers two of them."""
    async with serving(mirror.copied(tmp_path)) as one:
        await ok(one, "POST", "/channels", {"name": "stable"})
        await ok(one, "POST", "/channels/stable/revisions", {"current": B, "also": [C]})
        await one.services.shared.watch.poll()
        yield one


async def changed(site: Site, method: str, path: str, body: Any = None) -> Any:
    """Make a change by the admin API, which this process has noticed at the return."""
    result = await ok(site, method, path, body)
    await site.services.shared.watch.poll()
    return result


async def text(site: Site, name: str) -> str:
    got = await site.ask(ROOT + name)
    assert (got.status, got.header("content-type")) == (200, "text/plain; charset=utf-8")
    return got.text


def line(got: Got, status: int) -> str:
    assert (got.status, got.header("content-type")) == (status, "text/plain; charset=utf-8")
    assert got.text.count("\n") == 1
    return got.text


async def test_a_channel_shows_its_own_files_and_no_others(site: Site) -> None:
    page = (await site.ask(ROOT)).text
    assert "revision 1" in page
    assert f">{archive_name(C)}<" in page
    assert A not in page
    for query in ("?mode=json", "?mode=json&include=all"):
        releases = parse_index((await site.ask(ROOT + query)).body).releases
        assert [r.version for r in releases] == [B, C]
    sums = await text(site, "SHA256SUMS")
    names = [row.partition("  ")[2] for row in sums.splitlines()]
    assert names == [archive_name(B), archive_name(C)]
    assert (await text(site, "VERSION")).startswith(f"{B}\n")
    refs = await text(site, "go.git/info/refs")
    history = await text(site, "HEAD/internal/history/release.go")
    assert A not in refs
    assert A.removeprefix("go") not in history
    assert B in refs


async def test_every_link_of_the_page_stays_in_the_channel(site: Site) -> None:
    page = (await site.ask(ROOT)).text
    links = {part.split('"')[0] for part in page.split('href="')[1:]}
    inner = {urljoin(ROOT, link) for link in links if not link.startswith(("/", "#"))}
    assert {ROOT + "manifest", ROOT + archive_name(B), ROOT + "SHA256SUMS"} <= inner
    for link in inner:
        assert link.startswith(ROOT)
        assert (await site.ask(link.replace("&amp;", "&"), "HEAD")).status == 200


async def test_a_file_is_that_of_dl_in_all_its_forms(site: Site) -> None:
    name = archive_name(B)
    digest = hashlib.sha256((await site.ask(f"/dl/{name}")).body).hexdigest()
    extras = ("", ".sha256", ".sha256sum", ".asc", ".tree", ".chunks")
    for target in (*(name + extra for extra in extras), digest):
        got, plain = await site.ask(ROOT + target), await site.ask(f"/dl/{target}")
        assert (got.status, got.body) == (200, plain.body)
        assert got.lasting == plain.lasting
    part = await site.ask(ROOT + name, headers={"Range": "bytes=1-2"})
    assert part.status == 206


async def test_a_file_that_the_channel_lacks_is_absent_with_what_to_use(site: Site) -> None:
    name = archive_name(A)
    digest = hashlib.sha256((await site.ask(f"/dl/{name}")).body).hexdigest()
    for target in (name, f"{name}.sha256", f"{name}.asc", digest, "go1.50.linux-amd64.tar.gz"):
        refusal = line(await site.ask(ROOT + target), 404)
        assert f"its release is {B}; see {ROOT}" in refusal


async def test_the_texts_of_a_channel(site: Site) -> None:
    assert await text(site, "current") == f"{B}\n"
    assert await text(site, "env") == (
        "MOORAGE_CHANNEL=stable\n"
        "MOORAGE_REVISION=1\n"
        f"GO_VERSION={B.removeprefix('go')}\n"
        f"GOTOOLCHAIN={B}\n"
    )
    key = await ok(site, "GET", "/channel-key", token=None)
    note = open_note((await text(site, "manifest")).encode(), [parse_vkey(key["vkey"])])
    manifest = parse_manifest(note.text)
    assert (manifest.current, [r.version for r in manifest.releases]) == (B, [B, C])
    [file] = manifest.releases[0].files
    assert (await site.ask(ROOT + file.sha256)).status == 200
    for extra, digest in (("tree", file.tree), ("chunks", file.chunks)):
        body = (await site.ask(f"{ROOT}{file.filename}.{extra}")).body
        assert hashlib.sha256(body).hexdigest() == digest


NOTHING = [
    ("/dl/channels/none/", 404),
    ("/dl/channels/none/current", 404),
    ("/dl/channels/", 404),
    ("/dl/channels", 404),
    ("/dl/channels/Stable/", 404),
    ("/dl/channels/sta%2Fble/", 400),
    ("/dl/channels/%00/", 400),
    ("/dl/channels/stable/none", 404),
    ("/dl/channels/stable/current/", 404),
    ("/dl/channels/stable/manifest.sha256", 404),
    ("/dl/channels/stable/../../x", 400),
    ("/dl/channels/stable/channels/stable/current", 404),
    ("/dl/current", 404),
    ("/dl/manifest", 404),
]


async def test_what_is_no_channel_or_no_file_is_one_line(site: Site) -> None:
    for path, status in NOTHING:
        line(Got(*await asked(site, path)), status)


async def asked(site: Site, path: str) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    async with site.calling() as caller:
        await caller.send(request(path))
        got = await caller.response()
    return got.status, got.headers, got.body


async def test_the_last_slash_is_added(site: Site) -> None:
    got = await site.ask(ROOT.removesuffix("/"))
    assert (got.status, got.header("location")) == (301, ROOT)


async def test_a_channel_without_a_revision_says_so(site: Site) -> None:
    await changed(site, "POST", "/channels", {"name": "next"})
    for name in ("", "current", "manifest", "SHA256SUMS", archive_name(B)):
        assert "has no revision yet" in line(await site.ask(f"/dl/channels/next/{name}"), 404)


async def test_a_new_revision_and_a_rollback_are_seen_after_a_poll(site: Site) -> None:
    assert await text(site, "current") == f"{B}\n"
    await changed(site, "POST", "/channels/stable/revisions", {"current": A})
    assert await text(site, "current") == f"{A}\n"
    assert (await site.ask(ROOT + archive_name(C))).status == 404
    await changed(site, "POST", "/channels/stable/rollback", {})
    assert await text(site, "current") == f"{B}\n"
    assert (await site.ask(ROOT + archive_name(C))).status == 200
    assert POLL_S < 1
    await changed(site, "DELETE", "/channels/stable")
    line(await site.ask(ROOT + "current"), 404)


async def test_a_hit_asks_neither_database_nor_channels(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (
        "current",
        "manifest",
        "env",
        "SHA256SUMS",
        archive_name(B),
        f"{archive_name(B)}.sha256",
    )
    first = {name: (await site.ask(ROOT + name)).body for name in names}

    async def fail(*_: object, **__: object) -> None:
        raise AssertionError("a hit looked further")

    monkeypatch.setattr(site.services.shared.db, "read", fail)
    monkeypatch.setattr(site.services.fleet.offered, "current", fail)
    monkeypatch.setattr(site.services.releases.catalog, "current", fail)
    assert {name: (await site.ask(ROOT + name)).body for name in names} == first


async def test_a_change_of_a_channel_leaves_prepared_answers_usable_again(site: Site) -> None:
    """An answer prepared after the change is kept, although the catalogue is older."""
    await changed(site, "POST", "/channels/stable/revisions", {"current": A})
    hot = site.application.surfaces.downloads._hot
    await site.ask(ROOT + "current")
    assert hot.get(f"{ROOT}current".encode()) is not None
    await site.ask("/dl/SHA256SUMS")
    assert hot.get(b"/dl/SHA256SUMS") is not None


async def test_a_limited_channel_wants_a_token_of_its_tenants(site: Site) -> None:
    for name in ("acme", "beta"):
        await ok(site, "POST", "/tenants", {"name": name})
    _, acmes = await add_token(site.services, "acme")
    _, betas = await add_token(site.services, "beta")
    everybodys = await site.ask(ROOT + "current")
    assert everybodys.header("cache-control") == "public, max-age=60"
    await changed(site, "PATCH", "/channels/stable", {"tenants": ["acme"]})
    for _ in range(2):  # the second one could be a hit
        got = await site.ask(ROOT + "current", headers=bearer(acmes))
        assert (got.text, got.header("cache-control")) == (f"{B}\n", "private, max-age=60")
        archive = await site.ask(ROOT + archive_name(B), headers=bearer(acmes))
        assert archive.header("cache-control") == "private, max-age=31536000, immutable"
        for name in ("current", "manifest", "", archive_name(B)):
            assert (await site.ask(ROOT + name)).status == 401
            line(await site.ask(ROOT + name, headers=bearer(betas)), 403)
            assert (await site.ask(ROOT + name, headers=bearer("moor_x"))).status == 401
    assert (await site.ask(ROOT + "current", headers=bearer(site.secret))).status == 200
    await changed(site, "PATCH", "/tenants/acme", {"enabled": False})
    assert (await site.ask(ROOT + "current", headers=bearer(acmes))).status == 403
    await changed(site, "PATCH", "/channels/stable", {"tenants": None})
    assert (await site.ask(ROOT + "current")).status == 200


async def test_a_query_neither_changes_a_text_nor_fills_the_cache(site: Site) -> None:
    size = len(site.application.surfaces.downloads._hot._answers)
    for number in range(5):
        assert (await site.ask(f"{ROOT}current?x={number}")).text == f"{B}\n"
        assert (await site.ask(f"{ROOT}?x={number}{ROOT}")).status == 200
    assert len(site.application.surfaces.downloads._hot._answers) == size + 1


async def test_a_tenant_names_its_channel_by_the_api_and_in_a_document(site: Site) -> None:
    await ok(site, "POST", "/tenants", {"name": "acme", "toolchains": "stable"})
    status, why = await refused(site, "PATCH", "/tenants/acme", {"toolchains": "none"})
    assert (status, why) == (404, "there is no channel 'none'; see `moorage channel list`")
    status, why = await refused(site, "PATCH", "/tenants/acme", {"toolchains": "a\0b"})
    assert (status, "can't be a channel's name" in why) == (400, True)
    assert (await ok(site, "PATCH", "/tenants/acme", {"toolchains": None}))["toolchains"] is None
    document = {"tenants": {"acme": {"toolchains": "stable"}}}
    changes = (await ok(site, "POST", "/apply", {"document": document}))["changes"]
    assert changes[-1]["after"]["toolchains"] == "stable"
    document = {"tenants": {"acme": {"toolchains": "none"}}}
    status, why = await refused(site, "POST", "/apply", {"document": document})
    assert (status, why.partition(";")[0]) == (404, "tenants.acme: there is no channel 'none'")
    status, why = await refused(site, "DELETE", "/channels/stable")
    assert (status, "tenant acme takes toolchains" in why) == (409, True)


async def test_a_tenants_toolchains_are_those_of_its_channel(site: Site) -> None:
    await ok(site, "POST", "/tenants", {"name": "acme", "anonymous_read": True})
    await changed(site, "PATCH", "/tenants/acme", {"toolchains": "stable"})
    root = "/goproxy/acme/golang.org/toolchain/@v/"

    async def listed() -> list[str]:
        return (await site.ask(f"{root}list")).text.split()

    offered = [f"v0.0.1-{version}.linux-amd64" for version in (C, B)]
    other = f"v0.0.1-{A}.linux-amd64"
    assert await listed() == offered
    for version in offered:
        for kind in ("info", "mod", "zip"):
            assert (await site.ask(f"{root}{version}.{kind}")).status == 200
    for kind in ("info", "mod", "zip"):
        why = line(await site.ask(f"{root}{other}.{kind}"), 403)
        assert f"is not offered by channel stable; use {B}: GOTOOLCHAIN={B}" in why
    # Other modules are the rules' as before: this tenant denies by default.
    assert (await site.ask("/goproxy/acme/example.com/x/@v/list")).status == 403
    # A change of the channel ends what was prepared for the tenant.
    await changed(site, "POST", "/channels/stable/revisions", {"current": A})
    assert await listed() == [other]
    assert (await site.ask(f"{root}{offered[0]}.zip")).status == 403
    assert (await site.ask(f"{root}{other}.zip")).status == 200
    # A deny rule holds above the channel.
    rule = {"effect": "deny", "pattern": "golang.org/toolchain", "versions": other}
    await changed(site, "POST", "/tenants/acme/rules", rule)
    assert await listed() == []
    await changed(site, "PATCH", "/tenants/acme", {"toolchains": None})
    line(await site.ask(f"{root}list"), 403)


async def test_explain_tells_of_the_channel(site: Site) -> None:
    await ok(site, "POST", "/tenants", {"name": "acme", "toolchains": "stable"})
    query = f"?module=golang.org/toolchain&version=v0.0.1-{A}.linux-amd64"
    shown = await ok(site, "GET", f"/tenants/acme/explain{query}")
    assert (shown["allowed"], shown["by"]) == (False, "channel stable")
    assert shown["steps"][-1]["what"] == f"channel stable offers {B} {C}"


async def test_what_another_process_changes_is_seen_after_a_poll(site: Site) -> None:
    assert await text(site, "current") == f"{B}\n"
    async with running(site.services.shared.settings) as other:
        await other.fleet.channels.set("stable", Choice(current=A), OPERATOR)
    await site.services.shared.watch.poll()
    assert await text(site, "current") == f"{A}\n"


async def test_a_list_of_channels_has_pages_and_history_too(site: Site) -> None:
    for name in ("a", "z"):
        await ok(site, "POST", "/channels", {"name": name})
    await ok(site, "POST", "/channels/stable/revisions", {"current": A, "reason": "CVE-1"})
    first = await ok(site, "GET", "/channels?limit=2")
    rest = await ok(site, "GET", f"/channels?limit=2&cursor={first['next_cursor']}")
    assert [c["name"] for c in (*first["items"], *rest["items"])] == ["a", "stable", "z"]
    newest = await ok(site, "GET", "/channels/stable/revisions?limit=1")
    assert [(r["revision"], r["reason"]) for r in newest["items"]] == [(2, "CVE-1")]
    older = await ok(site, "GET", f"/channels/stable/revisions?cursor={newest['next_cursor']}")
    assert [r["revision"] for r in older["items"]] == [1]
    shown = await ok(site, "GET", "/channels/stable")
    assert json.loads(json.dumps(shown)) == {
        "name": "stable",
        "title": "",
        "tenants": None,
        "created_at": shown["created_at"],
        "revision": 2,
        "current": A,
        "also": [],
        "candidate": None,
    }
    status, _ = await refused(
        site, "POST", "/channels/stable/rollback", {}, headers={"If-Match": '"1"'}
    )
    assert status == 412
