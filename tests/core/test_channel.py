"""Channels, revisions, and the one text of a manifest."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.channel import (
    MANIFEST_LIFE,
    MAX_ALSO,
    Channel,
    Choice,
    Manifest,
    ManifestFile,
    ManifestRelease,
    Revision,
    RevisionState,
    ZstdForm,
    difference,
    manifest_text,
    parse_manifest,
    release_name,
)
from app.core.errors import BadInputError
from app.core.note import open_note, sign
from app.core.notekey import generate
from app.core.noun import checked

AT = datetime(2026, 11, 27, 12, 30, 15, 999_999, tzinfo=UTC)
HEX = "ab" * 32


def a_file(number: int = 1, **more: Any) -> ManifestFile:
    name = f"go1.23.{number}.linux-amd64.tar.gz"
    derived = {"tree": HEX, "chunks": HEX, "h1": "h1:x="}
    return ManifestFile(name, "linux", "amd64", "archive", 7, HEX, **(derived | more))


def a_manifest(*files: ManifestFile) -> Manifest:
    release = ManifestRelease("go1.23.1", files or (a_file(),))
    return Manifest("stable", 7, "go1.23.1", (release,), AT, AT).issued(AT)


def a_revision(number: int, current: str, *also: str) -> Revision:
    return Revision(
        current=current,
        also=also,
        channel="stable",
        revision=number,
        state=RevisionState.PAST,
        actor="cli",
        created_at=AT,
    )


def test_a_manifests_text_is_the_documented_one() -> None:
    zst = ZstdForm(1, HEX, HEX)
    assert manifest_text(a_manifest(a_file(zst=zst))) == (
        "moorage channel 1\n"
        '{"channel":"stable","current":"go1.23.1","expires_at":"2026-12-11T12:30:15Z",'
        '"issued_at":"2026-11-27T12:30:15Z","releases":[{"files":[{"arch":"amd64",'
        f'"chunks":"{HEX}","filename":"go1.23.1.linux-amd64.tar.gz","h1":"h1:x=",'
        f'"kind":"archive","os":"linux","sha256":"{HEX}","size":7,"tree":"{HEX}",'
        f'"zst":{{"chunks":"{HEX}","sha256":"{HEX}","size":1}}}}],"version":"go1.23.1"}}],'
        '"revision":7}\n'
    )


def test_what_a_file_does_not_have_is_left_out() -> None:
    text = manifest_text(a_manifest(a_file(h1="", tree="", chunks="")))
    assert all(f'"{key}"' not in text for key in ("h1", "tree", "chunks", "zst"))


def test_a_text_gives_its_manifest_back() -> None:
    manifest = a_manifest(a_file(), a_file(2, zst=ZstdForm(1, HEX, HEX)), a_file(3, tree=""))
    read = parse_manifest(manifest_text(manifest))
    assert read == manifest
    assert (read.issued_at, read.expires_at) == (manifest.issued_at, manifest.expires_at)


def test_manifests_of_one_content_are_equal_whenever_they_were_issued() -> None:
    later = a_manifest().issued(AT + timedelta(days=3))
    assert later == a_manifest()
    assert later.expires_at - later.issued_at == MANIFEST_LIFE
    assert replace(later, revision=8) != a_manifest()


TEXT = manifest_text(a_manifest())


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.removesuffix("\n"),
        TEXT + "\n",
        TEXT.replace("channel 1", "channel 2"),
        TEXT.replace(":7,", ": 7,"),
        TEXT.replace('"revision":7', '"revision":7,"revision":7'),
        TEXT.replace('"kind":"archive",', ""),
        TEXT.replace('"kind":', '"more":1,"kind":'),
        TEXT.replace(":7,", ':"7",'),
        TEXT.replace(":7}", ":true}"),
        TEXT.replace('"go1.23.1"', "1"),
        TEXT.replace('"amd64"', "null"),
        TEXT.replace("2026-12-11", "2026-13-11"),
        TEXT.replace("15Z", "15+00:00"),
        TEXT.replace("go1.23.1", "go1.23.\\u0031"),
        "moorage channel 1\n[]\n",
        "moorage channel 1\nnull\n",
        "moorage channel 1\n" + "[" * 100_000 + "\n",
        "moorage channel 1\n{}\n",
    ],
)
def test_a_text_that_is_not_exactly_a_manifest_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match="malformed manifest"):
        parse_manifest(text)


def test_a_flipped_character_is_refused_or_another_manifest() -> None:
    original = parse_manifest(TEXT)
    for place, character in enumerate(TEXT):
        flipped = TEXT[:place] + chr(ord(character) ^ 1) + TEXT[place + 1 :]
        try:
            read = parse_manifest(flipped)
        except BadInputError:
            continue
        times = (read.issued_at, read.expires_at) != (original.issued_at, original.expires_at)
        assert read != original or times


def test_no_truncated_text_is_a_manifest() -> None:
    for end in range(len(TEXT)):
        with pytest.raises(BadInputError):
            parse_manifest(TEXT[:end])


def test_a_manifest_of_the_most_releases_fits_into_a_note() -> None:
    files = tuple(
        a_file(n, zst=ZstdForm(1 << 30, HEX, HEX), h1="h1:" + "x" * 44) for n in range(90)
    )
    releases = tuple(ManifestRelease(f"go1.23.{n}", files) for n in range(MAX_ALSO + 1))
    manifest = replace(a_manifest(), releases=releases)
    key = generate("fleet", bytes(32))
    note = open_note(sign(manifest_text(manifest), key), [key.verifier])
    assert parse_manifest(note.text) == manifest


@pytest.mark.parametrize("version", ["1.27.1", "go1.27.1"])
def test_a_release_is_named_with_or_without_go(version: str) -> None:
    assert release_name(version) == "go1.27.1"
    assert checked(Choice, {"current": version}).current == "go1.27.1"


@pytest.mark.parametrize("version", ["", "1", "1.27.x", "latest", "v1.27.1", "gogo1.27.1", "1.27 "])
def test_what_is_not_one_release_is_refused(version: str) -> None:
    with pytest.raises(BadInputError, match="is not the version of one release"):
        checked(Choice, {"current": version})


@pytest.mark.parametrize("name", ["stable", "lts-2", "7", "platform"])
def test_a_channel_has_a_plain_name(name: str) -> None:
    assert checked(Channel, {"name": name}).name == name


@pytest.mark.parametrize("name", ["", "Stable", "a.b", "a/b", "-a", "a-", "a" * 64, "a\n"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(BadInputError):
        checked(Channel, {"name": name})


def test_a_choice_has_each_release_once_the_newest_first() -> None:
    also = ("go1.9", "go1.23.1", "1.27.1", "go1.9", "go1.28rc1")
    choice = checked(Choice, {"current": "go1.23.1", "also": also})
    assert choice.normal().also == ("go1.28rc1", "go1.27.1", "go1.9")
    assert choice.versions == ("go1.28rc1", "go1.27.1", "go1.23.1", "go1.9")
    assert choice.offers_as(choice.normal())


def test_a_difference_names_what_came_and_went() -> None:
    older, newer = a_revision(1, "go1.22.1", "go1.21.9"), a_revision(2, "go1.23.1", "go1.22.1")
    diff = difference(older, newer)
    assert (diff.current_before, diff.current_after) == ("go1.22.1", "go1.23.1")
    assert (diff.added, diff.removed) == (("go1.23.1",), ("go1.21.9",))
    first = difference(None, older)
    assert (first.before, first.added, first.removed) == (None, ("go1.22.1", "go1.21.9"), ())
