"""Patterns over module paths against Go's MatchPrefixPatterns and path.Match."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadInputError
from app.core.modulepattern import MAX_PATTERN_CHARS, Pattern, match_prefix_patterns

# TestMatchPrefixPatterns of golang.org/x/mod/module/module_test.go.
PREFIX_PATTERNS = [
    ("", "rsc.io/quote", False),
    ("/", "rsc.io/quote", False),
    ("*/quote", "rsc.io/quote", True),
    ("*/quo", "rsc.io/quote", False),
    ("*/quo??", "rsc.io/quote", True),
    ("*/quo*", "rsc.io/quote", True),
    ("*quo*", "rsc.io/quote", False),
    ("rsc.io", "rsc.io/quote", True),
    ("*.io", "rsc.io/quote", True),
    ("rsc.io/", "rsc.io/quote", True),
    ("rsc", "rsc.io/quote", False),
    ("rsc*", "rsc.io/quote", True),
    ("rsc.io", "rsc.io/quote/v3", True),
    ("*/quote", "rsc.io/quote/v3", True),
    ("*/quote/", "rsc.io/quote/v3", True),
    ("*/quote/*", "rsc.io/quote/v3", True),
    ("*/quote/*/", "rsc.io/quote/v3", True),
    ("*/v3", "rsc.io/quote/v3", False),
    ("*/*/v3", "rsc.io/quote/v3", True),
    ("*/*/*", "rsc.io/quote/v3", True),
    ("*/*/*/", "rsc.io/quote/v3", True),
    ("*/*/*", "rsc.io/quote", False),
    ("*/*/*/", "rsc.io/quote", False),
    ("*/*/*,,", "rsc.io/quote", False),
    ("*/*/*,,*/quote", "rsc.io/quote", True),
    (",,*/quote", "rsc.io/quote", True),
]

# Go's path/match_test.go, those whose name has as many slashes as the pattern; None is malformed.
PATH_MATCH: list[tuple[str, str, bool | None]] = [
    ("abc", "abc", True),
    ("*", "abc", True),
    ("*c", "abc", True),
    ("a*", "a", True),
    ("a*", "abc", True),
    ("a*/b", "abc/b", True),
    ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
    ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
    ("a*b?c*x", "abxbbxdbxebxczzx", True),
    ("a*b?c*x", "abxbbxdbxebxczzy", False),
    ("ab[c]", "abc", True),
    ("ab[b-d]", "abc", True),
    ("ab[e-g]", "abc", False),
    ("ab[^c]", "abc", False),
    ("ab[^b-d]", "abc", False),
    ("ab[^e-g]", "abc", True),
    ("a\\*b", "a*b", True),
    ("a\\*b", "ab", False),
    ("a?b", "a☺b", True),
    ("a[^a]b", "a☺b", True),
    ("a???b", "a☺b", False),
    ("a[^a][^a][^a]b", "a☺b", False),
    ("[a-ζ]*", "\u03b1", True),
    ("*[a-ζ]", "A", False),
    ("[\\]a]", "]", True),
    ("[\\-]", "-", True),
    ("[x\\-]", "x", True),
    ("[x\\-]", "-", True),
    ("[x\\-]", "z", False),
    ("[\\-x]", "x", True),
    ("[\\-x]", "-", True),
    ("[\\-x]", "a", False),
    ("[]a]", "]", None),
    ("[-]", "-", None),
    ("[x-]", "x", None),
    ("[x-]", "-", None),
    ("[x-]", "z", None),
    ("[-x]", "x", None),
    ("[-x]", "-", None),
    ("[-x]", "a", None),
    ("\\", "a", None),
    ("[a-b-c]", "a", None),
    ("[", "a", None),
    ("[^", "a", None),
    ("[^bc", "a", None),
    ("a[", "a", None),
    ("a[", "ab", None),
    ("a[", "x", None),
    ("*x", "xxx", True),
    # By match.go: a class needs a member, ranges may run backwards, "^" is special once.
    ("[^]", "a", None),
    ("[z-a]", "m", False),
    ("[^z-a]", "m", True),
    ("[^^]", "^", False),
    ("[*]", "*", True),
    ("[*]", "a", False),
    ("**", "a", True),
    ("]", "]", True),
    # A class is not stopped by a slash, but both sides have equally many.
    ("a[/]b", "a/b", True),
    ("a[^x]b[^x]c/d", "a/b/c", False),
]

REFUSED = [
    ("", "empty"),
    ("a" * (MAX_PATTERN_CHARS + 1), "longer than 256"),
    ("corp.example/é", "not ASCII"),
    ("corp.example/a b", "white space"),
    ("corp.example\n", "white space or a control"),
    ("corp.example\x00", "control character"),
    ("a.example,b.example", "comma"),
    ("github.com/!azure", "exclamation mark"),
    ("/corp.example", "slash"),
    ("corp.example/", "slash"),
    ("/", "slash"),
    ("corp.example//x", "empty"),
    ("https://corp.example", "empty"),
    ("corp.example/../x", '".."'),
    ("./x", '"."'),
    ("github.com/x/...", "below it"),
    ("https://github.com/x", "not a URL"),
    ("corp.example/[a", "not a glob"),
    ("corp.example/[]", "not a glob"),
    ("corp.example/[^]", "not a glob"),
    ("corp.example/a\\", "not a glob"),
    ("corp.example:443/x", "no module path has a ':'"),
    ("corp.example/x@v1", "no module path has a '@'"),
    ("corp.example/\\*", "no module path has a"),
]


def reference_match(pattern: str, name: str) -> bool:
    """path.Match of a well-formed pattern, by trying everything: no care for time."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        end = name.find("/") if "/" in name else len(name)
        return any(reference_match(pattern[1:], name[at:]) for at in range(end + 1))
    if not name:
        return False
    if pattern[0] == "[":
        close = pattern.index("]")
        body, rest = pattern[1:close], pattern[close + 1 :]
        negated, body = body.startswith("^"), body.removeprefix("^")
        low, high = body[0], body[-1]
        return (low <= name[0] <= high) != negated and reference_match(rest, name[1:])
    fits = name[0] != "/" if pattern[0] == "?" else pattern[0] == name[0]
    return fits and reference_match(pattern[1:], name[1:])


def reference_prefix_match(glob: str, target: str) -> bool:
    elements = target.split("/")
    element_count = glob.count("/") + 1
    return len(elements) >= element_count and reference_match(
        glob, "/".join(elements[:element_count])
    )


globs = st.lists(
    st.sampled_from(["*", "?", "a", "b", ".", "/", "[a]", "[a-b]", "[^a]", "ab", "*a", "*/"]),
    min_size=1,
    max_size=8,
).map("".join)
targets = st.text("abc./", max_size=12)


@pytest.mark.parametrize(("glob_list", "target", "matches"), PREFIX_PATTERNS)
def test_f18_a_list_matches_as_go_says(glob_list: str, target: str, matches: bool) -> None:
    assert match_prefix_patterns(glob_list, target) is matches


@pytest.mark.parametrize(("glob", "name", "matches"), PATH_MATCH)
def test_f18_a_glob_matches_as_path_match_says(glob: str, name: str, matches: bool | None) -> None:
    assert match_prefix_patterns(glob, name) is bool(matches)


@pytest.mark.parametrize("glob", [glob for glob, _, matches in PATH_MATCH if matches is None])
def test_f18_a_malformed_glob_is_refused_in_a_rule_and_ignored_in_a_list(glob: str) -> None:
    with pytest.raises(BadInputError):
        Pattern.parse(glob)
    assert match_prefix_patterns(f"{glob}x,rsc.io", "rsc.io/quote")


@pytest.mark.parametrize(
    ("glob_list", "target", "matches"),
    [row for row in PREFIX_PATTERNS if row[0].strip("/") and "," not in row[0]],
)
def test_f18_one_pattern_matches_as_a_list_of_one(
    glob_list: str, target: str, matches: bool
) -> None:
    assert Pattern.parse(glob_list.removesuffix("/")).matches(target) is matches


@pytest.mark.parametrize(
    "path", ["corp.example/teamevil", "corp.example/teamevil/x", "corp.example", "corp.exampleteam"]
)
def test_f17_a_pattern_ends_at_an_element_boundary(path: str) -> None:
    assert not Pattern.parse("corp.example/team").matches(path)
    assert Pattern.parse("corp.example/team").matches("corp.example/team")
    assert Pattern.parse("corp.example/team").matches("corp.example/team/x")


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_a_bad_pattern_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadInputError) as caught:
        Pattern.parse(text)
    message = str(caught.value)
    assert reason in message
    assert message.isascii()
    assert message.isprintable()


def test_capitals_are_told_apart() -> None:
    assert Pattern.parse("github.com/Azure").matches("github.com/Azure/x")
    assert not Pattern.parse("github.com/Azure").matches("github.com/azure/x")


FOLDED = [
    # glob, path, whether some spelling of the path matches
    ("corp.example/Team", "corp.example/team/x", True),
    ("corp.example/team", "Corp.Example/TEAM", True),
    ("corp.example/team", "corp.example/teams", False),
    ("corp.example/[a-m]*", "corp.example/Kit", True),
    ("corp.example/[A-M]*", "corp.example/kit", True),
    ("corp.example/[^A-Z]it", "corp.example/kit", True),
    ("corp.example/x-[0-9]", "corp.example/X-7", True),
    ("corp.example/x", "corp.example/y", False),
    ("corp.example/team/sub", "CORP.example", False),
]


@pytest.mark.parametrize(("glob", "path", "matches"), FOLDED)
def test_F19_without_case_a_pattern_matches_every_spelling(
    glob: str, path: str, matches: bool
) -> None:
    assert Pattern.parse(glob).matches_folded(path) is matches


def test_F19_only_ascii_letters_fold() -> None:
    assert not Pattern.parse("example.com/k").matches_folded("example.com/\u212a")


def test_patterns_are_equal_by_their_text() -> None:
    assert Pattern.parse("a.b/*") == Pattern("a.b/*")
    assert len({Pattern("a.b/*"), Pattern("a.b/*"), Pattern("a.b")}) == 2
    assert str(Pattern("a.b/*")) == "a.b/*"


def test_specificity_counts_elements_then_literal_characters() -> None:
    ascending = ["*", "*.example", "corp.example", "*/*", "corp.example/[a-z]*", "corp.example/t?"]
    ascending += ["corp.example/team", "corp.example/*/x", "corp.example/team/x"]
    patterns = [Pattern(text) for text in ascending]
    assert sorted(patterns, key=lambda pattern: pattern.specificity) == patterns
    assert Pattern("corp.example/team").specificity == (2, 17)
    assert Pattern("corp.example/\\t*").specificity == (2, 14)


def test_many_stars_take_no_exponential_time() -> None:
    hostile = Pattern("*a" * 127 + "*b")
    assert not hostile.matches("a" * 2048)
    assert hostile.matches("a" * 2048 + "b/x")


@given(globs, targets)
@settings(max_examples=500)
def test_f18_matching_agrees_with_trying_everything(glob: str, target: str) -> None:
    expected = bool(glob.removesuffix("/")) and reference_prefix_match(
        glob.removesuffix("/"), target
    )
    assert match_prefix_patterns(glob, target) is expected


@given(st.text("*?[]^-\\/ab.,! é\n", max_size=12), targets)
@settings(max_examples=500)
def test_any_text_is_a_pattern_or_refused_and_a_pattern_matches_as_in_a_list(
    text: str, target: str
) -> None:
    try:
        pattern = Pattern.parse(text)
    except BadInputError:
        match_prefix_patterns(text, target)
    else:
        assert pattern.matches(target) is match_prefix_patterns(text, target)


@given(globs, targets)
def test_F19_what_matches_exactly_matches_without_case(glob: str, target: str) -> None:
    try:
        pattern = Pattern.parse(glob)
    except BadInputError:
        return
    if pattern.matches(target):
        for spelling in (target, target.upper(), target.lower(), target.swapcase()):
            assert pattern.matches_folded(spelling) or "[" in glob
