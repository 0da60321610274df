"""`/`: the page for people, with the address by which they reached it."""

import asyncio
import os
import re
from html import unescape
from pathlib import Path

import pytest

from tests.fakes.godev import FakeGodev
from tests.nouns import an_upstream
from tests.statements import watched
from tests.web.conftest import Mirror, Put, StartSite, program
from tests.web.harbour import add_route, add_tenant, harbour, settled
from tests.web.test_pages import Tags
from tests.web.wire import Got, Site

HOST = {"Host": "moorage.example:8443"}


def texts(got: Got) -> list[str]:
    """Return the texts to paste: five for modules, then those for toolchains."""
    blocks = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", got.text, re.DOTALL)
    return [unescape(block) for block in blocks]


async def test_the_root_is_a_page_that_loads_nothing(mirror: Mirror) -> None:
    got = await mirror.site.ask("/", headers=HOST)
    assert got.status == 200
    assert got.header("content-type") == "text/html; charset=utf-8"
    policy = got.header("content-security-policy") or ""
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    tags = Tags(got.text)
    assert not {"script", "img", "iframe", "object", "embed", "link", "form"} & set(tags.names)
    links = [value or "" for name, value in tags.attributes if name in ("href", "src")]
    assert links
    assert all(link.startswith("/") and not link.startswith("//") for link in links)
    for link in links:
        assert (await mirror.site.ask(link, "HEAD")).status == 200


async def test_the_page_names_the_newest_stable_release_of_the_index(mirror: Mirror) -> None:
    got = await mirror.site.ask("/")
    assert "<dt>Newest stable Go</dt><dd>go1.99.2</dd>" in got.text
    sh, powershell, docker, setup_go, ansible = texts(got)[-5:]
    for text in (sh, docker, ansible):
        assert "/dl/go1.99.2.linux-amd64.tar.gz" in text
    assert "/dl/go1.99.2.windows-amd64.zip" in powershell
    assert 'go-version: "1.99.x"' in setup_go


async def test_the_steps_for_sh_install_what_was_checked(mirror: Mirror, tmp_path: Path) -> None:
    program("curl")
    here = {"Host": f"127.0.0.1:{mirror.site.port}"}
    text = texts(await mirror.site.ask("/", headers=here))[-5]
    # The archive of the tests has no program that runs.
    text = text.replace("./bin/go version\n", "ls bin/go\n")

    async def run(commands: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            "sh",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
        )
        out, _ = await process.communicate(commands.encode())
        return process.returncode or 0, out.decode()

    status, out = await run(f"set -e\n{text}echo $PATH")
    assert status == 0, out
    assert out.splitlines()[-1].startswith(f"{tmp_path}/sdk/go1.99.2/bin:")
    assert (tmp_path / "sdk/go1.99.2/bin/go").is_file()
    (tmp_path / "sdk").rename(tmp_path / "good")
    digest = re.findall(r"[0-9a-f]{64}", text)[0]
    status, out = await run(f"set -e\n{text.replace(digest, '0' * 64)}")
    assert status != 0
    assert not (tmp_path / "sdk/go1.99.2/bin").exists()


async def test_the_address_is_that_of_the_request_or_of_the_setting(
    mirror: Mirror, tmp_path: Path
) -> None:
    got = await mirror.site.ask("/", headers=HOST)
    assert "http://moorage.example:8443/goproxy/" in got.text
    assert "http://moorage.example:8443/dl" in got.text
    async with harbour(tmp_path, public_url="https://go.corp.example") as site:
        got = await site.ask("/", headers=HOST)
        assert "https://go.corp.example/goproxy/" in got.text
        assert "moorage.example" not in got.text


HOSTILE = ('"><script>alert(1)</script>', "a b", "a" * 300, "x/../y", "a@b", "[::z]", "münchen")


@pytest.mark.parametrize("host", HOSTILE)
async def test_a_host_that_is_none_gets_into_no_page(mirror: Mirror, host: str) -> None:
    got = await mirror.site.ask("/", headers={"Host": host})
    assert got.status in (200, 400)
    assert "<script" not in got.text
    if got.status == 200:
        assert "https://moorage.example/goproxy/" in got.text


async def test_methods_and_conditions_are_those_of_other_pages(mirror: Mirror) -> None:
    got = await mirror.site.ask("/")
    head = await mirror.site.ask("/", "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.lasting == got.lasting
    tag = got.header("etag") or ""
    assert (await mirror.site.ask("/", headers={"If-None-Match": tag})).status == 304
    packed = await mirror.site.ask("/", headers={"Accept-Encoding": "gzip"})
    assert packed.header("content-encoding") == "gzip"
    posted = await mirror.site.ask("/", "POST")
    assert (posted.status, posted.header("allow")) == (405, "GET, HEAD")


async def test_the_page_is_prepared_once_and_costs_no_query(mirror: Mirror) -> None:
    home = mirror.site.application.surfaces.home
    first = await mirror.site.ask("/", headers=HOST)
    prepared = dict(home._pages)
    with watched(mirror.site.services.shared.db) as statements:
        assert (await mirror.site.ask("/", headers=HOST)).body == first.body
    assert statements.count == 0
    assert dict(home._pages) == prepared


async def test_many_hosts_do_not_fill_the_memory(mirror: Mirror) -> None:
    home = mirror.site.application.surfaces.home
    for number in range(home._pages.maxsize + 5):
        await mirror.site.ask("/", headers={"Host": f"host-{number}.example"})
    assert len(home._pages) == home._pages.maxsize


async def test_without_any_upstream_the_page_says_what_failed(
    start_site: StartSite, put: Put, fake: FakeGodev
) -> None:
    put()
    site = await start_site()
    fake.stop()
    got = await site.ask("/")
    assert got.status == 200
    assert "not read yet" in got.text
    assert "No stable release is offered yet" in got.text
    assert (await site.ask("/dl/")).status >= 500
    await settled(site.services)
    got = await site.ask("/")
    assert "Last attempt failed" in got.text


async def test_a_change_of_the_releases_changes_the_page(start_site: StartSite, put: Put) -> None:
    put("go1.99.1")
    site = await start_site()
    assert "none is offered" in (await site.ask("/")).text
    await site.services.releases.reader.refresh()
    await settled(site.services)
    assert "<dd>go1.99.1</dd>" in (await site.ask("/")).text


async def modules(site: Site, host: str = "127.0.0.1") -> list[str]:
    return texts(await site.ask("/", headers={"Host": host}))


async def test_the_tenant_is_the_only_open_one_or_the_default(tmp_path: Path) -> None:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "closed", open_to_all=False)
        got = await site.ask("/")
        assert "/goproxy/your-tenant" in got.text
        assert "closed" not in got.text
        await add_tenant(site.services, "acme")
        assert "/goproxy/acme" in (await modules(site))[0]
        await add_tenant(site.services, "beta")
        got = await site.ask("/")
        assert "/goproxy/your-tenant" in got.text
        assert "acme" not in got.text
        await add_tenant(site.services, "default")
        assert "/goproxy/default" in (await modules(site))[0]


async def test_a_tenants_host_leads_to_the_tenant(tmp_path: Path) -> None:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "default")
        await add_tenant(site.services, "acme", hosts=["go.acme.example"])
        await add_tenant(site.services, "shut", hosts=["go.shut.example"], open_to_all=False)
        assert (
            "GOPROXY=http://go.acme.example/goproxy " in (await modules(site, "go.acme.example"))[0]
        )
        text = (await modules(site, "go.shut.example"))[0]
        assert "GOPROXY=http://go.shut.example/goproxy/default " in text
        assert "tenant shut" not in text


async def test_private_names_are_on_no_page(tmp_path: Path) -> None:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "default")
        assert "private modules, too" not in (await site.ask("/")).text
        upstream = an_upstream("http://127.0.0.1:9")
        await add_route(site.services, "default", "secret.example/*", upstream, private=True)
        got = await site.ask("/")
        assert "private modules, too" in got.text
        assert "secret.example" not in got.text


async def test_a_tenant_with_a_token_is_shown_over_https_alone(tmp_path: Path) -> None:
    async with harbour(tmp_path, public_url="https://go.corp.example") as site:
        await add_tenant(site.services, "acme", open_to_all=False)
        got = await site.ask("/")
        assert "MOORAGE_TOKEN" in texts(got)[0]
        assert "acme" not in got.text


async def test_the_texts_are_those_of_client_config(tmp_path: Path) -> None:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "default")
        shown = await modules(site, "moorage.example")
        path = "/api/v1/tenants/default/client-config?for="
        for text, target in zip(shown, ("sh", "powershell", "dockerfile"), strict=False):
            got = await site.admin(path + target, headers={"Host": "moorage.example"})
            assert got.text == text
