"""Runs of the real `go`: direct from the git server, and through a GOPROXY."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gitparity.corpus import HOST
from tests.gohome import go_home

_RANGE = re.compile(r"latest|upgrade|patch|v\d+(\.\d+)?|[<>].*")
_PATHS = ("Info", "GoMod", "Zip", "Dir", "Reuse", "Error", "Path", "Query", "Replace")


@dataclass(frozen=True, slots=True)
class GoRuns:
    """Runs of one go.

    Attributes:
        go: the program.
        folder: for caches and homes.
        meta_url: what answers `?go-get=1` of HOST, as an HTTP proxy.
        netrc: for the git server, "" for none.
        ssh: the command by which git reaches it, "" for HTTP.
    """

    go: Path
    folder: Path
    meta_url: str
    netrc: str = ""
    ssh: str = ""

    @contextmanager
    def _cache(self) -> Iterator[Path]:
        cache = Path(tempfile.mkdtemp(dir=self.folder))
        try:
            yield cache
        finally:
            subprocess.run(["/bin/chmod", "-R", "u+w", str(cache)], check=False)
            shutil.rmtree(cache, ignore_errors=True)

    def _run(self, cache: Path, goproxy: str, arguments: Sequence[str]) -> str:
        main = cache / "main"
        main.mkdir(exist_ok=True)
        (main / "go.mod").write_text("module main.example/m\n\ngo 1.21\n")
        if self.netrc:
            (cache / ".netrc").write_text(self.netrc)
        done = subprocess.run(
            [str(self.go), *arguments],
            cwd=main,
            capture_output=True,
            check=False,
            env={
                "PATH": f"{self.go.parent}:{os.environ['PATH']}",
                "HOME": go_home(cache),
                "GOENV": "off",
                "GOTOOLCHAIN": "local",
                "GOFLAGS": "-mod=mod -modcacherw",
                "GOMODCACHE": str(cache / "mod"),
                "GOCACHE": str(self.folder / "gocache"),
                "GOPROXY": goproxy,
                "GONOSUMDB": "*",
                "GOINSECURE": HOST,
                "GOVCS": "*:git",
                "HTTP_PROXY": self.meta_url if goproxy == "direct" else "",
                "HTTPS_PROXY": self.meta_url if goproxy == "direct" else "",
                "NO_PROXY": "127.0.0.1",
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
                "GIT_SSH_COMMAND": self.ssh or "false",
            },
        )
        return done.stdout.decode()

    def download(self, goproxy: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what `go mod download -json` says of module versions, by "module@query".

        The contents of .info and .mod are taken in; what differs between two caches is left out.
        """
        with self._cache() as cache:
            printed = self._run(cache, goproxy, ["mod", "download", "-json", *names])
            documents = [_seen(document) for document in _documents(printed)]
        return dict(zip(names, documents, strict=True))

    def downloads(self, goproxy: str, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return `download` of each name, each with a cache of its own.

        In a shared cache, Origin depends on what `go` fetched before.
        """
        return {name: self.download(goproxy, [name])[name] for name in names}

    def listed(self, goproxy: str, names: Sequence[str]) -> dict[str, Any]:
        """Return what `go list -m -versions -json` says: versions, or a module at a query.

        Not its Origin: a GOPROXY's list has none.
        """
        with self._cache() as cache:
            arguments = ["list", "-m", "-e", "-versions", "-retracted", "-json", *names]
            printed = self._run(cache, goproxy, arguments)
            documents = list(_documents(printed))
        return {
            name: {
                key: document.get(key)
                for key in ("Version", "Versions", "Time", "Retracted", "Deprecated")
            }
            | {"fails": bool(document.get("Error"))}
            for name, document in zip(names, documents, strict=True)
        }


def _documents(printed: str) -> Iterator[dict[str, Any]]:
    decoder, at = json.JSONDecoder(), 0
    printed = printed.strip()
    while at < len(printed):
        document, at = decoder.raw_decode(printed, at)
        yield document
        at += len(printed[at:]) - len(printed[at:].lstrip())


def _seen(document: dict[str, Any]) -> dict[str, Any]:
    if document.get("Error"):
        return {"fails": True, "why": document["Error"]}
    seen = {key: value for key, value in document.items() if key not in _PATHS}
    seen["fails"] = False
    if _RANGE.fullmatch(document.get("Query", "")):
        seen.pop("Origin", None)  # chosen from a list, which has no Origin in a GOPROXY
    for key in ("Info", "GoMod"):
        if document.get(key):
            seen[key] = Path(document[key]).read_text("utf-8", "replace")
    return seen


def differences(direct: dict[str, Any], proxied: dict[str, Any]) -> list[str]:
    """Return in words what differs; the reasons of failures may."""
    lines = []
    for name, one in direct.items():
        other = proxied.get(name, {})
        keys = sorted(({*one, *other}) - {"why"})
        if one.get("fails") and other.get("fails"):
            continue
        for key in keys:
            if one.get(key) != other.get(key):
                why = one.get("why") or other.get("why") or ""
                lines.append(
                    f"{name} {key}: direct {one.get(key)!r}, Moorage {other.get(key)!r} {why}"
                )
    return lines
