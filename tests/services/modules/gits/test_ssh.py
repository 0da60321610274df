"""Modules from git over ssh: OpenSSH's own server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import BadInputError, UpstreamError
from app.core.giturl import parse_git_url
from app.core.principal import OPERATOR
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.git import GitDeadlines
from app.upstream.gitssh import SshGitServer, SshKey
from tests.fakes import git, sshd
from tests.fakes.gitrepos import GitRepo
from tests.fakes.sshd import FakeSshd
from tests.nouns import a_credential, an_upstream
from tests.services.modules.gits.lane import children
from tests.web.harbour import add_route, add_tenant, harbour
from tests.web.wire import Site

pytestmark = pytest.mark.skipif(
    not (git.is_here() and sshd.is_here()), reason="git or OpenSSH's server is not installed"
)
X = "/goproxy/acme/git.corp.example/team/x"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    repo = GitRepo()
    files = {"go.mod": "module git.corp.example/team/x\n", "x.go": "package x\n"}
    repo.tag("v1.0.0", repo.commit("main", files), annotated=True)
    repo.commit("main", {"y.go": "package x\n"})
    (tmp_path / "git/team").mkdir(parents=True)
    repo.write(tmp_path / "git/team/x.git")
    async with harbour(tmp_path) as one:
        await add_tenant(one.services, "acme")
        yield one


async def lead_to(site: Site, fake: FakeSshd, folder: Path, **more: str) -> None:
    """Give the tenant a route to the repositories in a folder."""
    key = a_credential("ssh_key", more.pop("key", fake.private_key))
    await site.services.tenants.credentials.put("acme", "key", key, OPERATOR)
    url = f"git+ssh://{fake.user}@127.0.0.1:{fake.port}{folder}/git/{{path}}.git"
    upstream = an_upstream(url, "key", host_keys=more.pop("host_keys", fake.host_keys))
    await add_route(site.services, "acme", "git.corp.example", upstream, private=True)


@pytest.mark.parametrize("accepts_version", [True, False], ids=["version-2", "version-0"])
async def test_lists_and_files_come_over_ssh(
    site: Site, tmp_path: Path, *, accepts_version: bool
) -> None:
    with FakeSshd(tmp_path / "ssh", accepts_version=accepts_version) as fake:
        await lead_to(site, fake, tmp_path)
        assert (await site.ask(f"{X}/@v/list")).text == "v1.0.0\n"
        assert b'"Ref":"HEAD"' in (await site.ask(f"{X}/@latest")).body
        assert (await site.ask(f"{X}/@v/v1.0.0.zip")).status == 200
        assert (await site.ask(f"{X}x/@v/list")).status == 404


def server(fake: FakeSshd, folder: Path, guard: AddressGuard) -> SshGitServer:
    url = parse_git_url(f"git+ssh://{fake.user}@127.0.0.1:{fake.port}{folder}/git/{{path}}.git")
    key = SshKey(fake.private_key)
    return SshGitServer(guard, url, "team/x", key, fake.host_keys, GitDeadlines(20, 20))


async def test_F87_the_key_is_in_no_argument_and_no_environment_and_no_process_stays(
    site: Site, tmp_path: Path
) -> None:
    guard = AddressGuard([AllowedNetwork.parse("127.0.0.0/8")])
    with FakeSshd(tmp_path / "ssh") as fake:
        async with server(fake, tmp_path, guard)._connected() as wire:
            await wire.section()
            process = Path(f"/proc/{wire._process.pid}")
            seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            assert b"git-upload-pack" in seen
            for secret in fake.private_key.splitlines()[1:-1]:
                assert secret.encode() not in seen
            assert b"MOORAGE" not in seen
            assert children() == ["ssh"]
        assert children() == []


async def test_F86_whoever_stops_waiting_ends_ssh(site: Site, tmp_path: Path) -> None:
    guard = AddressGuard([AllowedNetwork.parse("127.0.0.0/8")])
    with FakeSshd(tmp_path / "ssh") as fake:
        waiting = asyncio.Event()

        async def hold() -> None:
            async with server(fake, tmp_path, guard)._connected() as wire:
                await wire.section()
                waiting.set()
                await wire.section()  # the server waits for a request that does not come

        task = asyncio.ensure_future(hold())
        await waiting.wait()
        assert children() == ["ssh"]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == []


async def test_F83_a_path_that_the_hosts_shell_could_take_apart_is_not_asked_for(
    site: Site, tmp_path: Path
) -> None:
    guard = AddressGuard([AllowedNetwork.parse("127.0.0.0/8")])
    with FakeSshd(tmp_path / "ssh") as fake:
        one = server(fake, tmp_path, guard)
        for path in ("/x'; touch y/{path}", "/x\\{path}", "-x/{path}"):
            with pytest.raises(BadInputError):
                await replace(one, url=replace(one.url, path=path)).list_refs()
        assert children() == []


async def test_F54_an_address_that_is_not_allowed_gets_no_connection(
    site: Site, tmp_path: Path
) -> None:
    with FakeSshd(tmp_path / "ssh") as fake:
        with pytest.raises(UpstreamError, match="a loopback address"):
            await server(fake, tmp_path, AddressGuard()).list_refs()
        assert children() == []


async def test_F87_a_host_with_another_key_than_the_pinned_one_gets_nothing(
    site: Site, tmp_path: Path
) -> None:
    with FakeSshd(tmp_path / "ssh") as fake:
        pinned = fake.host_keys
    fake.new_host_key()
    with fake:
        await lead_to(site, fake, tmp_path, host_keys=pinned)
        got = await site.ask(f"{X}/@v/list")
    assert got.status == 502
    assert b"log says why" in got.body


async def test_F87_a_key_that_the_host_does_not_take_is_our_trouble_and_no_absence(
    site: Site, tmp_path: Path
) -> None:
    with FakeSshd(tmp_path / "other") as other, FakeSshd(tmp_path / "ssh") as fake:
        await lead_to(site, fake, tmp_path, key=other.private_key)
        got = await site.ask(f"{X}/@v/list")
    assert got.status == 502
    # ssh has no status: none may be made up.
    said = "upstream does not let this server in: it refuses the ssh key of the route"
    assert f"{said}; tell an admin" in got.text
