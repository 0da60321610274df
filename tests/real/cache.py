"""A module cache of the go command as an upstream on loopback, with a log of its modules' sums.

Served are the .info, .mod and .zip files and the lists below `cache/download`, byte for byte as
they came. Everything else is not found: so a list names the versions that were downloaded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from tests.fakes.faults import Reply, rope
from tests.fakes.modules import mod_h1_of
from tests.fakes.server import FakeServer
from tests.fakes.sumdb import FakeSumdb
from tests.fakes.wire import RecordedRequest

_KINDS = {".info", ".mod", ".zip"}
_NO_ZIP = "h1:" + "A" * 43 + "="


@dataclass(frozen=True)
class ModuleCache:
    """What GOMODCACHE is set to."""

    folder: Path

    @property
    def downloads(self) -> Path:
        """The files as they came: <escaped path>/@v/<escaped version>.zip."""
        return self.folder / "cache" / "download"

    def files(self) -> list[str]:
        """Return the paths of what is served, as GOPROXY paths: "rsc.io/quote/@v/v1.5.2.mod"."""
        paths = (path for path in self.downloads.rglob("@v/*") if path.is_file())
        served = (path for path in paths if path.suffix in _KINDS or path.name == "list")
        return sorted(str(path.relative_to(self.downloads)) for path in served)

    def sums(self) -> Iterator[tuple[str, str, str, str]]:
        """Return path, version, h1 of the zip and h1 of the go.mod of each version with a .mod."""
        for name in self.files():
            if name.endswith(".mod"):
                path, _, version = name.removesuffix(".mod").partition("/@v/")
                zip_hash = (self.downloads / name).with_suffix(".ziphash")
                zip_h1 = zip_hash.read_text().strip() if zip_hash.exists() else _NO_ZIP
                go_mod_h1 = mod_h1_of((self.downloads / name).read_bytes())
                yield plain(path), plain(version), zip_h1, go_mod_h1


def plain(escaped: str) -> str:
    """Return the plain form: "github.com/!burnt!sushi/toml" is "github.com/BurntSushi/toml"."""
    return re.sub(r"!([a-z])", lambda match: match[1].upper(), escaped)


class CacheServer(FakeServer):
    """A GOPROXY that has what a module cache has."""

    def __init__(self, cache: ModuleCache) -> None:
        super().__init__()
        self._downloads = cache.downloads
        self._names = frozenset(cache.files())

    def answer(self, request: RecordedRequest) -> Reply:
        """Return the file, or 404."""
        name = unquote(request.path).lstrip("/")
        if name not in self._names:
            return Reply(404, {"Content-Type": "text/plain"}, rope(b"not found: not downloaded\n"))
        return Reply(body=rope((self._downloads / name).read_bytes()))


def log_of(cache: ModuleCache) -> FakeSumdb:
    """Return a checksum database, not started, that has a record of each version of the cache."""
    log = FakeSumdb()
    for path, version, zip_h1, go_mod_h1 in cache.sums():
        log.add(path, version, zip_h1, go_mod_h1)
    return log
