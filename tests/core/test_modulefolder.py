"""Module versions among the names of a folder: a module cache, a disk store of Athens."""

import pytest

from app.core.goproxy import RequestKind
from app.core.modulefolder import versions_in

CACHE = "cache/download/github.com/!burnt!sushi/toml/@v"


@pytest.mark.parametrize("start", ["cache/download/", ""], ids=["GOMODCACHE", "its downloads"])
def test_a_module_cache(start: str) -> None:
    paths = [
        f"{start}github.com/!burnt!sushi/toml/@v/{name}"
        for name in ("list", "v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip", "v1.0.0.ziphash")
    ]
    [version] = versions_in([*paths, f"{start}sumdb/sum.golang.org/lookup/x@v1.0.0", "x/y.go"])
    assert version.name == "github.com/BurntSushi/toml@v1.0.0"
    assert set(version.paths) == {RequestKind.INFO, RequestKind.MOD, RequestKind.ZIP}
    assert version.hash_path == paths[-1]


def test_a_disk_store_of_athens() -> None:
    start = "github.com/BurntSushi/toml/v1.0.0"
    paths = [f"{start}/v1.0.0.info", f"{start}/go.mod", f"{start}/source.zip"]
    [version] = versions_in(paths)
    assert version.name == "github.com/BurntSushi/toml@v1.0.0"
    assert [version.paths[kind] for kind in ("info", "mod", "zip")] == paths


@pytest.mark.parametrize(
    "path",
    [
        f"{CACHE}/list",
        f"{CACHE}/v1.0.0.lock",
        f"{CACHE}/v1.0.0.ziphash",
        f"{CACHE}/master.info",
        f"{CACHE}/v2.0.0.zip",
        f"{CACHE}/v1.0.zip",
        "cache/download/github.com/BurntSushi/toml/@v/v1.0.0.zip",
        "cache/download/../../etc/@v/v1.0.0.zip",
        "github.com/x/v1.0.0/x.go",
        "v1.0.0/go.mod",
        "@v/v1.0.0.zip",
        "",
    ],
)
def test_what_is_no_file_of_a_canonical_version_is_passed_over(path: str) -> None:
    assert versions_in([path]) == []
