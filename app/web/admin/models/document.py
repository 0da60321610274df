"""One document for tenants, rules, routes and owned prefixes, and what applying it changes."""

from typing import Annotated, Any

from pydantic import Field, StrictBool

from app.core.acl import Effect, Ownership
from app.core.tenant import MAX_TITLE_CHARS, TenantLimits
from app.services.tenants.document import Document, TenantPart
from app.services.tenants.drafts import MAX_HOSTS, TenantDraft
from app.services.tenants.routes import MAX_ROUTES
from app.services.tenants.rules import MAX_RULES
from app.services.tenants.snapshot import Change
from app.web.admin.models.base import In, Out
from app.web.admin.models.routes import RouteIn, route_draft
from app.web.admin.models.rules import RuleIn, rule_draft
from app.web.admin.models.tenants import LimitsIn

_Name = Annotated[str, Field(max_length=63)]
_Host = Annotated[str, Field(max_length=253)]
_Hosts = Annotated[tuple[_Host, ...], Field(max_length=MAX_HOSTS)]
_Rules = Annotated[tuple[RuleIn, ...], Field(max_length=MAX_RULES)]


class TenantPartIn(In):
    """One tenant with its rules and routes; what is left out has its default."""

    title: Annotated[str, Field(max_length=MAX_TITLE_CHARS)] = ""
    default: Effect = Effect.DENY
    anonymous_read: StrictBool = False
    enabled: StrictBool = True
    hosts: _Hosts = ()
    limits: LimitsIn = LimitsIn()
    rules: _Rules = ()
    routes: Annotated[tuple[RouteIn, ...], Field(max_length=MAX_ROUTES)] = ()


class OwnedIn(In):
    """A prefix of module paths, whose it is, and who else may use it."""

    prefix: Annotated[str, Field(max_length=2000)]
    tenant: _Name
    granted: Annotated[tuple[_Name, ...], Field(max_length=1000)] = ()


class DocumentIn(In):
    """The state that is wanted.

    tenants: by name; each is made exactly so.
    ownership, rules: all owned prefixes, and all rules of the platform; null leaves them alone.
    """

    tenants: dict[_Name, TenantPartIn] = Field(default_factory=dict)
    ownership: Annotated[tuple[OwnedIn, ...], Field(max_length=10_000)] | None = None
    rules: _Rules | None = None


class ApplyIn(In):
    """A document to apply.

    dry_run: change nothing, and tell what would be.
    prune: remove the tenants that the document does not name.
    """

    document: DocumentIn
    dry_run: StrictBool = False
    prune: StrictBool = False


class ChangeOut(Out):
    """One object that differs: action is "create", "update" or "remove"."""

    action: str
    object: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class AppliedOut(Out):
    """What was changed, or would be."""

    dry_run: bool
    changes: list[ChangeOut]


def document_of(wanted: DocumentIn) -> Document:
    """Return a document as services take it."""
    owned, rules = wanted.ownership, wanted.rules
    return Document(
        tuple(_part(name, part) for name, part in wanted.tenants.items()),
        None
        if owned is None
        else tuple(Ownership(o.prefix, o.tenant, frozenset(o.granted)) for o in owned),
        None if rules is None else tuple(rule_draft(r) for r in rules),
    )


def _part(name: str, part: TenantPartIn) -> TenantPart:
    limits = part.limits
    draft = TenantDraft(
        name,
        part.title,
        part.default,
        part.anonymous_read,
        part.enabled,
        part.hosts,
        TenantLimits(limits.streams, limits.cold, limits.rate),
    )
    return TenantPart(
        draft,
        tuple(rule_draft(r) for r in part.rules),
        tuple(route_draft(r) for r in part.routes),
    )


def change_out(change: Change) -> ChangeOut:
    """Return one change for people and programs."""
    return ChangeOut(
        action=change.action,
        object=change.object,
        before=None if change.before is None else dict(change.before),
        after=None if change.after is None else dict(change.after),
    )
