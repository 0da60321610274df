"""A hostile git server: whatever it sends is bounded, refused, and leaves nothing behind."""

import zlib
from collections.abc import Callable
from hashlib import sha1
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.core.gitprotocol import MAX_REFS_BYTES, line
from tests.fakes.git import FakeGit, GitUser, say
from tests.services.modules.gits.lane import GitLane

REFS = "/team/x.git/info/refs"
POST = "/team/x.git/git-upload-pack"
OID = "1" * 40
CAPABILITIES = (
    line("# service=git-upload-pack\n") + b"0000" + line("version 2\n") + line("ls-refs\n")
    + line("fetch\n") + b"0000"
)  # fmt: skip


def listing(*refs: str) -> bytes:
    return b"".join(line(f"{OID} {ref}\n") for ref in refs) + b"0000"


def answers(lane: GitLane, *bodies: bytes | Callable[[BaseHTTPRequestHandler], Any]) -> None:
    """Have the server answer the first question, then each POST with the next body."""
    left = list(bodies)

    def advertise(request: BaseHTTPRequestHandler) -> bool:
        say(request, 200, CAPABILITIES)
        return True

    def post(request: BaseHTTPRequestHandler) -> bool:
        body = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(body, bytes):
            say(request, 200, body)
        else:
            body(request)
        return True

    lane.fake.answers |= {REFS: advertise, POST: post}


def long(head: bytes, piece: bytes, total_bytes: int) -> Callable[[BaseHTTPRequestHandler], None]:
    """Return an answer of many pieces, which ends so that a missing limit is no endless wait."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        try:
            for chunk in [head, *[piece] * (total_bytes // len(piece))]:
                request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            request.wfile.write(b"0\r\n\r\n")
        except OSError:
            request.close_connection = True

    return send


async def test_F82_F83_refs_that_look_like_options_and_paths_are_passed_over(
    lane: GitLane,
) -> None:
    await lane.route()
    odd = ("refs/tags/--upload-pack=touch x", "refs/tags/../../../etc/x", "refs/tags/-v1.0.0",
           "refs/tags/a\tb", "refs/heads/.lock", "refs/replace/x", "refs/tags/v1.9.0.lock",
           "refs/tags/x@{1}", "refs/pull/1/head", "refs/tags/v1.0.0")  # fmt: skip
    answers(lane, listing(*odd))
    assert (await lane.ask("team/x/@v/list")).body == b"v1.0.0\n"
    for query in ("--upload-pack=touch%20x", "-rf", "..%2f..%2fetc"):
        assert (await lane.ask(f"team/x/@v/{query}.info")).status in (400, 404)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>log in</html>", "what answers is no git server"),
        (listing("refs/tags/v1.0.0", "refs/tags/v1.0.0"), "the server lists a ref twice"),
        (line("xyz refs/tags/v1.0.0\n") + b"0000", "'xyz' is not the name of a git object"),
        (
            line(f"{OID} refs/heads/a\n") + line(f"{'2' * 64} refs/heads/b\n") + b"0000",
            "the server mixes SHA-1 and SHA-256 names",
        ),
        (line("ERR no\n") + b"0000", "the git server refuses to list refs"),
        (b"00", "answer is cut short"),
        (b"ffff", "what answers is no git server"),
        (line(f"{OID} refs/tags/v1.0.0\n")[:-4], "answer is cut short"),
    ],
    ids=["page", "twice", "no-oid", "mixed", "error", "short", "long", "cut"],
)
async def test_F86_a_listing_that_is_none_gives_502_and_never_404(
    lane: GitLane, body: bytes, why: str
) -> None:
    await lane.route()
    answers(lane, body)
    with capture_logs() as logged:
        assert (await lane.ask("team/x/@v/list")).status == 502
    assert any(why in str(entry.get("error")) for entry in logged), logged
    assert lane.left_behind() == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            long(line("packfile\n"), line(b"\x01" + b"x" * 60000), 64 << 20),
            "the repository has more than the 1048576 bytes that are taken",
        ),
        (line("packfile\n") + b"0000", "fatal: early EOF"),
        (
            line("packfile\n") + line(b"\x03cannot\n") + b"0000",
            "gave up in the middle of the fetch",
        ),
        (line("packfile\n") + line(b"\x01PACK\0\0\0\2\0\0\0\1") + b"0000", "fatal: early EOF"),
        (line("packfile\n") + line(b"\x01PACK"), "pack is cut short"),
        (line("ERR upload-pack: not our ref\n"), "the git server refuses the fetch"),
    ],
    ids=["too-large", "empty", "fatal", "broken", "cut", "refused"],
)
async def test_F86_a_pack_that_is_none_or_too_large_leaves_nothing(
    lane: GitLane, body: Any, why: str
) -> None:
    await lane.route()
    answers(lane, listing("HEAD", "refs/tags/v1.0.0"), body)
    with capture_logs() as logged:
        assert (await lane.ask("team/x/@v/v1.0.0.info")).status == 502
    assert any(why in str(entry.get("error")) for entry in logged), logged
    assert lane.left_behind() == []


async def test_F86_a_repository_that_is_too_large_is_not_fetched_again_for_the_same_refs(
    lane: GitLane,
) -> None:
    await lane.route()
    pack = long(line("packfile\n"), line(b"\x01" + b"x" * 60000), 8 << 20)
    answers(lane, listing("refs/tags/v1.0.0"), pack)
    for version in ("v1.0.0", "v1.0.0", "v0.0.0-20060102150405-abcdefabcdef"):
        got = await lane.ask(f"team/x/@v/{version}.info")
        assert got.status == 502
        assert "an admin can raise MOORAGE_GIT__REPOSITORY_BYTES" in got.text
    assert lane.fake.count("/git-upload-pack") == 2  # ls-refs and the fetch


async def test_F86_too_many_refs_are_cut(lane: GitLane) -> None:
    await lane.route()
    many = b"".join(line(f"{OID} refs/pull/{number}/head\n") for number in range(20_000))
    answers(lane, long(many, many, MAX_REFS_BYTES + (8 << 20)))
    with capture_logs() as logged:
        assert (await lane.ask("team/x/@v/list")).status == 502
    assert any(f"more than {MAX_REFS_BYTES} bytes" in str(entry) for entry in logged), logged
    assert lane.left_behind() == []


def stall(request: BaseHTTPRequestHandler) -> None:
    """Begin an answer, and wait until the client goes."""
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    request.rfile.read(1)


@pytest.mark.parametrize(
    ("path", "bodies", "deadline"),
    [
        ("v1.0.0.info", (listing("refs/tags/v1.0.0"), stall), {"zip_s": 1}),
        ("list", (stall,), {"metadata_s": 1}),
    ],
    ids=["fetch", "list"],
)
async def test_F86_a_stalled_server_is_given_up_at_the_routes_deadline(
    lane: GitLane, path: str, bodies: Any, deadline: dict[str, int]
) -> None:
    await lane.route(**deadline)
    answers(lane, *bodies)
    with capture_logs() as logged:
        assert (await lane.ask(f"team/x/@v/{path}")).status == 504
    assert any("within 1 s" in str(entry) for entry in logged), logged
    assert lane.left_behind() == []


def pack_of(kind: int, content: bytes) -> bytes:
    """Return a pack with one object."""
    size, head = len(content), bytearray()
    byte = (kind << 4) | (size & 15)
    size >>= 4
    while size:
        head.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    head.append(byte)
    body = b"PACK\0\0\0\2\0\0\0\1" + bytes(head) + zlib.compress(content)
    return body + sha1(body).digest()


async def test_F86_a_listed_object_that_does_not_come_is_refused(lane: GitLane) -> None:
    await lane.route()
    pack = line("packfile\n") + line(b"\x01" + pack_of(3, b"other\n")) + b"0000"
    answers(lane, listing("refs/tags/v1.0.0"), pack)
    assert (await lane.ask("team/x/@v/v1.0.0.info")).status == 502


async def test_F84_F86_a_mirror_has_no_alternates_no_hooks_and_no_configuration_of_others(
    lane: GitLane,
) -> None:
    await lane.route()
    assert (await lane.ask("team/x/@v/v1.0.0.zip")).status == 200
    [mirror] = lane.mirrors()
    names = {str(path.relative_to(mirror)) for path in mirror.rglob("*") if path.is_file()}
    packs = {name for name in names if name.startswith("objects/pack/pack-")}
    state = {"HEAD", "config", "info/attributes", "packed-refs", "moorage-refs"}
    assert names - packs == state
    assert "[remote" not in (mirror / "config").read_text()


async def test_F53_F54_a_redirect_elsewhere_is_not_followed(lane: GitLane) -> None:
    await lane.route()

    def redirect(request: BaseHTTPRequestHandler) -> bool:
        say(request, 302, b"", {"Location": f"http://169.254.169.254{REFS}"})
        return True

    lane.fake.answers[REFS] = redirect
    got = await lane.ask("team/x/@v/list")
    assert got.status == 502


async def test_F53_a_redirect_to_an_allowed_host_gets_no_credential(
    lane: GitLane, tmp_path: Path
) -> None:
    lane.fake.users["ci"] = GitUser("s3cret")
    with FakeGit(tmp_path / "git") as other:

        def redirect(request: BaseHTTPRequestHandler) -> bool:
            say(request, 302, b"", {"Location": f"{other.base_url}{request.path}"})
            return True

        lane.fake.answers[REFS] = redirect
        await lane.route(password="s3cret", redirect_to=[other.base_url])
        assert (await lane.ask("team/x/@v/v1.0.0.info")).status == 200
        assert set(other.authorizations) == {""}
        assert lane.fake.authorizations[0].startswith("Basic ")


@pytest.mark.parametrize("password", ["", "wrong"], ids=["none", "wrong"])
async def test_F48_F87_a_server_that_wants_another_credential_gives_502_and_no_prompt(
    lane: GitLane, password: str, capfd: pytest.CaptureFixture[str]
) -> None:
    lane.fake.users["ci"] = GitUser("s3cret")
    await lane.route(password=password)
    got = await lane.ask("team/x/@v/list")
    assert got.status == 502
    why = "refuses the credential of the route" if password else "wants a credential, and gets none"
    assert f"answered 401, it does not let this server in: it {why}; tell an admin" in got.text
    printed = "".join(capfd.readouterr())
    assert password == "" or (password not in printed and "Basic " not in printed)
