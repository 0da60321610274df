"""Vectors are those of golang.org/x/mod/module/module_test.go unless a comment says otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import module
from app.core.errors import BadInputError

CHECK = [
    ("rsc.io/quote", "0.1.0", False),
    ("rsc io/quote", "v1.0.0", False),
    ("github.com/go-yaml/yaml", "v0.8.0", True),
    ("github.com/go-yaml/yaml", "v1.0.0", True),
    ("github.com/go-yaml/yaml", "v2.0.0", False),
    ("github.com/go-yaml/yaml", "v2.1.5", False),
    ("github.com/go-yaml/yaml", "v3.0.0", False),
    ("github.com/go-yaml/yaml/v2", "v1.0.0", False),
    ("github.com/go-yaml/yaml/v2", "v2.0.0", True),
    ("github.com/go-yaml/yaml/v2", "v2.1.5", True),
    ("github.com/go-yaml/yaml/v2", "v3.0.0", False),
    ("gopkg.in/yaml.v0", "v0.8.0", True),
    ("gopkg.in/yaml.v0", "v1.0.0", False),
    ("gopkg.in/yaml.v0", "v2.0.0", False),
    ("gopkg.in/yaml.v0", "v2.1.5", False),
    ("gopkg.in/yaml.v0", "v3.0.0", False),
    ("gopkg.in/yaml.v1", "v0.8.0", False),
    ("gopkg.in/yaml.v1", "v1.0.0", True),
    ("gopkg.in/yaml.v1", "v2.0.0", False),
    ("gopkg.in/yaml.v1", "v2.1.5", False),
    ("gopkg.in/yaml.v1", "v3.0.0", False),
    ("gopkg.in/check.v1", "v0.0.0", False),
    ("gopkg.in/check.v1", "v0.0.0-20160102150405-abcdef123456", True),
    ("gopkg.in/yaml.v2", "v1.0.0", False),
    ("gopkg.in/yaml.v2", "v2.0.0", True),
    ("gopkg.in/yaml.v2", "v2.1.5", True),
    ("gopkg.in/yaml.v2", "v3.0.0", False),
    ("rsc.io/quote", "v17.0.0", False),
    ("rsc.io/quote", "v17.0.0+incompatible", True),
]

# Path, whether it is a module path, whether it is a path in a zip. "x.y/z+" and what follows the
# vectors are by module.go as of Go 1.27.
CHECK_PATH = [
    ("x.y/z", True, True),
    ("x.y", True, True),
    ("", False, False),
    ("x.y/\udcffz", False, False),
    ("/x.y/z", False, False),
    ("x./z", False, False),
    (".x/z", False, True),
    ("-x/z", False, True),
    ("x..y/z", True, True),
    ("x.y/z/../../w", False, False),
    ("x.y//z", False, False),
    ("x.y/z//w", False, False),
    ("x.y/z/", False, False),
    ("x.y/z/v0", False, True),
    ("x.y/z/v1", False, True),
    ("x.y/z/v2", True, True),
    ("x.y/z/v2.0", False, True),
    ("X.y/z", False, True),
    ("!x.y/z", False, True),
    ("_x.y/z", False, True),
    ("x.y!/z", False, True),
    ('x.y"/z', False, False),
    ("x.y#/z", False, True),
    ("x.y$/z", False, True),
    ("x.y%/z", False, True),
    ("x.y&/z", False, True),
    ("x.y'/z", False, False),
    ("x.y(/z", False, True),
    ("x.y)/z", False, True),
    ("x.y*/z", False, False),
    ("x.y+/z", False, True),
    ("x.y,/z", False, True),
    ("x.y-/z", True, True),
    ("x.y./zt", False, False),
    ("x.y:/z", False, False),
    ("x.y;/z", False, False),
    ("x.y</z", False, False),
    ("x.y=/z", False, True),
    ("x.y>/z", False, False),
    ("x.y?/z", False, False),
    ("x.y@/z", False, True),
    ("x.y[/z", False, True),
    ("x.y\\/z", False, False),
    ("x.y]/z", False, True),
    ("x.y^/z", False, True),
    ("x.y_/z", False, True),
    ("x.y`/z", False, False),
    ("x.y{/z", False, True),
    ("x.y}/z", False, True),
    ("x.y~/z", False, True),
    ("x.y/z!", False, True),
    ('x.y/z"', False, False),
    ("x.y/z#", False, True),
    ("x.y/z$", False, True),
    ("x.y/z%", False, True),
    ("x.y/z&", False, True),
    ("x.y/z'", False, False),
    ("x.y/z(", False, True),
    ("x.y/z)", False, True),
    ("x.y/z*", False, False),
    ("x.y/z+", False, True),
    ("x.y/z,", False, True),
    ("x.y/z-", True, True),
    ("x.y/z.t", True, True),
    ("x.y/z/t", True, True),
    ("x.y/z:", False, False),
    ("x.y/z;", False, False),
    ("x.y/z<", False, False),
    ("x.y/z=", False, True),
    ("x.y/z>", False, False),
    ("x.y/z?", False, False),
    ("x.y/z@", False, True),
    ("x.y/z[", False, True),
    ("x.y/z\\", False, False),
    ("x.y/z]", False, True),
    ("x.y/z^", False, True),
    ("x.y/z_", True, True),
    ("x.y/z`", False, False),
    ("x.y/z{", False, True),
    ("x.y/z}", False, True),
    ("x.y/z~", True, True),
    ("x.y/x.foo", True, True),
    ("x.y/aux.foo", False, False),
    ("x.y/prn", False, False),
    ("x.y/prn2", True, True),
    ("x.y/com", True, True),
    ("x.y/com1", False, False),
    ("x.y/com1.txt", False, False),
    ("x.y/calm1", True, True),
    ("github.com/!123/logrus", False, True),
    ("github.com/user/unicode/испытание", False, True),
    (".../x", False, False),
    ("../x", False, False),
    ("./y", False, False),
    ("x:y", False, False),
    (r"\temp\foo", False, False),
    (".gitignore", False, True),
    (".github/ISSUE_TEMPLATE", False, True),
    ("x☺y", False, False),
    ("x.y/.z", False, True),
    ("x.y/z.", False, False),
    ("x.y/z w", False, True),
    ("x.y/z\n", False, False),
    ("x.y/z\x00", False, False),
    ("x.y/z\x7f", False, False),
    ("x.y/²", False, False),
    ("x.y/e\u0301", False, False),
    ("x.y/CoN", False, False),
    ("x.y/LPT9.a.b", False, False),
    ("x.y/com0", True, True),
    ("x.y/z~1", False, True),
    ("x.y/z~1.txt", False, True),
    ("x.y/z~1a", True, True),
    ("x.y/z~a~12", False, True),
    ("x.y/z.a~1", True, True),
    ("x/y.z", False, True),
    ("x.y/v02", False, True),
    ("x.y/z/v", True, True),
    ("x.y/z/v2/v3", True, True),
    ("gopkg.in/yaml", False, True),
    ("gopkg.in/yaml.v01", False, True),
    ("gopkg.in/yaml.v0", True, True),
    ("gopkg.in/yaml.v2-unstable", True, True),
    ("gopkg.in/yaml/v2", False, True),
]

SPLIT = [
    ("x.y/z", ""),
    ("x.y/z", "/v2"),
    ("x.y/z", "/v3"),
    ("x.y/v", ""),
    ("gopkg.in/yaml", ".v0"),
    ("gopkg.in/yaml", ".v1"),
    ("gopkg.in/yaml", ".v2"),
    ("gopkg.in/yaml", ".v3"),
    # By splitGopkgIn.
    ("gopkg.in/yaml", ".v3-unstable"),
]

ESCAPED = [
    (
        "ascii.com/abcdefghijklmnopqrstuvwxyz.-/~_0123456789",
        "ascii.com/abcdefghijklmnopqrstuvwxyz.-/~_0123456789",
    ),
    ("github.com/GoogleCloudPlatform/omega", "github.com/!google!cloud!platform/omega"),
]

PATH_MAJOR = [
    ("v0.0.0", "", True),
    ("v0.0.0", "/v2", False),
    ("v0.0.0", ".v0", True),
    ("v0.0.0-20190510104115-cbcb75029529", ".v1", True),
    ("v1.0.0", "/v2", False),
    ("v1.0.0", ".v1", True),
    ("v1.0.0", ".v1-unstable", True),
    ("v2.0.0+incompatible", "", True),
    ("v2.0.0", "", False),
    ("v2.0.0", "/v2", True),
    ("v2.0.0", ".v2", True),
    # By CheckPathMajor.
    ("bad", "", False),
    ("v2.0.0", "v2", False),
]

# By semver.Canonical and CanonicalVersion.
CANONICAL = [
    ("v1", "v1.0.0"),
    ("v1.2.3-pre+meta", "v1.2.3-pre"),
    ("v2.0.0+incompatible", "v2.0.0+incompatible"),
    ("v2.0.0+incompatible.1", "v2.0.0"),
    ("bad", ""),
    ("", ""),
]

CANONICAL_FOR = [
    ("x.y/z", "v1.2.3", True),
    ("x.y/z", "v1.2.3-rc.1", True),
    ("x.y/z", "v0.0.0-20190510104115-cbcb75029529", True),
    ("x.y/z", "v2.0.0+incompatible", True),
    ("x.y/z/v2", "v2.0.0", True),
    ("gopkg.in/check.v1", "v0.0.0-20160102150405-abcdef123456", True),
    ("x.y/z", "v2.0.0", False),
    ("x.y/z/v2", "v1.0.0", False),
    ("x.y/z", "", False),
    ("x.y/z", "master", False),
    # F14
    ("x.y/z", "v01.0.0", False),
    ("x.y/z", "v1.0", False),
    ("x.y/z", "v1.0.0+meta", False),
    ("x.y/z", "v2.0.0+incompatible.1", False),
]

VERSION_ELEMENTS = [
    "v1.2.3",
    "v2.0.0+incompatible",
    "master",
    "V1",
    "a b",
    "x@y",
    "a..b",
    ".x",
    "a=b",
]

REFUSED_ELEMENTS = [
    "",
    ".",
    "..",
    "...",
    "v1.",
    "feature/x",
    "feature%2fx/",
    "!",
    "a!!b",
    "é",
    "aux",
    "nul.txt",
    "a:b",
    "a\\b",
    "a*",
    "a\x00",
    # F13
    "-rf",
    "/etc",
    "--upload-pack=x",
    "v1.0.0\n",
]

F8 = ["corp.example./x", "corp.example:443/x", ".corp/x", "corp.example/x./y"]
F9 = ["x.y/con", "x.y/aux.txt", "x.y/x~1", "x.y/NUL", "x.y/Com1.go"]

path_elements = st.from_regex(r"[A-Za-z0-9_~-]([A-Za-z0-9._~-]{0,6}[A-Za-z0-9_-])?", fullmatch=True)
hosts = st.sampled_from(["x.y", "github.com", "corp-1.example", "gopkg.in"])


def is_module_path(path: str) -> bool:
    try:
        module.check_path(path)
    except BadInputError:
        return False
    return True


paths = st.builds(
    lambda host, elements: "/".join([host, *elements]), hosts, st.lists(path_elements, max_size=4)
).filter(is_module_path)


@pytest.mark.parametrize(("path", "version", "fits"), CHECK)
def test_path_and_version_must_be_well_formed_and_correspond(
    path: str, version: str, fits: bool
) -> None:
    if fits:
        module.check(path, version)
    else:
        with pytest.raises(BadInputError):
            module.check(path, version)


@pytest.mark.parametrize(("path", "is_module", "is_file"), CHECK_PATH)
def test_module_and_file_paths_are_those_of_go(path: str, is_module: bool, is_file: bool) -> None:
    for check, fine in [(module.check_path, is_module), (module.check_file_path, is_file)]:
        if fine:
            check(path)
            continue
        with pytest.raises(BadInputError) as caught:
            check(path)
        assert str(caught.value).isascii()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("path", [pytest.param(path, id=f"F8 {path}") for path in F8])
def test_f8_odd_hosts_and_trailing_dots_are_refused(path: str) -> None:
    with pytest.raises(BadInputError):
        module.unescape_path(path)


@pytest.mark.parametrize("path", [pytest.param(path, id=f"F9 {path}") for path in F9])
def test_f9_windows_names_are_refused(path: str) -> None:
    with pytest.raises(BadInputError, match=r"Windows|tilde"):
        module.check_path(path)


@pytest.mark.parametrize("path", ["x.y/" + "é" * 5000, "x.y/" + "\u202e" * 5000])
def test_a_long_path_gives_a_short_message(path: str) -> None:
    with pytest.raises(BadInputError) as caught:
        module.check_path(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("prefix", "path_major"), SPLIT)
def test_the_major_version_suffix_is_split_off(prefix: str, path_major: str) -> None:
    assert module.split_path_version(prefix + path_major) == (prefix, path_major, True)


@pytest.mark.parametrize("path", [path for path, _, _ in CHECK_PATH])
def test_what_is_split_adds_up_to_the_path(path: str) -> None:
    prefix, path_major, _ = module.split_path_version(path)
    assert prefix + path_major == path


@pytest.mark.parametrize(
    "path", ["x.y/v0", "x.y/v1", "x.y/v02", "x.y/v2.1", "gopkg.in/yaml", "gopkg.in/a.v00"]
)
def test_a_suffix_that_is_not_allowed_is_not_split(path: str) -> None:
    assert module.split_path_version(path) == (path, "", False)


@pytest.mark.parametrize(("path", "escaped_path"), ESCAPED)
def test_a_capital_is_an_exclamation_mark_and_its_lower_case_letter(
    path: str, escaped_path: str
) -> None:
    assert module.escape_path(path) == escaped_path
    assert module.unescape_path(escaped_path) == path


@pytest.mark.parametrize("path", [path for path, is_module, _ in CHECK_PATH if not is_module])
def test_what_is_no_module_path_is_neither_escaped_nor_unescaped(path: str) -> None:
    with pytest.raises(BadInputError):
        module.escape_path(path)
    with pytest.raises(BadInputError):
        module.unescape_path(path)


@pytest.mark.parametrize(
    "escaped_path",
    [
        "github.com/!google!cloud!platform!/omega",
        "github.com/!0google!cloud!platform/omega",
        "github.com/!_google!cloud!platform/omega",
        "github.com/!!google!cloud!platform/omega",
        "",
        pytest.param("github.com/GoogleCloudPlatform/omega", id="F1 capital"),
        pytest.param("github.com/!Azure/x", id="F2 capital after mark"),
        pytest.param("github.com/!!a", id="F2 two marks"),
        pytest.param("github.com/x!", id="F2 trailing mark"),
        "!github.com/x",
        "github.com/!é",
    ],
)
def test_f1_f2_a_path_that_is_not_escaped_right_is_refused(escaped_path: str) -> None:
    with pytest.raises(BadInputError):
        module.unescape_path(escaped_path)


@pytest.mark.parametrize(("version", "path_major", "matches"), PATH_MAJOR)
def test_a_version_fits_its_path_major(version: str, path_major: str, matches: bool) -> None:
    assert module.matches_path_major(version, path_major) is matches


@pytest.mark.parametrize(("version", "canonical"), CANONICAL)
def test_canonical_keeps_incompatible_alone_of_build(version: str, canonical: str) -> None:
    assert module.canonical_version(version) == canonical


@pytest.mark.parametrize(("path", "version", "expected"), CANONICAL_FOR)
def test_f14_only_a_canonical_version_of_the_right_major_is_one(
    path: str, version: str, expected: bool
) -> None:
    assert module.is_canonical_for(path, version) is expected


@pytest.mark.parametrize("version", VERSION_ELEMENTS)
def test_versions_and_queries_are_escaped_and_back(version: str) -> None:
    module.check_version_element(version)
    assert module.unescape_version(module.escape_version(version)) == version


@pytest.mark.parametrize("version", REFUSED_ELEMENTS)
def test_f13_what_is_no_query_is_refused_in_both_forms(version: str) -> None:
    for refuse in (module.check_version_element, module.escape_version, module.unescape_version):
        with pytest.raises(BadInputError) as caught:
            refuse(version)
        assert str(caught.value).isascii()


def test_versions_escape_capitals_as_paths_do() -> None:
    assert module.escape_version("v1.0.0-RC1") == "v1.0.0-!r!c1"
    for escaped_version in ("v1.0.0-RC1", "v1!", "!!a", "!1"):
        with pytest.raises(BadInputError, match="capital"):
            module.unescape_version(escaped_version)


@given(paths)
def test_escaping_goes_round_and_leaves_no_capital(path: str) -> None:
    escaped_path = module.escape_path(path)
    assert module.unescape_path(escaped_path) == path
    assert escaped_path == escaped_path.lower()


@given(paths, st.data())
def test_every_byte_flip_and_truncation_is_refused_or_is_the_one_spelling_of_another_path(
    path: str, data: st.DataObject
) -> None:
    escaped_path = module.escape_path(path)
    flipped = bytearray(escaped_path.encode())
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= data.draw(st.integers(1, 255))
    cut = escaped_path[: data.draw(st.integers(0, len(escaped_path) - 1))]
    for changed in (flipped.decode("latin-1"), cut):
        try:
            other = module.unescape_path(changed)
        except BadInputError:
            continue
        assert other != path
        assert module.escape_path(other) == changed


@given(st.text("vV1.-+!a/é \n~x@", max_size=12))
def test_any_text_is_refused_or_has_one_spelling(text: str) -> None:
    for unescape, escape in [
        (module.unescape_path, module.escape_path),
        (module.unescape_version, module.escape_version),
    ]:
        try:
            plain = unescape(text)
        except BadInputError:
            continue
        assert escape(plain) == text


@given(st.text(max_size=20))
def test_any_file_name_is_accepted_or_refused_without_another_exception(name: str) -> None:
    try:
        module.check_file_path(name)
    except BadInputError as error:
        assert str(error).isascii()
