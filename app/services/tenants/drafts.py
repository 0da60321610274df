"""What admins write, checked before it is recorded: each refusal says what would be right."""

import re
import ssl
from dataclasses import dataclass, field
from datetime import datetime

from app.core import module as modules
from app.core.acl import MAX_REASON_CHARS, Effect, Rule
from app.core.errors import BadInputError
from app.core.modulepattern import Pattern
from app.core.routing import DEFAULT_TTL_S, LogPolicy, OnAbsent, Upstream
from app.core.tenant import MAX_TITLE_CHARS, Tenant, TenantLimits, check_host, check_tenant_name
from app.core.versionrange import VersionRange
from app.services.upstreams import credential_for
from app.upstream.address import Url

MAX_UPSTREAMS = 10
MAX_HOSTS = 20
MAX_CA_BYTES = 256 * 1024
MAX_LIMIT = 1_000_000
MAX_SECRET_CHARS = 4096
_CREDENTIAL_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII)
_VISIBLE = re.compile(r"[\x20-\x7e]*", re.ASCII)
# proxy.golang.org sends zips from its bucket.
_KNOWN_REDIRECTS = {"https://proxy.golang.org": frozenset({"storage.googleapis.com"})}


@dataclass(frozen=True, slots=True)
class TenantDraft:
    """A tenant as an admin wants it."""

    name: str
    title: str = ""
    default: Effect = Effect.DENY
    anonymous_read: bool = False
    enabled: bool = True
    hosts: tuple[str, ...] = ()
    limits: TenantLimits = field(default_factory=TenantLimits)

    def check(self) -> None:
        """Return if it can be recorded.

        Raises:
            BadInputError: a name, host or title can't be.
        """
        check_tenant_name(self.name)
        check_line("title", self.title, MAX_TITLE_CHARS)
        if len(self.hosts) > MAX_HOSTS:
            raise BadInputError(f"a tenant has at most {MAX_HOSTS} hosts")
        for host in self.hosts:
            check_host(host)
        if len(set(self.hosts)) < len(self.hosts):
            raise BadInputError("a host comes twice")
        for limit in (self.limits.streams, self.limits.cold, self.limits.rate):
            if limit is not None and not 1 <= limit <= MAX_LIMIT:
                raise BadInputError(f"a limit is a whole number from 1 to {MAX_LIMIT}, or none")


def draft_of(tenant: Tenant) -> TenantDraft:
    """Return the draft that would leave a tenant as it is."""
    return TenantDraft(
        tenant.name,
        tenant.title,
        tenant.default,
        tenant.anonymous_read,
        tenant.enabled,
        tenant.hosts,
        tenant.limits,
    )


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule as an admin wants it; patterns and versions are text."""

    effect: Effect
    pattern: str
    versions: str = ""
    reason: str = ""
    expires_at: datetime | None = None

    def rule(self, rule_id: int, tenant: str | None, now: datetime) -> Rule:
        """Return the rule.

        Raises:
            BadInputError: pattern, versions or reason are malformed, it expired already, or it
                would allow something on the whole platform.
        """
        if tenant is None and self.effect is Effect.ALLOW:
            raise BadInputError("a platform rule can only deny; allow it in the tenants")
        check_line("reason", self.reason, MAX_REASON_CHARS)
        if self.expires_at is not None and self.expires_at.tzinfo is None:
            raise BadInputError('expires_at needs a zone, as in "2027-01-31T00:00:00Z"')
        if self.expires_at is not None and self.expires_at <= now:
            raise BadInputError("expires_at is in the past")
        versions = VersionRange.parse(self.versions) if self.versions.strip() else None
        return Rule(
            rule_id,
            self.effect,
            Pattern.parse(self.pattern),
            versions,
            self.reason,
            self.expires_at,
            tenant,
        )


@dataclass(frozen=True, slots=True)
class UpstreamDraft:
    """An upstream as an admin wants it.

    Attributes:
        credential: the name of one of the tenant's credentials, or None.
        redirect_to: hosts and origins that it may redirect to besides its own.
        ca_pem: certificates in PEM that are trusted for it besides the usual ones.
    """

    url: str
    credential: str | None = None
    on_absent: OnAbsent = OnAbsent.NEXT
    redirect_to: tuple[str, ...] = ()
    ca_pem: str = ""
    connect_s: float = 5.0
    metadata_s: float = 60.0
    zip_s: float = 900.0

    def upstream(self, credential: int | None) -> Upstream:
        """Return the upstream; the credential's id in the place of its name.

        Raises:
            BadInputError: URL, redirects or certificates are malformed.
        """
        url = Url.parse(self.url)
        if url.query is not None or "#" in self.url:
            raise BadInputError("an upstream's URL has no query and no fragment")
        base = url.origin + url.path.rstrip("/")
        check_ca(self.ca_pem)
        for target in self.redirect_to:
            Url.parse(target if "://" in target else f"https://{target}")
        redirects = frozenset(self.redirect_to) or _KNOWN_REDIRECTS.get(base, frozenset())
        return Upstream(
            origin_id=0,
            url=base,
            on_absent=self.on_absent,
            credential=credential,
            redirect_to=redirects,
            connect_s=self.connect_s,
            metadata_s=self.metadata_s,
            zip_s=self.zip_s,
            ca_pem=self.ca_pem,
        )


@dataclass(frozen=True, slots=True)
class RouteDraft:
    """A route as an admin wants it."""

    pattern: str
    upstreams: tuple[UpstreamDraft, ...]
    private: bool = False
    off: bool = False
    forks: bool = False
    ttl_s: int = DEFAULT_TTL_S
    log: LogPolicy | None = None

    def check(self) -> Pattern:
        """Return the pattern of a route that can be recorded.

        Raises:
            BadInputError: the pattern is malformed, or there are no or too many upstreams.
        """
        if not 1 <= len(self.upstreams) <= MAX_UPSTREAMS:
            raise BadInputError(f"a route has 1 to {MAX_UPSTREAMS} upstreams")
        if self.private and self.log not in (None, LogPolicy.OFF):
            raise BadInputError("a private route's modules are in no public log: log must be off")
        return Pattern.parse(self.pattern)


@dataclass(frozen=True, slots=True)
class CredentialDraft:
    """A credential as an admin writes it; the secret is never shown again."""

    name: str
    kind: str
    secret: str = field(repr=False)
    username: str = ""

    def check(self) -> None:
        """Return if it can be sent as a header.

        Raises:
            BadInputError: it can't; the message does not repeat the secret.
        """
        if not _CREDENTIAL_NAME.fullmatch(self.name):
            raise BadInputError(
                "a credential's name is 1 to 63 lower-case letters, digits, dots, dashes and _"
            )
        if self.kind not in ("basic", "bearer"):
            raise BadInputError('a credential\'s kind is "basic" or "bearer"')
        if self.kind == "basic" and (not self.username or ":" in self.username):
            raise BadInputError("a basic credential has a username, without a colon")
        if self.kind == "bearer" and self.username:
            raise BadInputError("a bearer credential has no username")
        if len(self.secret) > MAX_SECRET_CHARS:
            raise BadInputError(f"the secret has more than {MAX_SECRET_CHARS} characters")
        if not self.secret or not _VISIBLE.fullmatch(self.secret):
            raise BadInputError("the secret is empty or has characters outside visible ASCII")
        credential_for(self.name, "https://host.example", self.kind, self.username, self.secret)


def check_prefix(prefix: str) -> None:
    """Return if prefix can be owned: whole elements of a module path, without a wildcard.

    Raises:
        BadInputError: it is malformed.
    """
    try:
        modules.check_path(prefix)
    except BadInputError as error:
        raise BadInputError(f"an owned prefix is the beginning of module paths: {error}") from error


def check_line(what: str, text: str, max_chars: int) -> None:
    """Return if text is one short printable line.

    Raises:
        BadInputError: it is not.
    """
    if len(text) > max_chars:
        raise BadInputError(f"the {what} has more than {max_chars} characters")
    if not text.isprintable():
        raise BadInputError(f"the {what} has a control character or a line break")


def check_ca(pem: str) -> None:
    """Return if pem is empty or holds certificates.

    Raises:
        BadInputError: it holds none.
    """
    if not pem:
        return
    if len(pem) > MAX_CA_BYTES:
        raise BadInputError(f"the CA bundle has more than {MAX_CA_BYTES} bytes")
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise BadInputError("ca_pem holds no PEM certificates") from error
