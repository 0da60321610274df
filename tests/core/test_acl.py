"""The order in which rules act, against a naive evaluator that is written down separately here."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.acl import Access, Decision, Owners, Ownership, PlatformAccess, RecordedRule
from app.core.effect import Effect
from tests.nouns import an_owner, recorded_rule

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ALLOW, DENY = Effect.ALLOW, Effect.DENY
X = "corp.example/team/x"


def rule(effect: Effect, pattern: str, versions: str = "", **more: object) -> RecordedRule:
    return recorded_rule(1, effect, pattern, versions, **more)


def platform(pattern: str, versions: str = "", **more: object) -> RecordedRule:
    return rule(DENY, pattern, versions, **{"id": 9, **more, "tenant": None})


def decided(
    *rules: RecordedRule,
    default: Effect = DENY,
    module: str = X,
    version: str | None = "v1.0.0",
    owned: tuple[Ownership, ...] = (),
) -> Decision:
    own = [r for r in rules if r.tenant is not None]
    others = [r for r in rules if r.tenant is None]
    access = Access(
        tenant="acme", default=default, rules=own, platform=PlatformAccess(others, Owners(owned))
    )
    return access.to(module, NOW).decide(version)


OTHERS = an_owner("corp.example", "globex")
GRANTED = an_owner("corp.example", "globex", "acme")
OWN_BELOW = an_owner("corp.example/team", "acme")

# What is given, whether it is allowed, what decides: design.md, section 8, in its order.
ORDER = [
    ("a platform denial beats everything", [platform("corp.example"), rule(ALLOW, X)], (), False),
    ("ownership beats an allow rule", [rule(ALLOW, X)], (OTHERS,), False),
    ("a grant opens", [rule(ALLOW, X)], (GRANTED,), True),
    ("the longest owned prefix decides", [rule(ALLOW, X)], (OTHERS, OWN_BELOW), True),
    ("a denial beats a longer allow", [rule(DENY, "corp.example"), rule(ALLOW, X)], (), False),
    ("an allow rule beats the default", [rule(ALLOW, "corp.example/*")], (), True),
    ("without a rule the default decides", [], (), False),
    ("a grant allows nothing by itself", [], (GRANTED,), False),
]


@pytest.mark.parametrize(
    ("rules", "owned", "allowed"), [c[1:] for c in ORDER], ids=[c[0] for c in ORDER]
)
def test_rules_act_in_the_order_of_the_contract(
    rules: list[RecordedRule], owned: tuple[Ownership, ...], allowed: bool
) -> None:
    assert decided(*rules, owned=owned).allowed is allowed


VERSIONS = [
    # the longest allow rule names versions: others are denied, even where the default allows
    ([rule(ALLOW, "corp.example/team", "<v2.0.0")], "v1.0.0", True),
    ([rule(ALLOW, "corp.example/team", "<v2.0.0")], "v2.0.0", False),
    # a shorter allow rule does not widen a longer one
    ([rule(ALLOW, "corp.example"), rule(ALLOW, X, "v1")], "v2.0.0", False),
    # two of one length add up
    ([rule(ALLOW, X, "v1.0"), rule(ALLOW, X, "v1.2", id=2)], "v1.2.5", True),
    ([rule(ALLOW, X, "v1.0"), rule(ALLOW, X, "v1.2", id=2)], "v1.1.0", False),
    # a denial of some versions leaves the others, and the module as a whole
    ([rule(DENY, X, "v1.0.0")], "v1.0.0", False),
    ([rule(DENY, X, "v1.0.0")], "v1.0.1", True),
    ([rule(DENY, X, "v1.0.0")], None, True),
    ([platform("corp.example", "<v1.5.0")], None, True),
    ([platform("corp.example", "<v1.5.0")], "v1.4.9", False),
    ([rule(ALLOW, X, "v7")], None, True),
    ([rule(DENY, X)], None, False),
]


@pytest.mark.parametrize(("rules", "version", "allowed"), VERSIONS, ids=range(len(VERSIONS)))
def test_a_rule_with_versions_is_about_these_alone(
    rules: list[RecordedRule], version: str | None, allowed: bool
) -> None:
    assert decided(*rules, default=ALLOW, version=version).allowed is allowed


BOUNDARIES = [
    ("corp.example/team", "corp.example/team", True),
    ("corp.example/team", "corp.example/team/x", True),
    ("corp.example/team", "corp.example/teamevil/x", False),
    ("corp.example/team", "corp.example/tea", False),
    ("corp.example/team", "evil.example/corp.example/team", False),
    ("corp.example/*", "corp.example", False),
    ("corp.example/t?am", "corp.example/team/x", True),
    ("corp.example/[s-u]eam", "corp.example/team/x", True),
    ("*.example/team", "corp.example/team/x", True),
]


@pytest.mark.parametrize(("pattern", "module", "allowed"), BOUNDARIES)
def test_F17_F18_an_allow_rule_ends_at_an_element(pattern: str, module: str, allowed: bool) -> None:
    assert decided(rule(ALLOW, pattern), module=module).allowed is allowed


def test_F17_an_owned_prefix_ends_at_an_element() -> None:
    owned = (an_owner("corp.example/team", "globex"),)
    for module, allowed in (("corp.example/team/x", False), ("corp.example/teamevil", True)):
        assert decided(default=ALLOW, module=module, owned=owned).allowed is allowed


@pytest.mark.parametrize("left", [timedelta(microseconds=1), timedelta(0), timedelta(days=-1)])
def test_an_expired_rule_does_nothing(left: timedelta) -> None:
    denial = rule(DENY, X, expires_at=NOW + left)
    assert decided(denial, default=ALLOW).allowed is (left <= timedelta(0))


def test_a_refusal_tells_rule_pattern_and_reason_in_one_line() -> None:
    why = decided(rule(DENY, "corp.example", "<v2.0.0", id=7, reason="CVE-2026-1"))
    assert why.by == "rule 7"
    assert why.reason == f"{X}@v1.0.0 is denied by rule 7 (deny corp.example <v2.0.0): CVE-2026-1"
    outside = decided(rule(ALLOW, X, "v2", id=8, reason="ask Ann"))
    assert (outside.by, outside.allowed) == ("rule 8", False)
    assert "outside the allowed versions" in outside.reason
    assert "ask Ann" in outside.reason
    assert "globex" not in decided(owned=(OTHERS,)).reason  # who the owner is, is nobody's business


# The model: the contract's words, one after another, with patterns as plain prefixes.
_PATHS = ["a.b", "a.b/c", "a.b/c/d", "a.b/e", "x.y/c"]
_RANGES = [None, "v1", "<v1.1.0", ">=v1.1.0"]
_INSIDE = {
    None: {"v1.0.0", "v1.1.0", "v2.0.0+incompatible"},
    "v1": {"v1.0.0", "v1.1.0"},
    "<v1.1.0": {"v1.0.0"},
    ">=v1.1.0": {"v1.1.0", "v2.0.0+incompatible"},
}
_rules = st.builds(
    lambda number, effect, pattern, versions, is_over, is_platforms: (
        number,
        DENY if is_platforms else effect,
        pattern,
        versions,
        is_over,
        is_platforms,
    ),
    st.integers(1, 99),
    st.sampled_from(Effect),
    st.sampled_from(_PATHS),
    st.sampled_from(_RANGES),
    st.booleans(),
    st.booleans(),
)
_owned = st.dictionaries(
    st.sampled_from(_PATHS),
    st.tuples(st.sampled_from(["acme", "globex"]), st.booleans()),
    max_size=2,
)


def _lies_in(module: str, prefix: str) -> bool:
    return (module + "/").startswith(prefix + "/")


def naive(
    rules: list[tuple],
    owned: dict[str, tuple[str, bool]],
    default: Effect,
    module: str,
    version: str,
) -> bool:
    live = [r for r in rules if not r[4] and _lies_in(module, r[2])]
    covering = [r for r in live if version in _INSIDE[r[3]]]
    if any(r[5] for r in covering):
        return False
    owners = sorted((p for p in owned if _lies_in(module, p)), key=len)
    if owners and owned[owners[-1]][0] != "acme" and not owned[owners[-1]][1]:
        return False
    if any(r[1] is DENY and not r[5] for r in covering):
        return False
    allows = [r for r in live if r[1] is ALLOW]
    if allows:
        longest = max(len(r[2]) for r in allows)
        return any(len(r[2]) == longest and r in covering for r in allows)
    return default is ALLOW


@settings(max_examples=300)
@given(
    st.lists(_rules, max_size=6),
    _owned,
    st.sampled_from(Effect),
    st.sampled_from(_PATHS),
    st.sampled_from(sorted(_INSIDE[None])),
)
def test_every_decision_is_the_naive_evaluators(
    rules: list[tuple],
    owned: dict[str, tuple[str, bool]],
    default: Effect,
    module: str,
    version: str,
) -> None:
    made = [
        rule(
            effect,
            pattern,
            versions or "",
            id=number,
            expires_at=NOW if is_over else None,
            tenant=None if is_platforms else "acme",
        )
        for number, effect, pattern, versions, is_over, is_platforms in rules
    ]
    prefixes = tuple(
        an_owner(prefix, owner, *(["acme"] if granted and owner != "acme" else []))
        for prefix, (owner, granted) in owned.items()
    )
    decision = decided(*made, default=default, module=module, version=version, owned=prefixes)
    assert decision.allowed is naive(rules, owned, default, module, version)
    assert bool(decision.reason) is not decision.allowed
    assert (
        decided(
            *reversed(made), default=default, module=module, version=version, owned=prefixes[::-1]
        ).allowed
        is decision.allowed
    )


@settings(max_examples=200)
@given(st.lists(_rules, max_size=6), st.sampled_from(Effect), st.sampled_from(_PATHS))
def test_a_module_is_refused_as_a_whole_only_if_no_version_is_allowed(
    rules: list[tuple], default: Effect, module: str
) -> None:
    made = [rule(r[1], r[2], r[3] or "", id=r[0], tenant=None if r[5] else "acme") for r in rules]
    whole = decided(*made, default=default, module=module, version=None)
    if not whole.allowed:
        for version in _INSIDE[None]:
            assert not decided(*made, default=default, module=module, version=version).allowed


SPELLINGS = ["corp.example/team/x", "corp.example/Team/x", "CORP.example/TEAM/X"]


@pytest.mark.parametrize("module", SPELLINGS)
@pytest.mark.parametrize("pattern", ["corp.example/team", "Corp.Example/team"])
def test_F19_a_denial_holds_for_every_spelling(module: str, pattern: str) -> None:
    for denial in (rule(DENY, pattern), platform(pattern)):
        assert not decided(denial, default=ALLOW, module=module).allowed


@pytest.mark.parametrize("module", SPELLINGS)
@pytest.mark.parametrize("prefix", ["corp.example/team", "corp.example/TEAM"])
def test_F19_an_owned_prefix_is_owned_in_every_spelling(module: str, prefix: str) -> None:
    owned = (an_owner(prefix, "globex"),)
    assert not decided(rule(ALLOW, "*"), default=ALLOW, module=module, owned=owned).allowed


def test_F19_an_allow_rule_is_for_its_own_spelling() -> None:
    allow = rule(ALLOW, "corp.example/team")
    assert [decided(allow, module=m).allowed for m in SPELLINGS] == [True, False, False]
