"""The whole comparison: `python -m tests.gitparity [--go FILE] [--ssh]`."""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from app.core.principal import OPERATOR
from tests.e2e.gocommand import go_binary
from tests.fakes.git import FakeGit, GitUser
from tests.fakes.sshd import FakeSshd
from tests.gitparity import corpus
from tests.gitparity.compare import compare
from tests.gitparity.goruns import GoRuns
from tests.gitparity.named import add_named
from tests.nouns import a_credential, an_upstream
from tests.web.harbour import add_route, add_tenant, harbour


async def _main(go: Path, only: list[str], *, by_ssh: bool) -> int:
    is_new = await asyncio.to_thread(_is_new, go)
    left_out = frozenset() if is_new else corpus.NEW_GO
    modules = _chosen(corpus.MODULES, only, left_out)
    named = _chosen(corpus.NAMED, only, frozenset() if is_new else frozenset(corpus.NAMED))
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gitparity")))
        repositories, runs = folder / "repositories", folder / "go"
        runs.mkdir()
        corpus.write_all(repositories)
        users = {"ci": GitUser("s3cret")}
        fake = stack.enter_context(FakeGit(repositories, users=users))
        site = await stack.enter_async_context(harbour(folder))
        await add_tenant(site.services, "acme")
        if by_ssh:
            host = stack.enter_context(FakeSshd(folder / "ssh"))
            base = f"ssh://{host.user}@127.0.0.1:{host.port}{repositories}"
            fake.import_base = base
            credential = a_credential("ssh_key", host.private_key)
            upstream = an_upstream(f"git+{base}/{{path}}.git", "git", host_keys=host.host_keys)
        else:
            credential = a_credential("basic", "s3cret", "ci")
            upstream = an_upstream(f"git+{fake.base_url}/{{path}}.git", "git")
        await site.services.tenants.credentials.put("acme", "git", credential, OPERATOR)
        # `go` downloads a module that declares another name, and refuses it when it builds.
        await add_route(site.services, "acme", corpus.HOST, upstream, private=True, forks=True)
        netrc = "machine 127.0.0.1 login ci password s3cret\n"
        ssh = f"ssh -F none -i {folder}/ssh/user -o StrictHostKeyChecking=no -o LogLevel=ERROR"
        direct = GoRuns(go, runs, fake.base_url, netrc, ssh if by_ssh else "")
        count, lines = await asyncio.to_thread(
            compare, direct, f"{site.base}/goproxy/acme", modules
        )
        if named and not by_ssh:
            goproxy = await add_named(site, fake, upstream, "s3cret", "ci")
            more, more_lines = await asyncio.to_thread(compare, direct, goproxy, named)
            count, lines = count + more, lines + more_lines
    print(f"{count} answers compared, {len(lines)} differ", *lines, sep="\n")
    return 1 if lines or not count else 0


def _chosen(
    modules: dict[str, tuple[str, ...]], only: list[str], left_out: frozenset[str]
) -> dict[str, tuple[str, ...]]:
    return {
        path: queries
        for path, queries in modules.items()
        if (not only or path in only) and path not in left_out
    }


def _is_new(go: Path) -> bool:
    """Whether a go surely knows SHA-256 repositories and sub-directories of go-import tags."""
    printed = subprocess.run([str(go), "version"], capture_output=True, check=True).stdout.decode()
    _, minor, *_ = printed.split()[2].removeprefix("go").split(".")
    return int(minor) >= 26


def main() -> int:
    """Compare, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--go", type=Path, help="another go than this environment's")
    parser.add_argument("--ssh", action="store_true", help="over ssh instead of HTTP")
    parser.add_argument("only", nargs="*", help="paths of modules: team/plain")
    chosen = parser.parse_args()
    go = chosen.go or go_binary()
    return asyncio.run(_main(go, chosen.only, by_ssh=chosen.ssh))


if __name__ == "__main__":
    sys.exit(main())
