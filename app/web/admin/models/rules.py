"""Rules, of tenants and of the platform."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from app.core.acl import MAX_REASON_CHARS, Effect
from app.core.modulepattern import MAX_PATTERN_CHARS
from app.core.versionrange import MAX_RANGE_CHARS
from app.db.rules import RecordedRule
from app.services.tenants.drafts import RuleDraft
from app.web.admin.models.base import In, Out


def _storable(at: datetime) -> datetime:
    """Return a time in UTC, which the years 1 and 9999 may not have; a naive one as it is."""
    if at.tzinfo is None:
        return at
    try:
        return at.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("beyond the years 1 to 9999") from error


PatternIn = Annotated[str, Field(max_length=MAX_PATTERN_CHARS)]


class RuleIn(In):
    """A rule.

    effect: a platform rule can only deny.
    pattern: of module paths, as in GOPRIVATE, without a comma: "example.com/team/*".
    versions: such as ">=v1.2.0 <v2.0.0-0 || v3"; "" means all.
    reason: shown to whoever is denied.
    expires_at: from then on it does nothing; with a zone. null means never.
    """

    effect: Effect
    pattern: PatternIn
    versions: Annotated[str, Field(max_length=MAX_RANGE_CHARS)] = ""
    reason: Annotated[str, Field(max_length=MAX_REASON_CHARS)] = ""
    expires_at: Annotated[datetime, AfterValidator(_storable)] | None = None


class RuleOut(Out):
    """One rule; tenant is null for one of the platform, revision is what its ETag says."""

    id: int
    tenant: str | None
    effect: str
    pattern: str
    versions: str
    reason: str
    expires_at: datetime | None
    revision: int
    created_at: datetime


def rule_draft(wanted: RuleIn) -> RuleDraft:
    """Return a rule as services take it."""
    return RuleDraft(
        wanted.effect, wanted.pattern, wanted.versions, wanted.reason, wanted.expires_at
    )


def rule_out(recorded: RecordedRule) -> RuleOut:
    """Return one rule for people and programs."""
    rule = recorded.rule
    return RuleOut(
        id=rule.id,
        tenant=rule.tenant,
        effect=rule.effect,
        pattern=rule.pattern.text,
        versions=str(rule.versions) if rule.versions else "",
        reason=rule.reason,
        expires_at=rule.expires_at,
        revision=recorded.revision,
        created_at=recorded.created_at,
    )
