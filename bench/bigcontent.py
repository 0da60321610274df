"""Scenarios of content: what an upstream serves is long, or is asked for in masses.

Each asks through a tenant of its own, as often as the content lasts.
"""

import asyncio
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.services.assembly import Services
from bench.scenario import Scenario, Site
from tests.fakes.modules import go_mod_of, info_of
from tests.nouns import a_route, a_tenant

_TENANT = "busy"
_VERSION = "v1.0.0"


class Content(Scenario):
    """The base: a tenant that is open to read and takes everything from the upstream."""

    max_ms = 100
    clients = 1
    """How many requests are under way at a time."""

    async def record(self, services: Services, upstream: str) -> None:
        draft = a_tenant(_TENANT, default=Effect.ALLOW, anonymous_read=True)
        await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
        await services.tenants.routes.create(_TENANT, a_route("*", upstream), OPERATOR)

    def requests(self) -> Iterator[str]:
        """Yield what is asked for, below the tenant."""
        yield from ()

    async def run(self, site: Site) -> None:
        await ask_all(f"{site.url}goproxy/{_TENANT}/", self.requests(), clients=self.clients)


async def ask_all(base: str, paths: Iterator[str], *, clients: int) -> None:
    """Ask for each path below base, so many at a time; each must be answered."""
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=300) as client:
        await asyncio.gather(*(_ask_each(client, paths) for _ in range(clients)))


async def _ask_each(client: httpx.AsyncClient, pending: Iterator[str]) -> None:
    for path in pending:
        async with client.stream("GET", path) as answer:
            answer.raise_for_status()
            async for _ in answer.aiter_raw():
                pass


class LongLists(Content):
    """Lists of 100,000 versions, each asked for the first time."""

    what = "cold lists of 100,000 versions"
    _count = 10

    def fill(self, cache: Path) -> None:
        for number in range(self._count):
            write_list(cache, f"example.com/long{number}", 100_000)

    def requests(self) -> Iterator[str]:
        for number in range(self._count):
            yield f"example.com/long{number}/@v/list"


class ChangingQueries(Content):
    """One list, whose URL has another query each time."""

    what = "32 connections that ask for a list of 2,000 versions with changing queries"
    clients = 32

    def fill(self, cache: Path) -> None:
        write_list(cache, "example.com/middle", 2_000)

    def requests(self) -> Iterator[str]:
        number = 0
        while True:
            yield f"example.com/middle/@v/list?x={number}"
            number += 1


class LongGoMods(Content):
    """Files of 15 MiB, each nearly all comments or nearly all requirements."""

    what = "cold go.mod files of 15 MiB"
    _size_bytes = 15 << 20

    def fill(self, cache: Path) -> None:
        for name, line in (("words", "// {0:07}\n"), ("needs", "\texample.com/r{0:07} v1.0.0\n")):
            path = f"example.com/{name}"
            count = self._size_bytes // len(line.format(0))
            lines = (line.format(number) for number in range(count))
            body = "".join(lines)
            if name == "needs":
                body = f"require (\n{body})\n"
            write_version(cache, path, mod=go_mod_of(path) + body.encode())

    def requests(self) -> Iterator[str]:
        for name in ("words", "needs"):
            yield f"example.com/{name}/@v/{_VERSION}.mod"


class CrowdedZips(Content):
    """Six zips, asked for at the same time."""

    what = "six cold zips of 200,000 files and folders"
    clients = 6

    def fill(self, cache: Path) -> None:
        first = _crowded_zip(_zip_path(0), 199_800)  # and their folders: 200,000 are the limit
        for number in range(self.clients):
            path = _zip_path(number)
            # Paths of one length: the same archive with other names in it.
            content = first.replace(_zip_path(0).encode(), path.encode())
            write_version(cache, path, mod=f"module {path}\n".encode(), content=content)

    def requests(self) -> Iterator[str]:
        for number in range(self.clients):
            yield f"{_zip_path(number)}/@v/{_VERSION}.zip"


class FirstLists(Content):
    """Short lists of 500 modules, each asked for the first time."""

    what = "500 first lists of different modules"
    clients = 32

    def fill(self, cache: Path) -> None:
        for number in range(500):
            write_list(cache, f"example.com/first{number}", 20)

    def requests(self) -> Iterator[str]:
        for number in range(500):
            yield f"example.com/first{number}/@v/list"


def write_list(cache: Path, path: str, versions: int) -> None:
    """Write a module's list of so many versions as the upstream's folder has it."""
    folder = cache / path / "@v"
    folder.mkdir(parents=True)
    lines = (f"v1.{number // 100}.{number % 100}\n" for number in range(versions))
    (folder / "list").write_text("".join(lines))


def write_version(cache: Path, path: str, *, mod: bytes, content: bytes = b"") -> None:
    """Write one version of a module; content is its zip."""
    folder = cache / path / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{_VERSION}\n")
    (folder / f"{_VERSION}.info").write_bytes(info_of(_VERSION))
    (folder / f"{_VERSION}.mod").write_bytes(mod)
    if content:
        (folder / f"{_VERSION}.zip").write_bytes(content)


def _zip_path(number: int) -> str:
    return f"example.com/crowded{number}"


def _crowded_zip(path: str, entries: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(entries):
            archive.writestr(f"{path}@{_VERSION}/d{number % 100}/f{number}.go", b"package d\n")
    return out.getvalue()
