"""Zips of folders: the same bytes each time, and only what belongs into a module zip."""

import io
import zipfile

import pytest

from app.core.errors import BadInputError
from app.core.gitzip import TreeFile
from app.core.modzip import inspect
from app.core.sourcezip import name_in, write_source_zip

NAME = "corp.example/x@v1.0.0"
FILES = {
    "go.mod": b"module corp.example/x\n\ngo 1.24\n",
    "x.go": b"package x\n",
    "internal/y.go": b"package internal\n",
    "vendor/a.example/b/b.go": b"package b\n",
    "nested/go.mod": b"module corp.example/x/nested\n",
    "nested/n.go": b"package nested\n",
}


def zipped(files: dict[str, bytes], links: tuple[str, ...] = ()) -> bytes:
    listed = [TreeFile(path, True, len(data)) for path, data in files.items()]
    listed += [TreeFile(path, False, 3) for path in links]
    target = io.BytesIO()
    go_mod = files.get("go.mod", b"")
    write_source_zip(target, NAME, listed, go_mod, lambda path: io.BytesIO(files[path]))
    return target.getvalue()


def test_the_zip_is_one_that_is_accepted_and_has_what_go_would_take() -> None:
    data = zipped(FILES, ("link.go",))
    inspect(io.BytesIO(data), "corp.example/x", "v1.0.0")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [name.removeprefix(f"{NAME}/") for name in archive.namelist()]
    assert names == ["go.mod", "internal/y.go", "x.go"]
    assert name_in(io.BytesIO(data)) == NAME


def test_the_order_of_the_folder_does_not_matter() -> None:
    assert zipped(FILES) == zipped(dict(reversed(FILES.items())))


@pytest.mark.parametrize(
    "path", ["A.go", "con.go", "a:b.go", "GO.MOD"], ids=["case", "windows", "colon", "go.mod"]
)
def test_a_name_that_no_zip_may_have_is_refused(path: str) -> None:
    files = {"a.go": b"package a\n", path: b"x"}
    with pytest.raises(BadInputError):
        zipped(files)


@pytest.mark.parametrize("data", [b"", b"no zip", zipped(FILES)[:100]])
def test_what_is_no_zip_names_nothing(data: bytes) -> None:
    assert name_in(io.BytesIO(data)) == ""
