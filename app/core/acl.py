"""Which modules and versions a tenant may use: rules, prefix ownership, and the order they act in.

    1. a platform rule that denies
    2. ownership: a prefix that belongs to a tenant is closed to all others but those granted
    3. a deny rule of the tenant
    4. the tenant's allow rules of the most specific matching pattern
    5. the tenant's default

Where a channel says which toolchains the tenant gets, the channel takes the place of steps 4 and 5
for golang.org/toolchain: what the channel offers is allowed, and everything else is denied.

Steps 1 to 3 match without regard to case, since GitHub and others serve one repository under many
spellings: `Evil/pkg` is no way around a rule about `evil/pkg`. Step 4 matches exactly.

Step 4: where the most specific allow rules name versions, other versions are denied; an admin who
writes "allow example.com/x <v2" in an open tenant wants no v2 there.

The order is written once, in `ModuleAccess.steps`: the first step that decides is the decision, and
`explain` shows all of them.

Not here: who asks (services/tenants), and where a module comes from (`routing`).
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from app.core.channel import ToolchainOffer
from app.core.effect import Effect
from app.core.errors import BadInputError
from app.core.module import check_path
from app.core.modulepattern import MAX_PATTERN_CHARS, Pattern
from app.core.noun import (
    AfterValidator,
    Field,
    Noun,
    Recorded,
    Text,
    Words,
    line,
    model_validator,
    passes,
    refuse,
)
from app.core.patternindex import PatternIndex
from app.core.toolchain import MODULE_PATH, release_of
from app.core.versionrange import MAX_RANGE_CHARS, VersionRange

MAX_REASON_CHARS = 300


def _in_utc(at: datetime) -> datetime:
    """Return the time in UTC. Near the years 1 and 9999 the result may not exist."""
    if at.tzinfo is None:
        raise refuse('expires_at needs a zone, as in "2027-01-31T00:00:00Z"')
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the years 1 to 9999") from error


def _parse_versions(text: str) -> VersionRange | None:
    return VersionRange.parse(text) if text.strip() else None


def _write_versions(versions: VersionRange | None) -> str:
    return str(versions) if versions else ""


PatternText = Annotated[Pattern, Text(Pattern, Pattern.parse, max_chars=MAX_PATTERN_CHARS)]
_Versions = Annotated[
    VersionRange | None,
    Text(VersionRange | None, _parse_versions, max_chars=MAX_RANGE_CHARS, write=_write_versions),
]


class Rule(Noun):
    """A rule: which modules and versions a tenant may use, or may not.

    effect: a platform rule can only deny.
    pattern: of module paths, as in GOPRIVATE, without a comma: "example.com/team/*".
    versions: such as ">=v1.2.0 <v2.0.0-0 || v3"; "" means all.
    reason: shown to whoever is denied.
    expires_at: from then on it does nothing; with a zone. null means never.
    """

    effect: Effect
    pattern: PatternText
    versions: _Versions = Field(default=None, json_schema_extra={"default": ""})
    reason: Annotated[str, *line("reason", MAX_REASON_CHARS)] = ""
    expires_at: Annotated[datetime, AfterValidator(_in_utc)] | None = None

    def covers(self, version: str | None) -> bool:
        """Whether the rule is about a version; None asks whether it is about all of them."""
        if self.versions is None:
            return True
        return version is not None and self.versions.contains(version)

    def __str__(self) -> str:
        versions = f" {self.versions}" if self.versions else ""
        return f"{self.effect} {self.pattern.text}{versions}"


class RecordedRule(Rule, Recorded):
    """One rule; tenant is null for one of the platform, revision is what its ETag says."""

    tenant: str | None


class Owner(Noun):
    """Whose a prefix of module paths is, and who else may use it."""

    tenant: Annotated[str, Field(max_length=63)]
    granted: Annotated[frozenset[str], Words(max_words=1000, max_chars=63)] = frozenset()

    @model_validator(mode="after")
    def _needs_no_grant(self) -> "Owner":
        if self.tenant in self.granted:
            raise refuse("the owner needs no grant")
        return self


def _check_prefix(prefix: str) -> None:
    try:
        check_path(prefix)
    except BadInputError as error:
        raise BadInputError(f"an owned prefix is the beginning of module paths: {error}") from error


class Ownership(Owner):
    """A prefix of module paths, whose it is, and who else may use it.

    prefix: whole path elements: "corp.example/team" covers "corp.example/team/x" and not
        "corp.example/teamwork".
    """

    prefix: Annotated[str, Field(max_length=2000), AfterValidator(passes(_check_prefix))]

    def opens_to(self, tenant: str) -> bool:
        """Whether a tenant may pass."""
        return tenant == self.tenant or tenant in self.granted


class RecordedOwnership(Ownership, Recorded):
    """One owned prefix; revision is what its ETag says."""

    id: int = Field(exclude=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The outcome for one tenant, module and version.

    Attributes:
        by: what decided: "platform rule 3", "ownership of corp.example", "rule 7",
            "channel stable", "default".
        reason: one line for the person who is denied; "" where it is allowed.
    """

    allowed: bool
    by: str
    reason: str = ""


class Stage(StrEnum):
    """The stages, in the order that they act. A channel decides always, where a tenant has one."""

    PLATFORM = "platform rules"
    OWNERSHIP = "ownership"
    DENY = "deny rules"
    CHANNEL = "channel"
    ALLOW = "allow rules"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is looked at on the way to a decision.

    Attributes:
        subject: the rule or the owned prefix; None for the default, and for the end of the allow
            rules, where none of them is about the version.
        decision: what it decides; None where it does not apply.
    """

    stage: Stage
    subject: RecordedRule | Ownership | None
    decision: Decision | None


class _Rules:
    """Rules, filed by their patterns, and the times at which they end."""

    def __init__(self, rules: Sequence[RecordedRule]) -> None:
        denials = [rule for rule in rules if rule.effect is Effect.DENY]
        allowances = [rule for rule in rules if rule.effect is Effect.ALLOW]
        self._denials = PatternIndex(((r.pattern, r) for r in denials), folded=True)
        self._allowances = PatternIndex(((r.pattern, r) for r in allowances), folded=False)
        self._ends = sorted({r.expires_at for r in rules if r.expires_at is not None})

    def denying(self, module: str, now: datetime) -> tuple[RecordedRule, ...]:
        """Return the denials that are about a module, oldest first."""
        return _lasting(self._denials.matching(module), now)

    def allowing(self, module: str, now: datetime) -> tuple[RecordedRule, ...]:
        """Return the allow rules that are about a module, oldest first."""
        return _lasting(self._allowances.matching(module), now)

    def next_end(self, now: datetime) -> datetime | None:
        """Return the earliest end of a rule that is still ahead."""
        return next(iter(self._ends[bisect_right(self._ends, now) :]), None)


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose a module is, by the owned prefixes of all tenants; prefixes match in any case."""

    ownerships: Sequence[Ownership] = ()
    _by_prefix: Mapping[str, Ownership] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_prefix: dict[str, Ownership] = {}
        for ownership in self.ownerships:
            by_prefix.setdefault(ownership.prefix.lower(), ownership)
        object.__setattr__(self, "_by_prefix", by_prefix)

    def of(self, module: str) -> Ownership | None:
        """Return the longest owned prefix that a module is below; None if nobody owns it."""
        prefix = module.lower()
        while prefix:
            if prefix in self._by_prefix:
                return self._by_prefix[prefix]
            prefix = prefix.rpartition("/")[0]
        return None


@dataclass(frozen=True, slots=True)
class PlatformAccess:
    """What holds for all tenants alike: the platform's denials, and who owns which prefix."""

    rules: Sequence[RecordedRule] = ()
    owners: Owners = field(default_factory=Owners)
    _rules: _Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", _Rules(self.rules))

    def denying(self, module: str, now: datetime) -> tuple[RecordedRule, ...]:
        """Return the denials that are about a module, oldest first."""
        return self._rules.denying(module, now)

    def next_end(self, now: datetime) -> datetime | None:
        """Return the earliest end of a rule that is still ahead."""
        return self._rules.next_end(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What one tenant's rules say; pure data, filed once for each change of the tenant."""

    tenant: str
    default: Effect
    rules: Sequence[RecordedRule] = ()
    platform: PlatformAccess = field(default_factory=PlatformAccess)
    toolchains: ToolchainOffer | None = None
    _rules: _Rules = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", _Rules(self.rules))

    def under(
        self, platform: PlatformAccess, default: Effect, toolchains: ToolchainOffer | None
    ) -> "Access":
        """Return the same rules under other conditions; the rules are not filed again."""
        access = copy(self)
        object.__setattr__(access, "platform", platform)
        object.__setattr__(access, "default", default)
        object.__setattr__(access, "toolchains", toolchains)
        return access

    def to(self, module: str, now: datetime) -> "ModuleAccess":
        """Return the rules that are about one module; decide its versions with that."""
        allow = self._rules.allowing(module, now)
        most = max((r.pattern.specificity for r in allow), default=None)
        return ModuleAccess(
            module=module,
            tenant=self.tenant,
            default=self.default,
            platform_denials=self.platform.denying(module, now),
            ownership=self.platform.owners.of(module),
            denials=self._rules.denying(module, now),
            allowances=tuple(r for r in allow if r.pattern.specificity == most),
            toolchains=self.toolchains if module == MODULE_PATH else None,
        )

    def next_end(self, now: datetime) -> datetime | None:
        """Return when the next rule ends, of the tenant or of the platform; None: no rule does."""
        ends = (self._rules.next_end(now), self.platform.next_end(now))
        return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleAccess:
    """The rules about one module, in the order they act."""

    module: str
    tenant: str
    default: Effect
    platform_denials: tuple[RecordedRule, ...]
    ownership: Ownership | None
    denials: tuple[RecordedRule, ...]
    allowances: tuple[RecordedRule, ...]
    toolchains: ToolchainOffer | None = None

    def decide(self, version: str | None) -> Decision:
        """Return whether a version may be used.

        Args:
            version: canonical; None asks for the module as a whole, as its list of versions does:
                it is denied only if no version at all could be allowed.
        """
        return next(s.decision for s in self.steps(version) if s.decision is not None)

    def steps(self, version: str | None) -> Iterator[Step]:
        """Yield what is looked at, in order; the last step always decides.

        Args:
            version: as for `decide`.
        """
        name = self.module if version is None else f"{self.module}@{version}"
        for rule in self.platform_denials:
            by = f"platform rule {rule.id}"
            yield Step(Stage.PLATFORM, rule, _denial(name, by, rule, version))
        if self.ownership is not None:
            yield Step(Stage.OWNERSHIP, self.ownership, self._by_ownership(name, self.ownership))
        for rule in self.denials:
            yield Step(Stage.DENY, rule, _denial(name, f"rule {rule.id}", rule, version))
        if self.toolchains is not None:
            yield Step(Stage.CHANNEL, None, _by_channel(name, self.toolchains, version))
            return
        yield from self._among_allowed(name, version)
        yield Step(Stage.DEFAULT, None, self._by_default(name))

    def _by_ownership(self, name: str, ownership: Ownership) -> Decision | None:
        if ownership.opens_to(self.tenant):
            return None
        by = f"ownership of {ownership.prefix}"
        reason = f"{name} is closed to tenant {self.tenant}: its prefix has an owner"
        return Decision(allowed=False, by=by, reason=reason)

    def _among_allowed(self, name: str, version: str | None) -> Iterator[Step]:
        is_allowed = False
        for rule in self.allowances:
            allows = version is None or rule.covers(version)
            is_allowed = is_allowed or allows
            decision = Decision(allowed=True, by=f"rule {rule.id}") if allows else None
            yield Step(Stage.ALLOW, rule, decision)
        if self.allowances and not is_allowed:
            allowed = "; ".join(f"{r}{_because(r)}" for r in self.allowances)
            reason = f"{name} is outside the allowed versions ({allowed})"
            by = f"rule {self.allowances[0].id}"
            yield Step(Stage.ALLOW, None, Decision(allowed=False, by=by, reason=reason))

    def _by_default(self, name: str) -> Decision:
        if self.default is Effect.ALLOW:
            return Decision(allowed=True, by="default")
        reason = f"{name} is not allowed for tenant {self.tenant}: no rule allows it"
        return Decision(allowed=False, by="default", reason=reason)


def _by_channel(name: str, offer: ToolchainOffer, version: str | None) -> Decision:
    by = f"channel {offer.channel}"
    if not offer.versions:
        reason = f"{name} is not offered: channel {offer.channel} has no revision yet; ask an admin"
        return Decision(allowed=False, by=by, reason=reason)
    if version is None or release_of(version) in offer.versions:
        return Decision(allowed=True, by=by)
    return Decision(allowed=False, by=by, reason=f"{name} is not offered by {by}")


def _lasting(rules: Iterable[RecordedRule], now: datetime) -> tuple[RecordedRule, ...]:
    """Return the rules that have not ended."""
    return tuple(r for r in rules if r.expires_at is None or now < r.expires_at)


def _because(rule: Rule) -> str:
    return f": {rule.reason}" if rule.reason else ""


def _denial(name: str, by: str, rule: Rule, version: str | None) -> Decision | None:
    if not rule.covers(version):
        return None
    reason = f"{name} is denied by {by} ({rule}){_because(rule)}"
    return Decision(allowed=False, by=by, reason=reason)
