"""What a document changes: a pure function from the present state to edits and their description.

The database is not asked and nothing is written here, so that a plan can be made, and shown, while
others write. `document` writes it.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from app.core.acl import Ownership, RecordedOwnership, RecordedRule, Rule
from app.core.credential import RecordedCredential, SecretCredential
from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    UnknownError,
)
from app.core.noun import Field, Noun
from app.core.routing import RecordedRoute, Route
from app.core.tenant import RecordedTenant, Tenant, TenantSettings
from app.core.tenantname import check_tenant_name
from app.services.secrets import SecretBox, place_of
from app.services.tenants.checks import (
    RouteCheck,
    check_credential,
    check_owners,
    check_platform_rule,
    check_rule,
    check_spelling,
    check_toolchains,
)
from app.services.tenants.edits import Edit, N, RecordedNoun
from app.services.tenants.routes import MAX_ROUTES
from app.services.tenants.rules import MAX_RULES
from app.services.tenants.snapshot import Change, State, differences

_Name = Annotated[str, Field(max_length=63)]
_Rules = Annotated[tuple[Rule, ...], Field(max_length=MAX_RULES)]


class TenantPart(TenantSettings):
    """One tenant with its rules and routes; what is left out has its default.

    credentials: by name; those that are not named are left alone.
    """

    credentials: dict[_Name, SecretCredential] = Field(default_factory=dict)
    rules: _Rules = ()
    routes: Annotated[tuple[Route, ...], Field(max_length=MAX_ROUTES)] = ()


class Document(Noun):
    """The state that is wanted.

    tenants: by name; each is made exactly so.
    ownership, rules: all owned prefixes, and all rules of the platform; null leaves them alone.
    """

    tenants: dict[_Name, TenantPart] = Field(default_factory=dict)
    ownership: Annotated[tuple[Ownership, ...], Field(max_length=10_000)] | None = None
    rules: _Rules | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a document changes.

    Attributes:
        edits: what is written, in order.
        changes: the same for people, with what goes along with a tenant that is removed.
    """

    edits: list[Edit]
    changes: list[Change]


def plan(
    present: State,
    document: Document,
    check: RouteCheck,
    box: SecretBox,
    now: datetime,
    *,
    prune: bool,
) -> Plan:
    """Return what has to change so that the state is that of the document.

    Args:
        present: the state as it is.
        document: what is wanted.
        check: checks routes.
        box: opens recorded secrets and seals new ones.
        now: UTC; a new rule must not have expired.
        prune: remove the tenants that the document does not name.

    Raises:
        BadInputError: something in the document can't be recorded; the message says where.
        UnknownError: it names a credential or a tenant that does not exist.
        ConflictError: it contradicts itself, or what it leaves alone.
    """
    planner = _Planner(present, check, box, now)
    if prune:
        planner.prune(document.tenants)
    for name, part in document.tenants.items():
        planner.tenant(name, part)
    planner.check_hosts(document.tenants)
    if document.ownership is not None:
        planner.ownership(document.ownership)
    if document.rules is not None:
        planner.rules(None, document.rules)
    for name, part in document.tenants.items():
        planner.credentials(name, part.credentials)
        planner.rules(name, part.rules)
        planner.routes(name, part.routes)
    return Plan(planner.edits, differences(present, planner.state()))


class _Planner:
    """Collects edits, and the state that they lead to."""

    def __init__(self, present: State, check: RouteCheck, box: SecretBox, now: datetime) -> None:
        self.edits: list[Edit] = []
        self._present = present
        self._check = check
        self._box = box
        self._now = now
        self._tenants = dict(present.tenants)
        self._owned = dict(present.owned)
        self._rules: dict[str | None, dict[str, RecordedRule]] = {}
        for (tenant, words), rule in present.rules.items():
            self._rules.setdefault(tenant, {})[words] = rule
        self._routes: dict[str, dict[str, RecordedRoute]] = {}
        for (name, pattern), route in present.routes.items():
            self._routes.setdefault(name, {})[pattern] = route
        self._credentials: dict[str, dict[str, RecordedCredential]] = {}
        for (name, credential_name), credential in present.credentials.items():
            self._credentials.setdefault(name, {})[credential_name] = credential

    def state(self) -> State:
        """Return the state after all edits."""
        rules = [rule for of_tenant in self._rules.values() for rule in of_tenant.values()]
        routes = [route for of_tenant in self._routes.values() for route in of_tenant.values()]
        # A new noun has no id yet: it comes last, in the order of the edits.
        new = {id(edit.after): place for place, edit in enumerate(self.edits)}
        rules.sort(key=lambda rule: (rule.id == 0, rule.id or new[id(rule)]))
        routes.sort(key=lambda route: (route.id == 0, route.id or new[id(route)]))
        return State(
            tenants=self._tenants,
            credentials={
                (tenant, name): credential
                for tenant, of_tenant in self._credentials.items()
                for name, credential in of_tenant.items()
            },
            owned=self._owned,
            rules={(rule.tenant, str(rule)): rule for rule in rules},
            routes={(route.tenant, route.pattern.text): route for route in routes},
        )

    def prune(self, kept: Collection[str]) -> None:
        """Remove all tenants but some, with everything that is theirs."""
        gone = [tenant for name, tenant in sorted(self._tenants.items()) if name not in kept]
        names = {tenant.name for tenant in gone}
        self.edits += [Edit(before=tenant, after=None) for tenant in gone]
        for name in names:
            del self._tenants[name]
            self._credentials.pop(name, None)
            self._rules.pop(name, None)
            self._routes.pop(name, None)
        self._owned = {
            prefix: owned.model_copy(update={"granted": owned.granted - names})
            if owned.granted & names
            else owned
            for prefix, owned in self._owned.items()
            if owned.tenant not in names
        }

    def tenant(self, name: str, part: TenantPart) -> None:
        """Make a tenant what its part of the document says; its rules and routes come later."""
        with _within(_place(name)):
            check_tenant_name(name)
        settings = {field: getattr(part, field) for field in TenantSettings.model_fields}
        before = self._tenants.get(name)
        after = RecordedTenant.first(Tenant(name=name, **settings), self._now).succeeding(before)
        with _within(_place(name)):
            check_toolchains(after, self._present.channels.get(after.toolchains or ""))
        self._tenants[name] = self._add_edit(before, after)

    def check_hosts(self, names: Collection[str]) -> None:
        """Refuse a host that leads to two tenants after all edits."""
        taken: dict[str, str] = {}
        others = [name for name in self._tenants if name not in names]
        for name in (*others, *names):
            for host in self._tenants[name].hosts:
                if host in taken:
                    raise ConflictError(
                        f"{_place(name)}: the host {host} leads to another tenant already"
                    )
                taken[host] = name

    def ownership(self, ownerships: Collection[Ownership]) -> None:
        """Make the owned prefixes those of the document."""
        prefixes = {ownership.prefix for ownership in ownerships}
        for prefix in [prefix for prefix in self._owned if prefix not in prefixes]:
            self.edits.append(Edit(before=self._owned.pop(prefix), after=None))
        seen: dict[str, str] = {}  # by the spelling in small letters
        for number, ownership in enumerate(ownerships):
            prefix = ownership.prefix
            with _within(f"ownership[{number}]"):
                if prefix in seen.values():
                    raise ConflictError(f"the prefix {prefix} comes twice")
                check_spelling(prefix, seen.get(prefix.lower()))
                check_owners(ownership, self._tenants)
            seen[prefix.lower()] = prefix
            before = self._owned.get(ownership.prefix)
            after = RecordedOwnership.first(ownership, self._now).succeeding(before)
            self._owned[ownership.prefix] = self._add_edit(before, after)

    def credentials(self, tenant: str, credentials: Mapping[str, SecretCredential]) -> None:
        """Record the credentials of a tenant that the document has; its routes come later."""
        present = self._credentials.setdefault(tenant, {})
        for name, credential in credentials.items():
            with _within(f"{_place(tenant)}.credentials.{name[:80]}"):
                check_credential(name, credential)
            before = present.get(name)
            secret, place = credential.secret.get_secret_value(), place_of(tenant, name)
            is_same_secret = before is not None and self._box.holds(before.sealed, place, secret)
            # A secret that is the same stays sealed as it is, so that nothing has changed.
            sealed = before.sealed if before and is_same_secret else self._box.seal(secret, place)
            after = RecordedCredential.first(
                credential, self._now, tenant=tenant, name=name, sealed=sealed, changed_at=self._now
            )
            present[name] = self._add_edit(before, after.succeeding(before))

    def rules(self, tenant: str | None, rules: Collection[Rule]) -> None:
        """Make the rules of a tenant, or of the platform, those of the document."""
        place = "rules" if tenant is None else f"{_place(tenant)}.rules"
        present = self._rules.setdefault(tenant, {})
        words: list[str] = []
        seen: set[str] = set()
        for number, rule in enumerate(rules):
            with _within(f"{place}[{number}]"):
                check_platform_rule(rule, tenant)
                words.append(str(rule))
                if words[-1] in seen:
                    raise ConflictError(f"the rule {rule} comes twice")
            seen.add(words[-1])
        for gone in [key for key in present if key not in seen]:
            self.edits.append(Edit(before=present.pop(gone), after=None))
        for number, (key, rule) in enumerate(zip(words, rules, strict=True)):
            before = present.get(key)
            after = RecordedRule.first(rule, self._now, tenant=tenant).succeeding(before)
            present[key] = self._add_edit(before, after)
            # A rule that has expired since it was written down is still the same rule.
            if present[key] is after:
                with _within(f"{place}[{number}]"):
                    check_rule(rule, tenant, self._now)

    def routes(self, tenant: str, routes: Collection[Route]) -> None:
        """Make the routes of a tenant those of the document."""
        present = self._routes.setdefault(tenant, {})
        patterns = {route.pattern.text for route in routes}
        for gone in [pattern for pattern in present if pattern not in patterns]:
            self.edits.append(Edit(before=present.pop(gone), after=None))
        credentials = {name: one.id for name, one in self._credentials[tenant].items()}
        seen: set[str] = set()
        for number, route in enumerate(routes):
            pattern = route.pattern.text
            with _within(f"{_place(tenant)}.routes[{number}]"):
                if pattern in seen:
                    raise ConflictError(f"the pattern {pattern[:80]!a} comes twice")
                before = present.get(pattern)
                # Only platform admins apply documents.
                after = self._check.recordable(
                    route,
                    self._tenants[tenant],
                    credentials,
                    self._now,
                    before=before,
                    is_platforms=True,
                )
            seen.add(pattern)
            present[pattern] = self._add_edit(before, after.succeeding(before))

    def _add_edit(self, before: N | None, after: N) -> N:
        """Add an edit if the two differ; return the noun from now on."""
        if before is not None and _says(before, after):
            return before
        self.edits.append(Edit(before, after))
        return after


def _says(before: RecordedNoun, after: RecordedNoun) -> bool:
    """Whether nothing has changed but the time."""
    if isinstance(before, RecordedCredential) and isinstance(after, RecordedCredential):
        is_same_kind = (before.kind, before.username) == (after.kind, after.username)
        return is_same_kind and before.sealed == after.sealed
    return before.says(after)


def _place(tenant: str) -> str:
    return f"tenants.{tenant[:80]}"


@contextmanager
def _within(place: str) -> Iterator[None]:
    """Add the position in the document to every refusal."""
    try:
        yield
    except (BadInputError, UnknownError, ConflictError, DeniedError) as error:
        raise type(error)(f"{place}: {error}") from error
