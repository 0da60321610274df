"""Names of own releases: never one that go.dev has or may get."""

from datetime import UTC, datetime

import pytest

from app.core import goversion
from app.core.channel import Manifest, ManifestRelease, manifest_text, parse_manifest, release_name
from app.core.containertag import release_tags
from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import (
    Release,
    ReleaseFile,
    ReleaseFileKind,
    Support,
    newest_supported,
    parse_filename,
    support_of,
    supported_minors,
)
from app.core.ownrelease import is_own, own_name
from app.core.releaseindex import parse_index, render_index
from app.core.releaselist import render_refs, render_version
from app.core.selection import Selection, select
from app.core.toolchain import module_version, release_of
from app.node.goversion import is_version

OWN = ("go1.25.9-corp1", "go1.25-corp", "go1.25.0-a", "go1.25.9-corp-2026-11", "go1.18.3-x9")
NOT_OWN = (
    "go1.25.9",
    "go1.25.9-",
    "go1.25.9-1",
    "go1.25.9-Corp1",
    "go1.25.9-corp_1",
    "go1.25.9-corp.1",
    "go1.25.9--corp",
    "go1.25.9-corp-",
    "go1.25rc1-corp",
    "go1.025.9-corp",
    "go1-corp",
    "go-corp",
    "1.25.9-corp1",
    "go1.4-bootstrap-20171003",
    "go1.4-bootstrap",
    "go1.25.9-rc1",
    "go1.25.9-beta",
    "go1.25.9-alpha2",
    "go1.25.9-dev",
    "go1.25.9-src",
    "go1.25.9-" + "x" * 40,
    "go1.25.9-corp1\n",
    "go1.25.9-cörp",
)


@pytest.mark.parametrize("name", OWN)
def test_an_own_name(name: str) -> None:
    assert is_own(name)
    assert own_name(name) == own_name(name.removeprefix("go")) == name
    assert release_name(name) == release_name(name.removeprefix("go")) == name
    assert is_version(name)  # to nodes, too
    assert release_of(module_version(name, "linux", "amd64")) == name
    assert parse_filename(f"{name}.linux-amd64.tar.gz").version == name
    assert parse_filename(f"{name}.src.tar.gz").platform == "src"


@pytest.mark.parametrize("name", NOT_OWN)
def test_no_own_name(name: str) -> None:
    assert not is_own(name)
    if name.startswith("go"):
        with pytest.raises(BadInputError, match=r"go1\.25\.9-corp1"):
            own_name(name)


def test_whatever_is_a_version_of_go_is_no_own_name() -> None:
    for version in ("1", "1.2", "1.2.2", "1.21rc2", "1.28beta1", "1.27.1", "2.0.0", "1.9.2rc2"):
        assert not is_own(f"go{version}")
    for name in OWN:
        assert not goversion.is_valid(name.removeprefix("go"))


def release(version: str) -> Release:
    name = f"{version}.linux-amd64.tar.gz"
    digest = Digest.of(name.encode())
    file = ReleaseFile(name, "linux", "amd64", version, digest, 9, ReleaseFileKind.ARCHIVE)
    return Release(version, stable=True, files=(file,))


RELEASES = tuple(map(release, ("go1.25.9", "go1.25.9-corp1", "go1.24.3", "go1.27.0-corp1")))


def test_an_own_release_is_never_the_newest_of_anything() -> None:
    names = [one.version for one in RELEASES]
    assert supported_minors(names) == ("1.25", "1.24")
    assert [one.version for one in newest_supported(RELEASES)] == ["go1.25.9", "go1.24.3"]
    assert render_version(RELEASES, {}) == b"go1.25.9\n"
    assert b"corp" not in render_refs(RELEASES, smart=False)
    tags = release_tags(RELEASES)
    assert (tags["1.25"], tags["1.25.9-corp1"]) == ("go1.25.9", "go1.25.9-corp1")
    assert "1.27" not in tags


def test_an_own_release_is_marked() -> None:
    minors = ("1.25", "1.24")
    assert support_of("go1.25.9-corp1", minors) is Support.OWN
    assert support_of("go1.25.9", minors) is Support.SUPPORTED
    rendered = render_index(RELEASES).decode()
    assert rendered.count('"own": true') == 2
    manifest_of = [ManifestRelease(name, ()) for name in ("go1.25.9", "go1.25.9-corp1")]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    manifest = Manifest("stable", 1, "go1.25.9-corp1", tuple(manifest_of), at, at)
    text = manifest_text(manifest)
    assert text.count('"own":true') == 1
    assert parse_manifest(text) == manifest
    with pytest.raises(BadInputError):
        parse_manifest(text.replace('"own":true,', ""))


def test_an_index_can_not_bring_an_own_release() -> None:
    """Not under its name, and not as a file of another release."""
    index = parse_index(render_index(RELEASES))
    assert {one.version for one in index.releases} == {"go1.25.9", "go1.24.3"}
    [skipped] = [one for one in index.skipped if one.key == "version"]
    assert (skipped.count, "a name of own releases" in skipped.first) == (2, True)
    lie = render_index([release("go1.24.3")]).replace(b"go1.24.3.linux", b"go1.24.3-corp1.linux")
    with pytest.raises(BadInputError, match="own release"):
        parse_index(lie)


def test_a_selection_takes_none_but_what_channels_name() -> None:
    index = parse_index(render_index([release("go1.25.9")]))
    everything = type(index)(RELEASES)
    selection = Selection(
        stable_only=False,
        minors=9,
        patches=9,
        os=frozenset({"linux"}),
        arch=frozenset({"amd64"}),
        kinds=frozenset(ReleaseFileKind),
        pins=("1.25", "1.25.9"),
    )
    assert all(not is_own(one.file.version) for one in select(everything, selection))
