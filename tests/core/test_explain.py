"""What an explanation shows, against the decision itself: it can't tell another story."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.acl import Access, Owners, Ownership, PlatformAccess, RecordedRule, Stage
from app.core.channel import ToolchainOffer
from app.core.effect import Effect
from app.core.explain import ExplainedStep, Outcome, explain
from app.core.toolchain import MODULE_PATH
from tests.nouns import an_owner, recorded_rule

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
ALLOW, DENY = Effect.ALLOW, Effect.DENY
X = "corp.example/team/x"


def rule(
    number: int, effect: Effect, pattern: str, versions: str = "", **more: object
) -> RecordedRule:
    return recorded_rule(number, effect, pattern, versions, **more)


def _access(
    own: list[RecordedRule],
    platform: list[RecordedRule],
    owned: Sequence[Ownership],
    default: Effect,
) -> Access:
    return Access(
        tenant="acme", default=default, rules=own, platform=PlatformAccess(platform, Owners(owned))
    )


def explained(
    *rules: RecordedRule,
    default: Effect = DENY,
    version: str | None = "v1.0.0",
    owned: tuple[Ownership, ...] = (),
) -> list[ExplainedStep]:
    own = [r for r in rules if r.tenant is not None]
    access = _access(own, [r for r in rules if r.tenant is None], owned, default)
    return explain(access.to(X, NOW), version)


def shown(lines: list[ExplainedStep]) -> list[tuple[str, str, bool]]:
    return [(line.what, line.outcome.value, line.decides) for line in lines]


TOOLCHAIN = "v0.0.1-go1.23.1.linux-amd64"


def through_channel(
    *offered: str, version: str | None, rules: Sequence[RecordedRule] = ()
) -> list[ExplainedStep]:
    """Explain a toolchain to a tenant whose channel offers some releases."""
    access = Access(
        tenant="acme",
        default=DENY,
        rules=rules,
        toolchains=ToolchainOffer(
            "stable", current=offered[0] if offered else "", versions=offered
        ),
    )
    module = access.to(MODULE_PATH, NOW)
    lines, decision = explain(module, version), module.decide(version)
    [decides] = [line for line in lines if line.decides]
    assert (decides.outcome is Outcome.ALLOWS) is decision.allowed
    return lines


def test_a_channel_takes_the_place_of_allow_rules_and_default() -> None:
    offers = "channel stable offers go1.23.1 go1.22.9"
    allow = rule(1, ALLOW, MODULE_PATH, "v0.0.1-go1.21.1.linux-amd64")
    both = ("go1.22.9", "go1.23.1")
    for version in (TOOLCHAIN, None):
        lines = through_channel(*both, version=version, rules=[allow])
        assert shown(lines)[3:] == [(offers, "allows", True)]
    other = "v0.0.1-go1.21.1.linux-amd64"
    assert shown(through_channel(*both, version=other, rules=[allow]))[3:] == [
        (offers, "denies", True)
    ]
    deny = rule(2, DENY, MODULE_PATH, TOOLCHAIN)
    denied = through_channel(*both, version=TOOLCHAIN, rules=[deny])
    assert [line.stage for line in denied if line.decides] == [Stage.DENY]
    empty = through_channel(version=None)
    assert shown(empty)[3:] == [("channel stable offers nothing yet", "denies", True)]


@pytest.mark.parametrize(
    "version", ["go1.23.1", "v0.0.1-go1.23.1", "v0.0.1-go1.23.11.linux-amd64", "v1.0.0", ""]
)
def test_what_is_no_version_of_an_offered_toolchain_is_denied(version: str) -> None:
    assert through_channel("go1.23.1", version=version)[-1].outcome is Outcome.DENIES


def test_a_channel_says_nothing_of_other_modules() -> None:
    offer = ToolchainOffer("stable", current="go1.23.1", versions=("go1.23.1",))
    access = Access(tenant="acme", default=ALLOW, toolchains=offer)
    assert access.to("golang.org/x/mod", NOW).decide("v0.1.0").by == "default"


def test_without_any_rule_each_stage_has_its_line_and_the_default_decides() -> None:
    assert shown(explained()) == [
        ("no platform rule is about this module", "does not apply", False),
        ("no owned prefix covers this module", "does not apply", False),
        ("no deny rule is about this module", "does not apply", False),
        ("no allow rule is about this module", "does not apply", False),
        ("default of acme: deny", "denies", True),
    ]


def test_every_step_is_told_in_the_order_that_it_acts_and_the_first_that_decides_is_marked() -> (
    None
):
    lines = explained(
        rule(1, ALLOW, "corp.example/team", "<v2.0.0", reason="reviewed"),
        rule(2, DENY, "corp.example", "v1.0.0", reason="CVE-1"),
        rule(3, DENY, "corp.example/*", ">=v3.0.0"),
        rule(4, DENY, "corp.example/team/x", "v0.9.0", tenant=None),
        owned=(an_owner("corp.example", "globex", "acme", "zeta"),),
        default=ALLOW,
    )
    assert shown(lines) == [
        ("platform rule 4: deny corp.example/team/x v0.9.0", "does not apply", False),
        ("corp.example belongs to globex, granted to acme zeta", "does not apply", False),
        ("rule 2: deny corp.example v1.0.0", "denies", True),
        ("rule 3: deny corp.example/* >=v3.0.0", "does not apply", False),
        ("rule 1: allow corp.example/team <v2.0.0", "allows", False),
        ("default of acme: allow", "allows", False),
    ]
    assert [line.reason for line in lines] == [
        "it is about other versions",
        "open to this tenant",
        "CVE-1",
        "it is about other versions",
        "reviewed",
        "",
    ]


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("globex", "corp.example belongs to another tenant"),
        ("acme", "corp.example belongs to acme"),
    ],
)
def test_no_other_tenant_is_named_to_those_who_may_not_know_them(owner: str, expected: str) -> None:
    owned = (an_owner("corp.example", owner, "zeta"),)
    access = _access([], [], owned, DENY).to(X, NOW)
    whats = [line.what for line in explain(access, "v1.0.0", names_others=False)]
    assert whats[1] == expected


def test_allow_rules_that_name_other_versions_deny_this_one_in_a_line_of_their_own() -> None:
    lines = explained(rule(1, ALLOW, X, "<v1.0.0"), rule(2, ALLOW, X, ">v1.0.0"), default=ALLOW)
    assert shown(lines)[-4:] == [
        ("rule 1: allow corp.example/team/x <v1.0.0", "does not apply", False),
        ("rule 2: allow corp.example/team/x >v1.0.0", "does not apply", False),
        ("the rules above allow other versions, so this one is not allowed", "denies", True),
        ("default of acme: allow", "allows", False),
    ]


def test_a_rule_says_until_when_it_acts_and_is_gone_after_that() -> None:
    until = rule(1, DENY, X, expires_at=NOW + timedelta(days=1))
    [line] = [line for line in explained(until) if line.stage is Stage.DENY]
    assert line.what == "rule 1: deny corp.example/team/x until 2026-11-26 12:00 UTC"
    over = rule(1, DENY, X, expires_at=NOW)
    [line] = [line for line in explained(over) if line.stage is Stage.DENY]
    assert line.what == "no deny rule is about this module"


def test_about_the_module_as_a_whole_a_rule_for_some_versions_does_not_apply() -> None:
    lines = explained(rule(1, DENY, X, "v1"), version=None, default=ALLOW)
    [line] = [line for line in lines if line.stage is Stage.DENY]
    assert (line.outcome, line.reason) == (Outcome.PASSES, "it is about some versions only")


PATTERNS = st.sampled_from(["corp.example", "corp.example/team", X, "*.example", "other.example"])
RULES = st.builds(
    rule,
    st.integers(1, 99),
    st.sampled_from(Effect),
    PATTERNS,
    st.sampled_from(["", "v1", "<v1.0.0", ">=v1.0.0"]),
    tenant=st.sampled_from(["acme", None]),
)
OWNED = st.builds(
    lambda prefix, owner: an_owner(prefix, *owner),
    st.sampled_from(["corp.example", "corp.example/team", "other.example"]),
    st.sampled_from([("acme",), ("globex",), ("globex", "acme")]),
)


@given(
    st.lists(RULES, max_size=6),
    st.lists(OWNED, max_size=2),
    st.sampled_from(Effect),
    st.sampled_from(["v1.0.0", "v0.9.0", "v2.0.0", None]),
)
def test_what_is_marked_is_what_decides(
    rules: list[RecordedRule], owned: list[Ownership], default: Effect, version: str | None
) -> None:
    platform = [r for r in rules if r.tenant is None and r.effect is DENY]
    access = _access([r for r in rules if r.tenant], platform, owned, default).to(X, NOW)
    lines, decision = explain(access, version), access.decide(version)
    [decides] = [line for line in lines if line.decides]
    assert (decides.outcome is Outcome.ALLOWS) is decision.allowed
    before = lines[: lines.index(decides)]
    assert all(line.outcome is Outcome.PASSES for line in before)
    assert [*dict.fromkeys(line.stage for line in lines)] == [
        stage for stage in Stage if stage is not Stage.CHANNEL
    ]


@pytest.mark.parametrize("stage", list(Stage))
def test_every_stage_has_a_name_for_people(stage: Stage) -> None:
    lines = [*explained(), *through_channel("go1.23.1", version=TOOLCHAIN)]
    assert stage.value in {line.stage.value for line in lines}
