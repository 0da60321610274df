"""The index finds exactly the patterns that match, and tries few of them."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadInputError
from app.core.modulepattern import Pattern
from app.core.patternindex import PatternIndex

SHAPES = [
    ("github.com/team{}", "github.com/team7/x"),
    ("github.com/team{}/*", "github.com/team7/x/v2"),
    ("*.evil{}.example", "www.evil7.example/x"),
    ("*.example/team{}", "a.example/team7/x"),
    ("*/team{}", "github.com/team7"),
    ("host*/team{}-*", "host.example/team7-x"),
    ("team{}*", "team7.example/x"),
    ("host.example/a?/*team{}", "host.example/ab/theteam7"),
    ("host.example/team{}/[a-m]*", "host.example/team7/lib"),
]


@pytest.mark.parametrize(("shape", "path"), SHAPES, ids=[shape for shape, _ in SHAPES])
@pytest.mark.parametrize("folded", [True, False])
def test_of_a_thousand_patterns_of_one_shape_at_most_two_are_tried(
    shape: str, path: str, *, folded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    patterns = [Pattern.parse(shape.format(number)) for number in range(1000)]
    index = PatternIndex(((p, p) for p in patterns), folded=folded)
    tried: list[str] = []
    for name in ("matches", "matches_folded"):
        original = getattr(Pattern, name)

        def counted(self: Pattern, path: str, original: Any = original) -> bool:
            tried.append(self.text)
            result: bool = original(self, path)
            return result

        monkeypatch.setattr(Pattern, name, counted)
    assert [p.text for p in index.matching(path)] == [shape.format(7)]
    assert len(tried) <= 2  # a pattern of its own piece, and the first one of the common piece


def test_the_order_is_that_of_the_entries_and_equal_patterns_are_all_found() -> None:
    texts = ["*", "a.b/c", "a.b", "*.b", "a.b", "a.*/c"]
    index = PatternIndex(((Pattern(t), n) for n, t in enumerate(texts)), folded=False)
    assert index.matching("a.b/c/d") == [0, 1, 2, 3, 4, 5]
    assert index.matching("a.b") == [0, 2, 3, 4]


def test_case_is_ignored_only_where_it_is_asked_for() -> None:
    entries = [(Pattern("GitHub.com/Evil*"), 1), (Pattern("*.Evil.example"), 2)]
    folded = PatternIndex(entries, folded=True)
    exact = PatternIndex(entries, folded=False)
    assert folded.matching("github.com/eVILs") == [1]
    assert folded.matching("www.evil.EXAMPLE/x") == [2]
    assert exact.matching("github.com/eVILs") == []
    assert exact.matching("GitHub.com/Evils") == [1]


_GLOB = st.text(alphabet="aB./*?[^]\\", min_size=1, max_size=9)
_PATH = st.text(alphabet="aB./", min_size=1, max_size=10)


@settings(max_examples=300)
@given(st.lists(_GLOB, max_size=6), _PATH, st.booleans())
def test_the_index_agrees_with_trying_each_pattern(
    globs: list[str], path: str, folded: bool
) -> None:
    patterns = []
    for glob in globs:
        try:
            patterns.append(Pattern(glob))
        except BadInputError:
            continue
    index = PatternIndex(((p, p) for p in patterns), folded=folded)
    matches = Pattern.matches_folded if folded else Pattern.matches
    assert index.matching(path) == [p for p in patterns if matches(p, path)]
