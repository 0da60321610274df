import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import gorelease
from app.core.digest import Digest
from app.core.errors import BadInputError
from app.core.gorelease import (
    FileName,
    Release,
    ReleaseFile,
    ReleaseFileKind,
    ReleaseIndex,
    SkippedEntries,
    Support,
    newest_supported,
    parse_filename,
    support_of,
    supported_minors,
)
from app.core.releaseindex import MAX_INDEX_BYTES, parse_index, render_index

SHA = "49bbb517cfa9eee677e1e7897f7cf9cfdbcf49e05f61984a2789136de359f9bd"


def a_file(**changes: Any) -> dict[str, Any]:
    return {
        "filename": "go1.23.1.linux-amd64.tar.gz",
        "os": "linux",
        "arch": "amd64",
        "version": "go1.23.1",
        "sha256": SHA,
        "size": 73598519,
        "kind": "archive",
    } | changes


def a_release(**changes: Any) -> dict[str, Any]:
    return {"version": "go1.23.1", "stable": True, "files": [a_file()]} | changes


def an_index(*versions: str) -> ReleaseIndex:
    """Return one release per version, each with a source archive."""
    items = [
        a_release(
            version=version,
            stable="rc" not in version and "beta" not in version,
            files=[a_file(version=version, filename=f"{version}.src.tar.gz", kind="source")],
        )
        for version in versions
    ]
    return parse_index(encoded(items))


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


def without(item: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in item.items() if k != key}


def names(releases: tuple[Release, ...]) -> list[str]:
    return [release.version for release in releases]


# Names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("go1.27.1.linux-amd64.tar.gz", ("go1.27.1", "linux-amd64", "tar.gz")),
        ("go1.27.1.src.tar.gz", ("go1.27.1", "src", "tar.gz")),
        ("go1.27.1.linux-armv6l.tar.gz", ("go1.27.1", "linux-armv6l", "tar.gz")),
        ("go1.27.1.windows-amd64.zip", ("go1.27.1", "windows-amd64", "zip")),
        ("go1.28rc1.darwin-arm64.pkg", ("go1.28rc1", "darwin-arm64", "pkg")),
        ("go1.9.2rc2.linux-386.tar.gz", ("go1.9.2rc2", "linux-386", "tar.gz")),
        ("go1.linux-amd64.tar.gz", ("go1", "linux-amd64", "tar.gz")),
        ("go1.5.2.darwin-amd64-osx10.8.pkg", ("go1.5.2", "darwin-amd64-osx10.8", "pkg")),
        ("go1.2.2.windows-386.msi", ("go1.2.2", "windows-386", "msi")),
        ("go1.4-bootstrap-20171003.tar.gz", ("go1.4-bootstrap-20171003", "", "tar.gz")),
    ],
)
def test_a_real_name_comes_apart(name: str, parts: tuple[str, str, str]) -> None:
    assert parse_filename(name) == FileName(*parts)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "go1.27.1",
        "go1.27.1.linux-amd64.tar.gz.asc",
        "go1.27.1.linux-amd64.tar.gz.sha256",
        "go1.27.1.linux-amd64.tar.bz2",
        "go1.27.1.linux-amd64.tar.gz\n",
        "go1.27.1.linux-amd64.TAR.GZ",
        "Go1.27.1.src.tar.gz",
        "gopher.tar.gz",
        "go.tar.gz",
        "go1..src.tar.gz",
        "../go1.27.1.src.tar.gz",
        "go1/../x.zip",
        "go1/x.zip",
        "go1\\x.zip",
        "go1 x.zip",
        "go1%2e%2e.zip",
        "go1\u0661.zip",
        "go1\x00.zip",
        "go1" + "x" * gorelease.FILENAME_MAX + ".zip",
    ],
)
def test_F61_a_name_outside_the_grammar_is_refused(name: str) -> None:
    with pytest.raises(BadInputError, match="not the name of a Go release file") as caught:
        parse_filename(name)
    assert str(caught.value).isprintable()


def test_the_longest_name_is_accepted() -> None:
    name = "go1" + "x" * (gorelease.FILENAME_MAX - 7) + ".zip"
    assert len(name) == gorelease.FILENAME_MAX
    assert parse_filename(name).suffix == "zip"


# The index: accepted


def test_an_index_gives_every_fact_of_a_file() -> None:
    index = parse_index(encoded([a_release()]))
    (release,) = index.releases
    assert release.files == (
        ReleaseFile(
            filename="go1.23.1.linux-amd64.tar.gz",
            os="linux",
            arch="amd64",
            version="go1.23.1",
            sha256=Digest(SHA),
            size_bytes=73598519,
            kind=ReleaseFileKind.ARCHIVE,
        ),
    )
    assert (release.version, release.stable) == ("go1.23.1", True)
    assert release.files[0].verifiable
    assert release.files[0].suffix == "tar.gz"


def test_releases_come_newest_first_whatever_the_order_of_the_input() -> None:
    mixed = an_index("go1.9.2rc2", "go1.9.2", "go1.27rc1", "go1.10", "go1.27.0", "go1.27.10")
    assert names(mixed.releases) == [
        "go1.27.10",
        "go1.27.0",
        "go1.27rc1",
        "go1.10",
        "go1.9.2",
        "go1.9.2rc2",
    ]


@pytest.mark.parametrize(
    "file",
    [
        a_file(added_later={"x": [1.5, None]}),
        a_file(os="4", arch="bootstrap", filename="go1.4-bootstrap-20171003.tar.gz"),
        a_file(arch="arm6"),
        a_file(arch="armv6l"),
        a_file(os="", arch="", kind="source"),
        a_file(filename="go1.2.2.windows-386.msi", kind="installer"),
        a_file(size=gorelease.MAX_FILE_BYTES),
    ],
)
def test_an_odd_but_real_entry_is_accepted(file: dict[str, Any]) -> None:
    assert parse_index(encoded([a_release(files=[file])])).releases[0].files[0].verifiable


@pytest.mark.parametrize("change", [{"sha256": ""}, {"size": 0}, {"sha256": "", "size": 0}])
def test_a_file_without_sha256_or_size_is_accepted_but_not_verifiable(
    change: dict[str, Any],
) -> None:
    (release,) = parse_index(encoded([a_release(files=[a_file(**change)])])).releases
    assert not release.files[0].verifiable


def test_several_files_for_one_platform_are_kept_in_order() -> None:
    first, second = "go1.4.darwin-amd64-osx10.6.pkg", "go1.4.darwin-amd64-osx10.8.pkg"
    files = [a_file(filename=name, kind="installer") for name in (second, first)]
    (release,) = parse_index(encoded([a_release(files=files)])).releases
    assert [file.filename for file in release.files] == [second, first]


def test_a_release_that_is_no_go_version_is_kept_but_not_final() -> None:
    (release,) = an_index("go1.9.2rc2").releases
    assert not release.is_final


# The index: refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>sorry</html>", "not JSON"),
        (b"[", "not JSON"),
        (b"\xff[]", "not JSON"),
        (b"\xef\xbb\xbf[]", "not JSON"),
        (b'[{"a": NaN}]', "not JSON"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b'[{"version": "go1.1", "version": "go1.2"}]', "key twice"),
        (b"[" * 1_000_000, "nested too deeply"),
        (b'{"a":' * 1_000_000, "nested too deeply"),
        (b"{}", "an object, not a list"),
        (b"null", "null, not a list"),
        (b"[]", "has no release that is understood"),
        (b" " * (MAX_INDEX_BYTES + 1), "over the limit"),
        (b"[1]", r"\[0\] is a number, not an object"),
        (b"[[]]", r"\[0\] is a list, not an object"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_F61_data_that_is_no_index_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        parse_index(data)
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": 1}, r"\[0\]\.version is a number"),
        ({"version": "1.23.1"}, "not a release name"),
        ({"version": "go1..2"}, "not a release name"),
        ({"version": "go1.2/3"}, "not a release name"),
        ({"version": "go1.2\n"}, "not a release name"),
        ({"stable": 1}, r"\[0\]\.stable is a number"),
        ({"stable": None}, r"\[0\]\.stable is null"),
        ({"files": None}, r"\[0\]\.files is null"),
        ({"files": {}}, r"\[0\]\.files is an object"),
        ({"files": []}, r"\[0\]\.files has no file that is understood"),
        ({"version": "tip"}, "'tip', not a release name"),
        ({"files": ["x"]}, r"\[0\]\.files\[0\] is a string, not an object"),
    ],
)
def test_F61_a_release_that_is_not_understood_is_skipped_and_the_rest_taken(
    changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BadInputError, match=reason):
        parse_index(encoded([a_release(**changes)]))
    file = a_file(version="go1.22.1", filename="go1.22.1.src.tar.gz")
    other = a_release(version="go1.22.1", files=[file])
    index = parse_index(encoded([a_release(**changes), other]))
    assert names(index.releases) == ["go1.22.1"]
    assert re.search(reason, "\n".join(s.first for s in index.skipped))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sha256": SHA[1:]}, "sha256 is '9bbb"),
        ({"sha256": SHA.upper()}, "not 64 lower-case hex"),
        ({"sha256": SHA + "\n"}, "not 64 lower-case hex"),
        ({"sha256": " "}, "not 64 lower-case hex"),
        ({"sha256": None}, "sha256 is null"),
        ({"size": -1}, "size is -1, not 0 to 4294967296"),
        ({"size": gorelease.MAX_FILE_BYTES + 1}, "size is 4294967297"),
        ({"size": 10**4000}, "size is 1000"),
        ({"size": True}, "size is a boolean"),
        ({"size": 1.0}, "size is a number"),
        ({"size": "1"}, "size is a string"),
        ({"filename": "../x"}, r"filename: '\.\./x' is not the name"),
        ({"filename": "/etc/passwd.zip"}, "is not the name"),
        ({"filename": "go1\x1b[31m.zip"}, r"\\x1b"),
        ({"filename": None}, "filename is null"),
        ({"version": "go1.23.2"}, "version is 'go1.23.2', not its release's"),
        ({"kind": "wheel"}, "kind is 'wheel', not one of archive, installer, source"),
        ({"kind": "Archive"}, "not one of"),
        ({"os": 4}, "os is a number"),
        ({"os": "a b"}, "os is 'a b', not a name"),
        ({"arch": "\ud800"}, "not a name"),
    ],
)
def test_F61_a_file_that_is_not_understood_is_skipped_and_the_rest_taken(
    changes: dict[str, Any], reason: str
) -> None:
    good = a_file(filename="go1.23.1.src.tar.gz")
    index = parse_index(encoded([a_release(files=[good, a_file(**changes), a_file(**changes)])]))
    assert [f.filename for r in index.releases for f in r.files] == [good["filename"]]
    (skipped,) = index.skipped
    assert (skipped.key, skipped.count) == (next(iter(changes)), 2)
    assert re.search(reason, skipped.first)
    assert skipped.first.startswith("[0].files[1].")
    assert len(skipped.first) <= 200
    assert skipped.first.isprintable()


@pytest.mark.parametrize("key", list(a_file()))
def test_F61_a_file_that_lacks_a_key_is_skipped(key: str) -> None:
    good = a_file(filename="go1.23.1.src.tar.gz")
    index = parse_index(encoded([a_release(files=[good, without(a_file(), key)])]))
    assert len(index.releases[0].files) == 1
    assert index.skipped == (SkippedEntries(key, 1, f"[0].files[1] has no {key}"),)


@pytest.mark.parametrize("key", list(a_release()))
def test_F61_a_release_that_lacks_a_key_is_skipped(key: str) -> None:
    index = parse_index(encoded([without(a_release(version="go1.24.1"), key), a_release()]))
    assert names(index.releases) == ["go1.23.1"]
    assert index.skipped == (SkippedEntries(key, 1, f"[0] has no {key}"),)


def test_unknown_keys_are_ignored_and_counted() -> None:
    known = parse_index(encoded([a_release()]))
    more = parse_index(encoded([a_release(files=[a_file(goarm=6, libc=None)], security=True)]))
    assert more.releases == known.releases
    assert more.skipped == (SkippedEntries("unknown key", 3, "[0] has the key 'security'"),)


def test_F61_a_filename_that_comes_twice_is_taken_once_even_across_releases() -> None:
    other = a_release(
        version="go1.23.2",
        files=[a_file(version="go1.23.2"), a_file(version="go1.23.2", filename="go1.23.2.zip")],
    )
    for items in ([a_release(files=[a_file(), a_file()])], [a_release(), other]):
        index = parse_index(encoded(items))
        taken = [f.filename for r in index.releases for f in r.files]
        assert taken.count(a_file()["filename"]) == 1
        (skipped,) = index.skipped
        assert re.search(r"filename 'go1\.23\.1\.linux.*comes twice", skipped.first)


@pytest.mark.parametrize("change", [{"sha256": "ab" * 32}, {"size": 5}, {"sha256": ""}])
def test_F62_a_filename_that_comes_twice_with_other_bytes_refuses_the_index(
    change: dict[str, Any],
) -> None:
    items = [a_release(files=[a_file(), a_file(**change)])]
    with pytest.raises(BadInputError, match=r"comes twice, with different sha256 or size"):
        parse_index(encoded(items))


def test_F61_a_version_that_comes_twice_is_taken_once() -> None:
    again = a_release(files=[a_file(filename="go1.23.1.src.tar.gz")])
    index = parse_index(encoded([a_release(), again]))
    assert index.releases == parse_index(encoded([a_release()])).releases
    assert index.skipped == (SkippedEntries("version", 1, "[1].version 'go1.23.1' comes twice"),)


def test_an_index_that_grew_gives_all_that_is_understood() -> None:
    sbom = a_file(filename="go1.23.1.sbom.tar.gz", kind="sbom")
    files = [
        a_file(),
        sbom,
        a_file(filename="go1.23.1.linux-amd64.tar.zst"),
        a_file(filename="go1.23.1.wasm.zip", arch=None),
        sbom,
    ]
    tip = a_release(version="tip", files=[a_file(version="tip")])
    index = parse_index(encoded([tip, a_release(files=files)]))
    assert index.releases == parse_index(encoded([a_release()])).releases
    assert [(s.key, s.count) for s in index.skipped] == [
        ("kind", 2),
        ("arch", 1),
        ("filename", 1),
        ("version", 1),
    ]


GOOD = render_index(an_index("go1.28rc1", "go1.27.1", "go1.9.2rc2").releases)


def parsed_or_refused(data: bytes) -> ReleaseIndex | None:
    """Return the index, None where it was refused as it should; any other error fails the test."""
    try:
        return parse_index(data)
    except BadInputError as error:
        assert len(str(error)) <= 200
        assert str(error).isprintable()
        return None


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_F61_arbitrary_bytes_are_never_more_than_refused(data: bytes) -> None:
    assert parsed_or_refused(data) is None


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=200)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.sampled_from(list(a_file())), json_values)
def test_F61_any_json_value_for_a_key_is_accepted_or_refused(key: str, value: object) -> None:
    parsed_or_refused(encoded([a_release(files=[a_file(**{key: value})])]))
    parsed_or_refused(encoded([a_release(), value]))


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_F61_a_flipped_byte_gives_an_index_or_a_refusal(position: int, flip: int) -> None:
    damaged = bytearray(GOOD)
    damaged[position] ^= flip
    if index := parsed_or_refused(bytes(damaged)):
        assert parse_index(render_index(index.releases)).releases == index.releases


def test_F61_every_truncation_is_refused() -> None:
    whole = GOOD.rstrip()
    for length in range(len(whole)):
        assert parsed_or_refused(whole[:length]) is None


# Rendering


def test_an_index_is_rendered_as_go_dev_does() -> None:
    assert render_index(parse_index(encoded([a_release()])).releases) == (
        b'[\n {\n  "version": "go1.23.1",\n  "stable": true,\n  "files": [\n   {\n'
        b'    "filename": "go1.23.1.linux-amd64.tar.gz",\n'
        b'    "os": "linux",\n    "arch": "amd64",\n    "version": "go1.23.1",\n'
        b'    "sha256": "' + SHA.encode() + b'",\n    "size": 73598519,\n'
        b'    "kind": "archive"\n   }\n  ]\n }\n]\n'
    )


def test_rendering_puts_the_newest_first_and_nothing_into_an_empty_list() -> None:
    releases = an_index("go1.27.1", "go1.26.4").releases
    assert render_index(reversed(releases)) == render_index(releases)
    assert render_index(()) == b"[]\n"


digests = st.binary(max_size=8).map(Digest.of)
release_names = st.from_regex(r"go1\.[0-9]{1,2}(\.[0-9]|rc[0-9])?", fullmatch=True)


@st.composite
def indexes(draw: st.DrawFn) -> ReleaseIndex:
    return ReleaseIndex(
        tuple(
            Release(
                version,
                draw(st.booleans()),
                tuple(
                    ReleaseFile(
                        filename=f"{version}.{platform}.{draw(st.sampled_from(['zip', 'tar.gz']))}",
                        os=draw(st.sampled_from(["", "linux", "4"])),
                        arch=draw(st.sampled_from(["", "amd64", "arm6"])),
                        version=version,
                        sha256=draw(st.none() | digests),
                        size_bytes=draw(st.integers(0, gorelease.MAX_FILE_BYTES)),
                        kind=draw(st.sampled_from(ReleaseFileKind)),
                    )
                    for platform in draw(
                        st.lists(
                            st.from_regex("[a-z]{1,5}", fullmatch=True), min_size=1, unique=True
                        )
                    )
                ),
            )
            for version in draw(st.lists(release_names, min_size=1, max_size=4, unique=True))
        )
    )


@settings(max_examples=50)
@given(indexes())
def test_a_rendered_index_parses_to_the_same(index: ReleaseIndex) -> None:
    assert parse_index(render_index(index.releases)) == index


# Support


def test_supported_minors_are_the_two_newest_with_a_stable_release() -> None:
    versions = ["go1.25.9", "go1.28rc1", "go1.9.2rc2", "go1.26.4", "go1.27.0", "go1.27.1", "x"]
    assert supported_minors(versions) == ("1.27", "1.26")
    assert supported_minors(["go1.28rc1", "go1.27.0"]) == ("1.27",)
    assert supported_minors([]) == ()


@pytest.mark.parametrize(
    ("version", "support"),
    [
        ("go1.27.1", Support.SUPPORTED),
        ("go1.27.0", Support.SUPPORTED),
        ("go1.26", Support.SUPPORTED),
        ("go1.28.0", Support.SUPPORTED),
        ("go1.25.9", Support.END_OF_LIFE),
        ("go1.9.2rc2", Support.END_OF_LIFE),
        ("go1.28rc1", Support.PRERELEASE),
        ("go1.27rc1", Support.END_OF_LIFE),
        ("go1.5beta1", Support.END_OF_LIFE),
    ],
)
def test_support_follows_the_two_newest_minors(version: str, support: Support) -> None:
    assert support_of(version, ("1.27", "1.26")) is support


def test_before_the_first_stable_release_everything_valid_is_ahead() -> None:
    assert support_of("go1.28rc1", ()) is Support.PRERELEASE
    assert support_of("go1.9.2rc2", ()) is Support.END_OF_LIFE


def test_newest_supported_is_the_newest_stable_patch_of_the_two_newest_minors() -> None:
    index = an_index(
        "go1.28rc1", "go1.27.1", "go1.27.0", "go1.26.4", "go1.26.10", "go1.25.9", "go1.9.2rc2"
    )
    assert names(newest_supported(index.releases)) == ["go1.27.1", "go1.26.10"]


def test_support_words_are_those_of_the_json_answers() -> None:
    assert [str(word) for word in Support] == ["supported", "end-of-life", "pre-release", "own"]
