"""Request paths, and lists: F1 to F16 of the path parser, F46 of upstream's texts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import module as modules
from app.core import semver
from app.core.errors import BadInputError, MoorageError, UnknownError
from app.core.goproxy import (
    GoproxyRequest,
    RequestKind,
    check_list,
    commits_of,
    decode_path,
    newest,
    parse_path,
    render_list,
    versions_of,
)


def parsed(path: bytes) -> GoproxyRequest:
    """Return the request of a path as it came."""
    return parse_path(decode_path(path))


GOOD = [
    (b"example.com/x/@v/list", GoproxyRequest("example.com/x", RequestKind.LIST)),
    (b"example.com/x/@latest", GoproxyRequest("example.com/x", RequestKind.LATEST)),
    (b"example.com/x/@v/v1.0.0.info", GoproxyRequest("example.com/x", RequestKind.INFO, "v1.0.0")),
    (b"a.b/!burnt!sushi/toml/@v/v1.4.0.zip",
     GoproxyRequest("a.b/BurntSushi/toml", RequestKind.ZIP, "v1.4.0")),
    (b"a.b/%63/%40v/list", GoproxyRequest("a.b/c", RequestKind.LIST)),
    (b"git.sr.ht/%7Euser/x/@latest", GoproxyRequest("git.sr.ht/~user/x", RequestKind.LATEST)),
    (b"a.b/c/@v/v2.0.0%2Bincompatible%2Ezip",
     GoproxyRequest("a.b/c", RequestKind.ZIP, "v2.0.0+incompatible")),
    (b"a.b/c/@v/fix%231.info", GoproxyRequest("a.b/c", RequestKind.INFO, "fix#1")),
    (b"a.b/c/@v/a%20b%28%29%5B%5D%7B%7D%5E%25.info",
     GoproxyRequest("a.b/c", RequestKind.INFO, "a b()[]{}^%")),
    (b"github.com/%21azure/x/@v/v1.0.0.mod",
     GoproxyRequest("github.com/Azure/x", RequestKind.MOD, "v1.0.0")),
    (b"a.b/x/@v/v2.3.0+incompatible.zip",
     GoproxyRequest("a.b/x", RequestKind.ZIP, "v2.3.0+incompatible")),
    (b"example.com/x/@v/v1.0.0-!r!c1.mod",
     GoproxyRequest("example.com/x", RequestKind.MOD, "v1.0.0-RC1")),
    (b"example.com/x/@v/master.info", GoproxyRequest("example.com/x", RequestKind.INFO, "master")),
    (b"example.com/x/@v/!h!e!a!d.info", GoproxyRequest("example.com/x", RequestKind.INFO, "HEAD")),
    (b"example.com/x/@v/list.info", GoproxyRequest("example.com/x", RequestKind.INFO, "list")),
    (b"example.com/x/@v/v1.1.0+meta.info",
     GoproxyRequest("example.com/x", RequestKind.INFO, "v1.1.0+meta")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "meant"), GOOD)
def test_a_path_means_what_go_asks_for(path: bytes, meant: GoproxyRequest) -> None:
    assert parsed(path) == meant


LONG = b"/".join([b"a.b"] * 200)
BAD = [
    ("F1", b"github.com/Azure/x/@v/list", 400),
    ("F1", b"example.com/x/@v/v1.0.0-RC1.mod", 400),
    ("F2", b"github.com/!Azure/x/@v/list", 400),
    ("F2", b"github.com/!!a/x/@v/list", 400),
    ("F2", b"github.com/a!/@v/list", 400),
    ("F2", b"github.com/!1/@v/list", 400),
    ("F4", b"a.b/../b/@v/list", 400),
    ("F4", b"a.b/%2e%2e/b/@v/list", 400),
    ("F4", b"../etc/@v/list", 400),
    ("F4", b"a.b/./c/@v/list", 400),
    ("F5", b"a.b%2fc/@v/list", 400),
    ("F5", b"a.b%5cc/@v/list", 400),
    ("F5", b"a.b/c%00/@v/list", 400),
    ("F5", b"a.b/c%2541/@v/list", 400),
    ("F5", b"a.b/%2521x/@v/list", 400),
    ("F5", b"a.b/c%/@v/list", 400),
    ("F5", b"a.b/c%zz/@v/list", 400),
    ("F5", b"a.b/c%4/@v/list", 400),
    ("F5", b"a.b/c%0a/@v/list", 400),
    ("F5", b"a.b/c%7f/@v/list", 400),
    ("F5", b"a.b/%c0%af/@v/list", 400),
    ("F5", b"a.b/%c3%a4/@v/list", 400),
    ("F6", b"/corp.example/x/@v/list", 400),
    ("F6", b"corp.example//x/@v/list", 400),
    ("F6", b"corp.example/x//@v/list", 400),
    ("F6", b"corp.example/x/@v/list/", 400),
    ("F7", b"a.b/c d/@v/list", 400),
    ("F7", b"a.b/\x01/@v/list", 400),
    ("F7", b"a.b/\x7f/@v/list", 400),
    ("F7", b"a.b/\xc0\xaf/@v/list", 400),
    ("F7", "a.b/\uff0e\uff0e/@v/list".encode(), 400),
    ("F8", b"corp.example./x/@v/list", 400),
    ("F8", b"corp.example:443/x/@v/list", 400),
    ("F8", b".corp/x/@v/list", 400),
    ("F8", b"corp.example/x./y/@v/list", 400),
    ("F9", b"a.b/con/@v/list", 400),
    ("F9", b"a.b/aux.txt/@v/list", 400),
    ("F9", b"a.b/x~1/@v/list", 400),
    ("F10", LONG + b"/@v/list", 400),
    ("F11", b"x.y/@v/list/@v/list", 400),
    ("F11", b"x.y/@v/v1.0.0.zip/@v/v1.0.0.zip", 400),
    ("F12", b"@latest", 404),
    ("F12", b"@v/list", 404),
    ("F13", b"x.y/@v/-rf.info", 400),
    ("F13", b"x.y/@v//etc.info", 400),
    ("F13", b"x.y/@v/--upload-pack=x.info", 400),
    ("F13", b"x.y/@v/v1.0.0\n.info", 400),
    ("F14", b"x.y/@v/v01.0.0.zip", 400),
    ("F14", b"x.y/@v/v1.0.zip", 400),
    ("F14", b"x.y/@v/v1.0.0+meta.zip", 400),
    ("F14", b"x.y/@v/master.zip", 400),
    ("F14", b"x.y/@v/v2.0.0.zip", 400),
    ("F14", b"x.y/v2/@v/v1.0.0.mod", 400),
    ("F15", b"x.y/@v/feature/x.info", 404),
    ("F15", b"x.y/@v/feature%2fx.info", 404),
    ("F15", b"x.y/@v/feature%2Fx.info", 404),
    ("F16", b"x.y/@v/v1.0.0.tar", 404),
    ("F16", b"x.y/@v/v1.0.0.ZIP", 404),
    ("F16", b"x.y/@v/v1.0.0.zip/", 404),
    ("F16", b"x.y/@v/v1.0.0", 404),
    ("F16", b"x.y", 404),
    ("F16", b"x.y/@v/", 404),
]  # fmt: skip


@pytest.mark.parametrize(("number", "path", "status"), BAD)
def test_a_malformed_path_is_refused_in_one_printable_line(
    number: str, path: bytes, status: int
) -> None:
    with pytest.raises((BadInputError, UnknownError)) as refused:
        parsed(path)
    assert isinstance(refused.value, BadInputError) is (status == 400), number
    assert str(refused.value).isprintable()


def rendered(asked: GoproxyRequest) -> bytes:
    """Return the canonical spelling; written apart from the parser."""
    path = modules.escape_path(asked.module)
    if asked.kind is RequestKind.LATEST:
        return f"{path}/@latest".encode()
    if asked.kind is RequestKind.LIST:
        return f"{path}/@v/list".encode()
    return f"{path}/@v/{modules.escape_version(asked.version)}.{asked.kind}".encode()


_WORD = st.text("abcXYZ019-_~", min_size=1, max_size=6)
_PATHS = st.lists(_WORD, min_size=1, max_size=4).map(lambda words: "example.com/" + "/".join(words))
_VERSIONS = st.one_of(
    st.builds("v{}.{}.{}".format, st.integers(0, 1), st.integers(0, 20), st.integers(0, 20)),
    st.builds("v1.2.3-{}".format, st.text("abRC019", min_size=1, max_size=5)),
    st.just("v2.0.0+incompatible"),
)


def _is_path(path: str) -> bool:
    try:
        modules.check_path(path)
    except BadInputError:
        return False
    return True


@settings(max_examples=300)
@given(_PATHS.filter(_is_path), st.sampled_from(RequestKind), _VERSIONS)
def test_what_is_rendered_parses_back(path: str, kind: RequestKind, version: str) -> None:
    has_version = kind in (RequestKind.INFO, RequestKind.MOD, RequestKind.ZIP)
    is_wrong = kind in (RequestKind.MOD, RequestKind.ZIP) and not modules.is_canonical_for(
        path, version
    )
    asked = GoproxyRequest(path, kind, version if has_version else "")
    if is_wrong:
        with pytest.raises(BadInputError):
            parsed(rendered(asked))
        return
    assert parsed(rendered(asked)) == asked


_SOUP = st.lists(
    st.sampled_from([
        b"a.b", b"example.com", b"/", b"//", b"@v", b"@latest", b"list", b"v1.0.0", b"v1.0.0+meta",
        b".info", b".mod", b".zip", b"!a", b"!", b"A", b"%21", b"%21a", b"%2f", b"%41", b"%", b"..",
        b".", b"~1", b"con", b"-", b"\x00", b"\xff", b" ", b"+", b"/@v/", b"?",
    ]),
    max_size=14,
).map(b"".join)  # fmt: skip


@settings(max_examples=1500)
@given(
    st.one_of(
        _SOUP, st.binary(max_size=40), _SOUP.map(lambda soup: b"a.b/" + soup + b"/@v/v1.0.0.zip")
    )
)
def test_F5_a_meaning_has_one_decoded_spelling(path: bytes) -> None:
    try:
        asked = parsed(path)
    except MoorageError as error:
        assert str(error).isprintable()
        return
    assert decode_path(path) == rendered(asked)


@settings(max_examples=300)
@given(st.sampled_from([path for path, _ in GOOD]), st.data())
def test_a_flipped_or_cut_path_is_refused_or_means_something_else(
    path: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(path) - 1))
    bit = data.draw(st.integers(0, 7))
    flipped = path[:at] + bytes([path[at] ^ (1 << bit)]) + path[at + 1 :]
    for spoilt in (flipped, path[:at]):
        try:
            asked = parsed(spoilt)
        except MoorageError:
            continue
        assert asked != parsed(path) or decode_path(spoilt) == decode_path(path)


# protocol.md 1.4: what a client would choke on is dropped.
LISTS = [
    (b"", []),
    (b"v1.1.0\nv1.0.0\n", ["v1.0.0", "v1.1.0"]),
    (b"v1.0.0\r\n\r\n  v1.2.0 2024-01-02T03:04:05Z\n", ["v1.0.0", "v1.2.0"]),
    (b"v9\nv1.1\nv1.1.0+meta\nmaster\nv01.0.0\n", []),
    (b"v1.0.0\nv1.0.0\n", ["v1.0.0"]),
    (b"v0.0.0-20240102030405-abcdef123456\n", []),
    (b"v2.0.0\nv2.0.0+incompatible\n", ["v2.0.0+incompatible"]),
    (b"v1.10.0\nv1.9.0\nv1.10.0-rc.1\n", ["v1.9.0", "v1.10.0-rc.1", "v1.10.0"]),
    (b"v1.0.0\n\xff\xfe\n", ["v1.0.0"]),
    (b"v1.0.0", ["v1.0.0"]),
]


@pytest.mark.parametrize(("body", "versions"), LISTS, ids=range(len(LISTS)))
def test_a_list_holds_what_no_client_breaks_on(body: bytes, versions: list[str]) -> None:
    assert versions_of(body, "example.com/x") == versions
    assert versions_of(render_list(versions), "example.com/x") == versions


JUNK = [
    b"Service Temporarily Unavailable\n",
    b'{"errors":[{"status":500,"message":"x"}]}',
    b"OK",
    b"vendor\nversion 1\n",
    b'["v1.0.0","v1.1.0"]',
    b"\xef\xbb\xbf<!DOCTYPE html><html></html>",
    b"<?xml version='1.0'?><Error/>",
    "v1.0.0\nv1.1.0\n".encode("utf-16"),
    b"%PDF-1.4 x",
]


@pytest.mark.parametrize("body", JUNK, ids=range(len(JUNK)))
def test_F46_a_body_without_a_version_is_no_list(body: bytes) -> None:
    with pytest.raises(BadInputError):
        check_list(body)


@pytest.mark.parametrize("body", [b"", b" \n", b"v9", b"master\r\nv1.0.0 2024-01-02T03:04:05Z\r\n"])
def test_a_list_may_be_empty_or_have_odd_lines(body: bytes) -> None:
    check_list(body)


@pytest.mark.parametrize("body", [b"<html>", b"  \n<!DOCTYPE html>", b"v1.0.0\0\n"])
def test_F46_a_login_page_is_no_list(body: bytes) -> None:
    with pytest.raises(BadInputError):
        versions_of(body, "example.com/x")


OLD, NEW = "v0.0.0-20230102030405-0123456789ab", "v0.0.0-20240102030405-abcdef123456"

# The second field decides where there is one, as in cmd/go/internal/modfetch/proxy.go.
COMMITS = [
    ("", []),
    (f"{NEW}\n{OLD}\n", [OLD, NEW]),
    (f"{OLD} 2024-06-01T00:00:00Z\r\n\r\n{NEW} 2024-01-01T00:00:00Z\r\n", [NEW, OLD]),
    (f"{OLD} 2024-01-01T02:30:00+03:00\n{NEW} 2024-01-01T00:00:00Z more\n", [OLD, NEW]),
    (f"{OLD} yesterday\n{NEW} 2024-02-30T00:00:00Z\n", []),
    (f"{OLD} 9999-12-31T23:59:59-01:00\n{NEW}\n", [NEW]),
    ("v1.0.0\nmaster\nv2.0.0-20240102030405-abcdef123456\n", []),
    ("v0.0.0-20241302030405-abcdef123456\n", []),
]


@pytest.mark.parametrize(("body", "versions"), COMMITS, ids=range(len(COMMITS)))
def test_the_commits_of_a_list_are_in_the_order_of_their_times(
    body: str, versions: list[str]
) -> None:
    assert commits_of(body.encode(), "example.com/x") == versions


LATEST = [
    ([], None),
    (["v1.0.0", "v1.2.0", "v1.10.0"], "v1.10.0"),
    (["v1.0.0", "v1.1.0-rc.1"], "v1.0.0"),
    (["v1.1.0-rc.1", "v1.1.0-rc.10", "v1.1.0-beta"], "v1.1.0-rc.10"),
]


@pytest.mark.parametrize(("versions", "latest"), LATEST)
def test_the_newest_is_the_highest_release_else_the_highest_pre_release(
    versions: list[str], latest: str | None
) -> None:
    assert newest(versions) == latest


def test_a_list_that_is_sorted_in_slices_is_in_order() -> None:
    versions = [f"v{n % 2}.{n % 97}.{n}-rc.{n % 11}" for n in range(10_000)]
    listed = versions_of("\n".join(versions).encode(), "example.com/x")
    assert listed == sorted(set(versions), key=semver.sort_key)
