"""Each client's exact requests, and the checks that this client makes.

Sources: setup-go `src/installer.ts`, mise `src/plugins/core/go.rs`, goenv 2 `go-build` and 3
`internal/install/installer.go`, gvm `scripts/install`, requests of aria2 1.36.0, asdf-golang
`bin/download`, golang.org/dl `internal/version/version.go`, Ansible `get_url.py`, rules_go
`go/private/sdk.bzl`, Renovate `datasource/golang-version/index.ts` and its custom datasource.
"""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.web.conftest import PENDING, SOURCE, Mirror, StartSite, program
from tests.web.wire import Got, Site

DOCS = Path(__file__).parents[2] / "docs" / "clients.md"
VERSION, FILE, ZIP = "go1.27.1", "go1.27.1.linux-amd64.tar.gz", "go1.27.1.windows-amd64.zip"
MSI = "go1.27.1.windows-amd64.msi"
GOOGLE = {"Host": "dl.google.com"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def released() -> dict[str, bytes]:
    """Return the archives of upstream by name."""
    archives = {}
    for version in ("go1.28rc1", VERSION, "go1.27.0", "go1.26.9", "go1.25.3"):
        for goos in ("linux", "windows"):
            data = go_archive(version, goos, extra_bytes=200_000 if version == VERSION else 0)
            archives[archive_name(version, goos)] = data
    return archives


@pytest.fixture
async def cold(start_site: StartSite, fake: FakeGodev, signer: Signer) -> tuple[Site, bytes]:
    """A mirror that has nothing yet, and the bytes of FILE."""
    for name, data in released().items():
        fake.put_file(name, data, signature=signer.sign(data) if ".linux-" in name else None)
    fake.put_file(MSI, b"installer")
    return await start_site(), released()[FILE]


async def ok(site: Site, target: str, headers: Mapping[str, str], method: str = "GET") -> Got:
    got = await site.ask(target, method, headers)
    assert (got.status, got.complete) == (200, True), got.body[:300]
    return got


Client = Callable[[Site, bytes, Path], Awaitable[None]]


async def setup_go(site: Site, data: bytes, _: Path) -> None:
    """It takes the first release that satisfies, and in it the first file of the platform."""
    headers = {"User-Agent": "setup-go", "Accept": "application/json"}
    got = await ok(site, "/dl/?mode=json&include=all", headers)
    candidates = json.loads(got.body)
    for pattern, goos, expected in (
        (r"1\.27\.\d+", "linux", FILE),
        (r"1\.2[67]\.\d+", "linux", FILE),
        (r"1\.26\.\d+", "linux", "go1.26.9.linux-amd64.tar.gz"),
        # An archive has to come before the installer of the same platform.
        (r"1\.27\.1", "windows", ZIP),
    ):
        assert first_match(candidates, pattern, goos) == expected
    archive = await ok(site, f"/dl/{FILE}", {"User-Agent": "actions/tool-cache"})
    assert archive.body == data


def first_match(candidates: list[dict[str, Any]], pattern: str, goos: str) -> str | None:
    for release in candidates:
        if not re.fullmatch(pattern, release["version"].removeprefix("go")):
            continue
        for file in release["files"]:
            if file["arch"] == "amd64" and file["os"] == goos:
                return str(file["filename"])
    return None


async def mise(site: Site, data: bytes, _: Path) -> None:
    """It reads git's tags, asks for file and sum at once, and compares the sum untrimmed."""
    repository = f"{site.base}/dl/go.git"
    for form in ("1", "0"):
        git = ("env", f"GIT_SMART_HTTP={form}", "git", "ls-remote", "--tags", "--refs")
        program("git")
        lines = (await run(*git, repository, "go*")).splitlines()
        names = [line.split("/go")[-1] for line in lines]
        assert sorted(names) == ["1.25.3", "1.26.9", "1.27.0", "1.27.1", "1.28rc1"]
    headers = {"User-Agent": "mise/2026.5.5", "Accept": "*/*"}
    sums, archive = await asyncio.gather(
        ok(site, f"/dl/{FILE}.sha256", headers), ok(site, f"/dl/{FILE}", headers)
    )
    assert f"sha256:{sums.text}" == f"sha256:{sha256(archive.body)}"
    assert archive.body == data


async def goenv_2(site: Site, data: bytes, folder: Path) -> None:
    """It asks curl for the digest of its definition, first by HEAD: failure means upstream."""
    url = f"{site.base}/dl/{sha256(data)}"
    # The digest is known here once the index was read.
    await ok(site, "/dl/?mode=json", {})
    await run("curl", "-qsILf", url)
    await run("curl", "-q", "-o", str(folder / "go.tar.gz"), "-SLf", url)
    assert sha256((folder / "go.tar.gz").read_bytes()) == sha256(data)


async def goenv_3(site: Site, data: bytes, _: Path) -> None:
    """The base may end with a slash. Go's client offers gzip, and hashes the body it gets."""
    headers = {"User-Agent": "Go-http-client/1.1", "Accept-Encoding": "gzip"}
    archive = await ok(site, f"/dl/{FILE}", headers)
    assert archive.header("content-encoding") is None
    assert sha256(archive.body) == sha256(data)


async def gvm(site: Site, data: bytes, folder: Path) -> None:
    """It puts a slash behind the base, which people write with one and without."""
    for base in (f"{site.base}/dl", f"{site.base}/dl/"):
        await run("curl", "-s", "-f", "-L", f"{base}/{FILE}", "-o", str(folder / FILE))
        assert (folder / FILE).read_bytes() == data


async def asdf_golang(site: Site, data: bytes, folder: Path) -> None:
    """It takes any status but 404 and 403 of the HEAD for a yes, and curls without -f."""
    code = await asdf_downloads(site, folder, FILE)
    assert code == "200"
    line = f"{(folder / 'archive.tar.gz.sha256').read_text()} {folder / 'archive.tar.gz'}\n"
    await run("sha256sum", "-c", stdin=line.encode())
    assert (folder / "archive.tar.gz").read_bytes() == data


async def asdf_downloads(site: Site, folder: Path, name: str) -> str:
    """Do its requests with the documented .curlrc, without TLS; return the status of HEAD."""
    (line,) = re.findall(r"^connect-to = .*$", DOCS.read_text(), re.MULTILINE)
    here = site.base.removeprefix("http://")
    line = line.replace("dl.google.com:443", "dl.google.com:80").replace("mirror.example:443", here)
    (folder / ".curlrc").write_text(f"{line}\n")
    curl = ("env", f"HOME={folder}", program("curl"))
    url, archive = f"http://dl.google.com/go/{name}", folder / "archive.tar.gz"
    code = await run(*curl, "-I", "-w", "%{http_code}", "-s", "-o", "/dev/null", url)
    await run(*curl, url, "-o", str(archive))
    await run(*curl, f"{url}.sha256", "-o", f"{archive}.sha256")
    return code


async def golang_org_dl(site: Site, data: bytes, _: Path) -> None:
    """It compares the size that HEAD gave with what it got."""
    headers = {**GOOGLE, "User-Agent": "golang-x-build-version/go1.27.1"}
    head = await ok(site, f"/go/{FILE}", headers, "HEAD")
    archive = await ok(site, f"/go/{FILE}", {**headers, "Connection": "close"})
    assert head.header("content-length") == str(len(archive.body))
    sums = await ok(site, f"/go/{FILE}.sha256", {**headers, "Accept-Encoding": "gzip"})
    assert sums.text.strip() == sha256(archive.body)
    assert archive.body == data


ANSIBLE = {
    "User-Agent": "ansible-httpget",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


def sum_as_ansible_reads_it(text: str, filename: str) -> str | None:
    """Return the sum of a sums file: a bare hash, or the line of that name."""
    lines = [line.rstrip("\n") for line in text.splitlines()]
    if len(lines) == 1 and len(lines[0].split()) == 1:
        return lines[0]
    for line in lines:
        parts = line.split(None, 1)
        if len(parts) == 2 and parts[1].lstrip("*").removeprefix("./") == filename:
            return parts[0]
    return None


async def ansible(site: Site, data: bytes, _: Path) -> None:
    """get_url takes its sums from either file; a forced later run asks conditionally."""
    for sums in (f"{FILE}.sha256", "SHA256SUMS", f"{FILE}.sha256sum"):
        listed = await ok(site, f"/dl/{sums}", ANSIBLE)
        archive = await ok(site, f"/dl/{FILE}", ANSIBLE)
        assert sum_as_ansible_reads_it(listed.text, FILE) == sha256(archive.body)
        assert archive.body == data
    since = {**ANSIBLE, "If-Modified-Since": formatdate(usegmt=True)}
    assert (await site.ask(f"/dl/{FILE}", headers=since)).status in (200, 304)
    # Check mode.
    await ok(site, f"/dl/{FILE}", ANSIBLE, "HEAD")


async def gantsign_golang(site: Site, data: bytes, _: Path) -> None:
    """`golang_mirror` and a slash and the file; the sum is the role's."""
    archive = await ok(site, f"/dl/{FILE}", ANSIBLE)
    assert sha256(archive.body) == sha256(data)


async def geerlingguy_go(site: Site, data: bytes, _: Path) -> None:
    """The admin copies the sum from SHA256SUMS."""
    listed = (await ok(site, "/dl/SHA256SUMS", {})).text
    archive = await ok(site, f"/dl/{FILE}", ANSIBLE)
    assert sum_as_ansible_reads_it(listed, FILE) == sha256(archive.body) == sha256(data)


async def fubarhouse_golang(site: Site, data: bytes, _: Path) -> None:
    """The name is that of the variables; nothing is checked."""
    assert (await ok(site, f"/dl/{FILE}", ANSIBLE)).body == data


async def curl(site: Site, data: bytes, folder: Path) -> None:
    """`curl -fC - -O` resumes; `-f` fails on a refusal."""
    (folder / FILE).write_bytes(data[:1000])
    await run("curl", "-fsSC", "-", "-O", f"{site.base}/dl/{FILE}", cwd=folder)
    assert (folder / FILE).read_bytes() == data
    with pytest.raises(RuntimeError, match="404"):
        await run("curl", "-fsS", f"{site.base}/dl/nothing")


async def wget(site: Site, data: bytes, folder: Path) -> None:
    """`wget -c` resumes; `-N` asks again only if it changed."""
    url = f"{site.base}/dl/{FILE}"
    (folder / FILE).write_bytes(data[:1000])
    await run("wget", "-qc", url, cwd=folder)
    assert (folder / FILE).read_bytes() == data
    (folder / FILE).unlink()
    await run("wget", "-qN", url, cwd=folder)
    assert (folder / FILE).read_bytes() == data
    before = (folder / FILE).stat().st_ino
    await run("wget", "-qN", url, cwd=folder)
    assert (folder / FILE).stat().st_ino == before


async def aria2c(site: Site, data: bytes, _: Path) -> None:
    """It asks for the whole first, then for the parts that further connections take."""
    headers = {
        "User-Agent": "aria2/1.36.0",
        "Accept": "*/*,application/metalink4+xml,application/metalink+xml",
        "Want-Digest": "SHA-512;q=1, SHA-256;q=1, SHA;q=0.1",
    }
    whole = await ok(site, f"/dl/{FILE}", headers)
    assert (whole.body, whole.header("accept-ranges")) == (data, "bytes")
    part = await site.ask(f"/dl/{FILE}", headers={**headers, "Range": "bytes=1000-"})
    assert (part.status, part.body) == (206, data[1000:])


async def renovate(site: Site, _: bytes, __: Path) -> None:
    """It reads lines between exact brackets, and takes a date and a version from each."""
    headers = {"User-Agent": "RenovateBot/42.0.0", "Accept-Encoding": "gzip, deflate, br"}
    lines = (await ok(site, "/HEAD/internal/history/release.go", headers)).text.split("\n")
    lines = lines[lines.index("var Releases = []*Release{") + 1 :]
    versions = []
    for start, line in enumerate(lines):
        if line == "\t{":
            entry = "\n".join(lines[start : lines.index("\t},", start)])
            assert re.search(r"Date\{\d+,\s+\d+,\s+\d+\}", entry)
            version = re.search(r"Version\{(\d+),\s+(\d+),\s+(\d+)\}", entry)
            assert version is not None
            versions.append(".".join(version.groups()))
    assert versions == ["1.27.1", "1.27.0", "1.26.9", "1.25.3"]


async def renovate_custom(site: Site, _: bytes, __: Path) -> None:
    """Its expression keeps the stable releases and drops "go"."""
    got = await ok(site, "/dl/?mode=json&include=all", {"Accept": "application/json"})
    versions = [r["version"].partition("go")[2] for r in json.loads(got.body) if r["stable"]]
    assert versions == ["1.27.1", "1.27.0", "1.26.9", "1.25.3"]


async def rules_go(site: Site, data: bytes, _: Path) -> None:
    """`urls` with {} replaced by the file's name; Bazel checks the sum that was given."""
    target = "/dl/{}".format(FILE)  # noqa: UP032 (as rules_go does it)
    archive = await ok(site, target, {"User-Agent": "Bazel/release 8.4.0", "Accept": "*/*"})
    assert sha256(archive.body) == sha256(data)


CLIENTS: dict[str, Client] = {
    "setup-go": setup_go,
    "mise": mise,
    "goenv 2": goenv_2,
    "goenv 3": goenv_3,
    "gvm": gvm,
    "asdf-golang": asdf_golang,
    "golang.org/dl": golang_org_dl,
    "Ansible get_url": ansible,
    "gantsign.golang": gantsign_golang,
    "geerlingguy.go": geerlingguy_go,
    "fubarhouse.golang": fubarhouse_golang,
    "curl": curl,
    "wget": wget,
    "aria2c": aria2c,
    "Renovate": renovate,
    "Renovate, custom": renovate_custom,
    "rules_go": rules_go,
}


async def run(name: str, *arguments: str, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """Return what a program printed; RuntimeError if it fails, skipped if it is not here."""
    done = await anyio.run_process(
        [program(name), *arguments], cwd=cwd, input=stdin, check=False, env={"PATH": os.defpath}
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode())
    return done.stdout.decode()


async def test_the_commands_of_the_readme_fetch_the_newest_release(
    mirror: Mirror, tmp_path: Path
) -> None:
    program("curl")
    readme = DOCS.parents[1] / "README.md"
    (block,) = re.findall(r"```console\n([^`]*sha256sum -c[^`]*)```", readme.read_text())
    lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
    commands = "\n".join(lines).replace("http://127.0.0.1:8080", mirror.site.base)
    assert commands.count(mirror.site.base) == 3
    assert await run("sh", "-eu", cwd=tmp_path, stdin=commands.encode()) == f"{SOURCE}: OK\n"


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_gets_and_accepts_a_file_that_was_not_here(
    cold: tuple[Site, bytes], tmp_path: Path, client: str
) -> None:
    site, data = cold
    await CLIENTS[client](site, data, tmp_path)


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_needs_no_upstream_for_a_file_that_is_here(
    cold: tuple[Site, bytes], fake: FakeGodev, tmp_path: Path, client: str
) -> None:
    site, data = cold
    await ok(site, f"/dl/{FILE}", {})
    fake.stop()
    await CLIENTS[client](site, data, tmp_path)


def table() -> list[list[str]]:
    """Return the cells of the documented table, without its head."""
    rows = [line for line in DOCS.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows][1:]


def test_every_documented_client_is_tested_and_every_tested_one_documented() -> None:
    assert [row[0] for row in table()] == list(CLIENTS)


@pytest.mark.parametrize("row", table(), ids=lambda row: row[0])
async def test_every_documented_request_is_answered(
    cold: tuple[Site, bytes], row: list[str]
) -> None:
    site, data = cold
    await ok(site, "/dl/?mode=json", {})
    for method, target in re.findall(r"`(GET|HEAD) (/[^`]+)`", row[2]):
        filled = target.replace("<file>", FILE).replace("<sha256>", sha256(data))
        assert "<" not in filled
        await ok(site, filled, {}, method)


def documented_503(client: str) -> list[str]:
    """Return the messages in the last column of a client's row."""
    (cell,) = (row[4] for row in table() if row[0] == client)
    return re.findall(r"`([^`]*503[^`]*|no properly[^`]*)`", cell)


async def test_what_our_503_looks_like_is_documented(mirror: Mirror, tmp_path: Path) -> None:
    site = mirror.site
    got = await site.ask(f"/dl/{PENDING}")
    assert (got.status, got.header("retry-after")) == (503, "60")
    assert "is not offered yet" in got.text
    url = f"{site.base}/dl/{PENDING}"
    commands = {"curl": ("curl", "-fsSO", url), "wget": ("wget", "-nv", url)}
    for client, command in commands.items():
        with pytest.raises(RuntimeError, match=re.escape(documented_503(client)[0])):
            await run(*command, cwd=tmp_path)
    # The HEAD's 503 does not stop asdf-golang, and the sum is the line of text.
    assert await asdf_downloads(site, tmp_path, PENDING) == "503"
    line = f"{(tmp_path / 'archive.tar.gz.sha256').read_text()} {tmp_path / 'archive.tar.gz'}\n"
    with pytest.raises(RuntimeError, match=documented_503("asdf-golang")[0]):
        await run("sha256sum", "-c", stdin=line.encode())


async def test_the_versions_that_mise_asks_for_are_503_without_an_index(
    start_site: StartSite, fake: FakeGodev
) -> None:
    fake.stop()
    site = await start_site()
    with pytest.raises(RuntimeError, match=documented_503("mise")[-1]):
        await run("git", "ls-remote", "--tags", f"{site.base}/dl/go.git")


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL)


async def test_the_documented_shell_commands_work_as_they_stand(
    cold: tuple[Site, bytes], signer: Signer, tmp_path: Path
) -> None:
    site, data = cold
    (script,) = [s for s in snippets("sh") if "sha256sum -c" in s]
    program("curl"), program("sha256sum"), program("gpg")
    done = await anyio.run_process(
        ["sh", "-euc", script.replace("https://mirror.example", site.base)],
        cwd=tmp_path,
        env={"PATH": os.defpath, "GNUPGHOME": str(signer.room.home)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert f"{FILE}: OK" in done.stdout.decode()
    assert "Good signature" in done.stderr.decode()
    assert (tmp_path / FILE).read_bytes() == data


async def test_every_documented_url_is_one_that_the_mirror_answers(
    cold: tuple[Site, bytes],
) -> None:
    site, _ = cold
    urls = set(re.findall(r"https://mirror\.example(/[\w./?=&-]*)", DOCS.read_text()))
    assert {"/dl", "/dl/SHA256SUMS", f"/dl/{FILE}.sha256"} <= urls
    for url in urls - {"/dl/go.git"}:  # git puts a path behind it
        assert (await site.ask(url)).status in (200, 301)
    # Bases that tools put a slash and a name behind.
    for base in [u for u in urls if u in ("/dl", "/dl/")]:
        assert (await site.ask(f"{base.rstrip('/')}/{FILE}", "HEAD")).status == 200


def test_the_documented_json_is_json() -> None:
    rules, config = (json.loads(snippet) for snippet in snippets("json"))
    assert rules["packageRules"][0]["registryUrls"] == ["https://mirror.example"]
    (source,) = config["customDatasources"].values()
    assert source["defaultRegistryUrlTemplate"].endswith("/dl/?mode=json&include=all")
