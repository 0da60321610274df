"""What goes over the wire to and from git servers."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from app.core.errors import BadInputError
from app.core.gitprotocol import (
    Mark,
    PacketReader,
    PackReader,
    fetch_request,
    line,
    list_refs_request,
    packets_of,
    read_advertisement,
    read_refs,
)
from app.core.gitrefs import GitRefs, gather, is_ref, parse_refs

A, B = "a" * 40, "b" * 40
V2 = line("# service=git-upload-pack\n") + b"0000" + line("version 2\n") + line("ls-refs=unborn\n")


def test_requests_are_those_of_the_protocol() -> None:
    assert list_refs_request("sha1") == (
        b"0014command=ls-refs\n0012agent=moorage\n0001" + line("peel\n")
        + line("ref-prefix HEAD\n") + line("ref-prefix refs/heads/\n")
        + line("ref-prefix refs/tags/\n") + b"0000"
    )  # fmt: skip
    assert b"object-format=sha256" in list_refs_request("sha256")
    body = fetch_request(2, "sha1", [A], [B])
    assert body.endswith(line(f"want {A}\n") + line(f"have {B}\n") + line("done\n") + b"0000")
    old = fetch_request(0, "sha1", [A, B], [])
    assert old.startswith(line(f"want {A} thin-pack ofs-delta side-band-64k "
                               "agent=moorage\n"))  # fmt: skip
    assert old.endswith(line(f"want {B}\n") + b"0000" + line("done\n"))


def test_an_advertisement_of_either_version_is_read() -> None:
    said = read_advertisement(packets_of(V2 + line("object-format=sha256\n") + b"0000"))
    assert (said.version, said.refs, said.object_format) == (2, None, "sha256")
    old = line(f"{A} HEAD\0side-band-64k ofs-delta\n") + line(f"{A} refs/tags/v1.0.0\n")
    said = read_advertisement(packets_of(old + line(f"{B} refs/tags/v1.0.0^{{}}\n") + b"0000"))
    assert said.version == 0
    assert said.refs is not None
    assert said.refs.commit("refs/tags/v1.0.0") == B
    nothing = read_advertisement(packets_of(line(f"{'0' * 40} capabilities^{{}}\0x\n") + b"0000"))
    assert nothing.refs == GitRefs()


def test_every_truncation_of_an_answer_is_refused_or_shorter_and_never_another_answer() -> None:
    whole = line(f"{A} HEAD symref-target:refs/heads/main\n") + line(
        f"{A} refs/tags/v1.0.0 peeled:{B}\n"
    )
    refs = read_refs(packets_of(whole + b"0000"))
    assert refs.commit("refs/tags/v1.0.0") == B
    for end in range(len(whole)):
        try:
            cut = read_refs(packets_of(whole[:end]))
        except BadInputError:
            continue
        assert cut.ids.items() <= refs.ids.items()


def test_F86_a_flipped_byte_gives_an_error_or_another_listing_and_no_crash() -> None:
    whole = line(f"{A} HEAD\n") + line(f"{A} refs/tags/v1.0.0 peeled:{B}\n") + b"0000"
    for at in range(len(whole)):
        for flip in (1, 0x80):
            changed = bytearray(whole)
            changed[at] ^= flip
            try:
                listed = read_refs(packets_of(bytes(changed)))
            except BadInputError:
                continue
            assert all(len(oid) == 40 for oid in listed.ids.values())


@given(some.binary(max_size=200), some.integers(1, 7))
def test_pieces_of_any_size_give_the_same_packets(body: bytes, step: int) -> None:
    reader, pieces = PacketReader(), []
    whole = line(body) + b"0001" + line(b"x") + b"0000"
    for at in range(0, len(whole), step):
        pieces += reader.feed(whole[at : at + step])
    reader.finish()
    assert pieces == [body, Mark.DELIMITER, b"x", Mark.FLUSH]


def test_a_pack_is_what_band_1_has_and_complete_at_the_flush() -> None:
    reader = PackReader(2)
    body = line("packfile\n") + line(b"\x02hello\n") + line(b"\x01PA") + line(b"\x01CK")
    assert b"".join(reader.feed(body)) == b"PACK"
    with pytest.raises(BadInputError):
        reader.finish()
    assert list(reader.feed(b"0000")) == []
    reader.finish()
    old = PackReader(0)
    assert b"".join(old.feed(line("NAK\n") + line(b"\x01PACK") + b"0000")) == b"PACK"
    old.finish()


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("refs/tags/v1.0.0", True), ("refs/heads/a/b", True), ("refs/tags/caf\u00e9", True),
        ("refs/tags/-v1", False), ("refs/tags/a/-b", False), ("refs/tags/a..b", False),
        ("refs/tags/a b", False), ("refs/tags/a\x7f", False), ("refs/tags/a.lock", False),
        ("refs/tags/.a", False), ("refs/tags/a.", False), ("refs/tags/a~1", False),
        ("refs/tags/a^{}", False), ("refs/tags/a@{1}", False), ("refs/tags/", False),
        ("refs/tags/" + "x" * 2000, False), ("HEAD", False), ("refs/tags/a\\b", False),
    ],
)  # fmt: skip
def test_F82_names_of_refs_are_those_of_git_without_options(name: str, *, is_good: bool) -> None:
    assert is_ref(name) is is_good


def test_F82_refs_that_git_could_not_store_are_not_taken_up() -> None:
    odd = ("refs/tags/--upload-pack=x", "refs/heads/../x", "refs/tags/a.lock", "refs/pull/1/head")
    assert gather((A, ref, None) for ref in odd) == GitRefs()


def test_refs_are_the_same_when_they_are_read_back() -> None:
    refs = gather([(A, "HEAD", None), (A, "refs/heads/main", None), (A, "refs/tags/v1", B)])
    assert parse_refs(refs.render()) == refs
    assert refs.tags() == {"v1": B}
