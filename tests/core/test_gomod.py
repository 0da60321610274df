import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import gomod
from app.core.errors import BadInputError


@pytest.mark.parametrize(
    ("text", "path"),
    # TestModulePath of golang.org/x/mod/modfile/read_test.go
    [
        (b'module "github.com/rsc/vgotest"', "github.com/rsc/vgotest"),
        (b"module github.com/rsc/vgotest", "github.com/rsc/vgotest"),
        (b'module  "github.com/rsc/vgotest"', "github.com/rsc/vgotest"),
        (b"module  github.com/rsc/vgotest", "github.com/rsc/vgotest"),
        (b"module `github.com/rsc/vgotest`", "github.com/rsc/vgotest"),
        (b'module\n"github.com/rsc/vgotest/v2"', None),
        (b'module "github.com/rsc/vgotest/v2"\n', "github.com/rsc/vgotest/v2"),
        (b"module \t`github.com/rsc/vgotest/v2`\n", "github.com/rsc/vgotest/v2"),
        (b"module \ngithub.com/rsc/vgotest/v2\n", None),
        (b"module\n`github.com/rsc/vgotest/v2`\n", None),
        (b"module `\ngithub.com/rsc/vgotest/v2\n`", None),
        (b'// comment\n module "x" // y', "x"),
        (b"modulex\nmodule y", "y"),
        (b"module github.com/rsc/vgotest // comment", "github.com/rsc/vgotest"),
        (b"module a//b\n", "a"),
    ],
)
def test_the_module_path_is_that_of_modfile_module_path(text: bytes, path: str | None) -> None:
    assert gomod.module_path(text) == path


@pytest.mark.parametrize(
    ("text", "path"),
    # By the rules of bytes.TrimSpace and strconv.Unquote.
    [
        (b"", None),
        (b"module", None),
        (b"module \n", None),
        (b'module ""\n', None),
        (b"module x\r\n", "x"),
        (b"module\xc2\xa0x\xe3\x80\x80\n", "x"),
        (b"module\x1cx\n", None),
        (b"go 1.21\n\nmodule x\nmodule y\n", "x"),
        (b'module "a\nmodule b\n', None),
        (b'module "a" b\n', None),
        (b'module "a"b"\n', None),
        (b'module "a\\x62\\143\\u0064\\U00000065\\t\\"\\\\"\n', 'abcde\t"\\'),
        (b'module "a\\\'"\n', None),
        (b'module "a\\q"\n', None),
        (b'module "a\\x6"\n', None),
        (b'module "a\\400"\n', None),
        (b'module "a\\ud800"\n', None),
        (b'module "a\\U00110000"\n', None),
        (b'module "a\\"\n', None),
        (b"module `a\\n\r`\n", "a\\n"),
        (b"module `a`b`\n", None),
        (b"module 'a'\n", "'a'"),
        (b"module (\n\tx\n)\n", "("),
    ],
)
def test_the_module_path_follows_go_in_odd_spellings(text: bytes, path: str | None) -> None:
    assert gomod.module_path(text) == path


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("example.com/m", b"module example.com/m\n"),
        ("gopkg.in/yaml.v2", b"module gopkg.in/yaml.v2\n"),
        ("a b", b'module "a b"\n'),
        ("a(b", b'module "a(b"\n'),
        ("(", b"module (\n"),
        ("a//b", b'module "a//b"\n'),
        ("a/*b", b'module "a/*b"\n'),
        ('a"b\\', b'module "a\\"b\\\\"\n'),
    ],
)
def test_the_synthetic_go_mod_quotes_only_where_auto_quote_does(path: str, text: bytes) -> None:
    assert gomod.synthetic(path) == text


@pytest.mark.parametrize("path", ["", "a\nb", "a\0", "a\ud800"], ids=ascii)
def test_a_path_that_can_not_stand_in_a_go_mod_is_refused(path: str) -> None:
    with pytest.raises(BadInputError, match="not a module path"):
        gomod.synthetic(path)


@given(st.from_regex(r"[a-z]+(\.[a-z]+)?(/[A-Za-z0-9._~-]+){0,3}", fullmatch=True))
@settings(max_examples=100)
def test_the_synthetic_go_mod_names_its_module(path: str) -> None:
    assert gomod.module_path(gomod.synthetic(path)) == path
    gomod.check(gomod.synthetic(path), path)


@pytest.mark.parametrize(
    ("text", "h1"),
    [
        # The go.mod of every toolchain module on sum.golang.org, and the one of an empty go.mod
        # that cmd/go/internal/modfetch ignores in go.sum files.
        (gomod.synthetic("golang.org/toolchain"), "8wlg68NqwW7eMnI1aABk/C2pDYXj8mrMY4TyRfiLeS0="),
        (b"", "G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY="),
    ],
)
def test_the_h1_is_the_published_one(text: bytes, h1: str) -> None:
    assert gomod.h1(text) == "h1:" + h1


@pytest.mark.parametrize(
    "text",
    [
        b"module example.com/m\n",
        b'// Deprecated: use n.\nmodule "example.com/m" // comment\n\ngo 1.21\n',
        b"module (\n\n\t// the path\n\texample.com/m // here\n)\n",
        b'module (\n\t"example.com/m"\n)\n',
        b"module example.com/m\n\nretract v1.0.0 // <html>\n",
    ],
)
def test_a_go_mod_of_the_module_is_accepted(text: bytes) -> None:
    gomod.check(text, "example.com/m")


@pytest.mark.parametrize(
    "text",
    [
        b"module example.com/m // caf\xe9\n",
        b"// \xa9 2019\nmodule example.com/m\n",
        b"module ( // \xe9\n\texample.com/m // \xe9\n)\n",
    ],
)
def test_a_comment_may_have_any_bytes(text: bytes) -> None:
    gomod.check(text, "example.com/m")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "no module line"),
        (b"go 1.21\n", "no module line"),
        (b"module (\n)\n", "no module line"),
        (b'{"error": "not found"}', "no module line"),
        (b"module example.com/other\n", "names the module 'example.com/other'"),
        (b"module example.com/M\n", "names the module 'example.com/M'"),
        (b"module example.com/m/v2\n", "names the module"),
        (b"module (\n\texample.com/other\n)\n", "names the module 'example.com/other'"),
        (b"module example.com/\xd0\xbc\n", r"names the module 'example.com/\\u043c'"),
        (b"module example.com/m\0\n", "NUL"),
        (b"module example.com/m\nrequire \xff v1.0.0\n", "not UTF-8"),
        (b"<!DOCTYPE html>\nmodule example.com/m\n", "HTML"),
        (b"\xef\xbb\xbf\r\n <html>", "HTML"),
    ],
)
def test_f73_a_go_mod_of_anything_else_is_refused(text: bytes, reason: str) -> None:
    with pytest.raises(BadInputError, match=reason) as caught:
        gomod.check(text, "example.com/m")
    assert str(caught.value).isprintable()


def test_a_go_mod_over_the_limit_is_refused() -> None:
    largest = b"module m\n".ljust(gomod.MAX_BYTES, b"\n")
    gomod.check(largest, "m")
    with pytest.raises(BadInputError, match="more than 16777216 bytes"):
        gomod.check(largest + b"\n", "m")


@pytest.mark.parametrize("unit", [b"\n", b"module (\n", b"/", b"module \\", b'module "\\'])
def test_a_hostile_go_mod_takes_time_by_its_length_only(unit: bytes) -> None:
    text = unit * ((1 << 20) // len(unit))
    with pytest.raises(BadInputError):
        gomod.check(text, "example.com/m")


@given(st.binary(max_size=60))
@settings(max_examples=200)
def test_any_bytes_give_a_path_or_none_and_are_accepted_or_refused(tail: bytes) -> None:
    text = b"module " + tail
    path = gomod.module_path(text)
    assert path is None or path
    try:
        gomod.check(text, "example.com/m")
    except BadInputError as error:
        assert str(error).isprintable()
    else:
        assert b"example.com/m" in tail


@pytest.mark.parametrize("at", [0, 70_000, 200_000])
def test_other_bytes_are_told_from_comments_in_every_slice_of_a_long_file(at: int) -> None:
    line = b"// caf\xe9\n"
    body = b"module example.com/m\n" + line * 30_000
    gomod.check_form(body)
    cut = body.index(b"\n", at) + 1
    with pytest.raises(BadInputError, match="not UTF-8"):
        gomod.check_form(body[:cut] + b"go \xe9\n" + body[cut:])
