"""Checks that need more than the noun itself: the clock, the address guard, who asks.

What a noun can tell alone is checked where the noun is defined, in core.
"""

import re
import ssl
from collections.abc import Container, Iterable, Mapping
from datetime import datetime

from app.core.acl import Ownership, Rule
from app.core.channel import RecordedChannel
from app.core.credential import SecretCredential, check_credential_name
from app.core.effect import Effect
from app.core.errors import BadInputError, ConflictError, DeniedError, UnknownError
from app.core.giturl import GitUrl, check_host_keys, is_git, parse_git_url
from app.core.modulepattern import Pattern
from app.core.principal import Principal
from app.core.published import is_published
from app.core.routing import RecordedRoute, RecordedUpstream, Route, Upstream
from app.core.tenant import Tenant
from app.services.upstreams import HostAccess, credential_for
from app.upstream.address import AddressGuard
from app.upstream.url import Url

_HOST = re.compile(r"[a-z0-9.-]+", re.ASCII)
_BUCKETS = "storage.googleapis.com"  # where proxy.golang.org sends zips from
# Stores of public proxies by the proxy's host, whatever the path ("…/cached-only").
_KNOWN_REDIRECTS = {
    "proxy.golang.org": frozenset({_BUCKETS}),
    "goproxy.cn": frozenset({_BUCKETS}),
    "goproxy.io": frozenset({_BUCKETS, "goproxy.onetool.net", "goproxy.someimg.com"}),
}


def check_rule(rule: Rule, tenant: str | None, now: datetime) -> None:
    """Return if a rule can be recorded for a tenant, or for the platform.

    Raises:
        BadInputError: it has expired, or it would allow something on the whole platform.
    """
    check_platform_rule(rule, tenant)
    if rule.expires_at is not None and rule.expires_at <= now:
        raise BadInputError("expires_at is in the past")


def check_platform_rule(rule: Rule, tenant: str | None) -> None:
    """Return if a rule is a tenant's, or denies.

    Raises:
        BadInputError: it would allow something on the whole platform.
    """
    if tenant is None and rule.effect is Effect.ALLOW:
        raise BadInputError("a platform rule can only deny; allow it in the tenants")


def check_spelling(prefix: str, other: str | None) -> None:
    """Return if no other owned prefix is the same but for capitals: ownership ignores case.

    Raises:
        ConflictError: there is one; the message names it.
    """
    if other is not None:
        raise ConflictError(
            f"{other} is owned already, and ownership ignores case; change or remove that one"
        )


def check_credential(name: str, credential: SecretCredential) -> None:
    """Return if a credential can be recorded under a name, and sent.

    Raises:
        BadInputError: it can't; the message does not have the secret.
    """
    check_credential_name(name)
    secret = credential.secret.get_secret_value()
    credential_for(name, "https://host.example", credential.kind, credential.username, secret)


def check_owners(ownership: Ownership, tenants: Container[str]) -> None:
    """Return if all tenants that an owned prefix names exist.

    Raises:
        UnknownError: one of them does not.
    """
    for name in (ownership.tenant, *sorted(ownership.granted)):
        if name not in tenants:
            raise UnknownError(f"there is no tenant {name[:80]!a}; see `moorage tenant list`")


def check_private(pattern: Pattern, tenant: str, prefixes: Iterable[str], who: Principal) -> None:
    """Return if who may make the names of a pattern private.

    Args:
        pattern: of the private route.
        tenant: whose route.
        prefixes: those that the tenant owns.
        who: an admin of the tenant.

    Raises:
        DeniedError: an admin of the tenant would take public names away from all other tenants.
    """
    if who.is_platform_admin:
        return
    if not any(pattern.text == p or pattern.text.startswith(f"{p}/") for p in prefixes):
        raise DeniedError(
            "a private route keeps its names from being asked for in public by any tenant, so its "
            f"pattern must lie in a prefix that {tenant} owns; a platform admin can add either"
        )


def check_toolchains(tenant: Tenant, channel: RecordedChannel | None) -> None:
    """Return if a tenant may take its toolchains from the channel that it names.

    Args:
        tenant: as it will be recorded.
        channel: of the name in `toolchains`; None if there is none of that name.

    Raises:
        UnknownError: there is no such channel.
        ConflictError: the channel is limited to other tenants.
    """
    if tenant.toolchains is None:
        return
    if channel is None:
        raise UnknownError(
            f"there is no channel {tenant.toolchains[:80]!a}; see `moorage channel list`"
        )
    if not channel.admits(tenant.name):
        raise ConflictError(f"channel {channel.name} is not open to tenant {tenant.name}")


class RouteCheck:
    """Checks routes, and puts the URLs of their upstreams in their one spelling.

    Args:
        guard: says which addresses are allowed by name.
        access: says which private hosts a tenant may have.
    """

    def __init__(self, guard: AddressGuard, access: HostAccess) -> None:
        self._guard = guard
        self._access = access

    def recordable(
        self,
        route: Route,
        tenant: Tenant,
        credentials: Mapping[str, int],
        now: datetime,
        *,
        before: RecordedRoute | None,
        is_platforms: bool,
    ) -> RecordedRoute:
        """Return the route as it can be recorded, without ids and at its first revision.

        Args:
            route: as it was asked for.
            tenant: whose route.
            credentials: the ids of the tenant's credentials by name.
            now: UTC.
            before: the route as it was. An upstream of it stays whose it was.
            is_platforms: whether a platform admin writes it, who may name any private host.

        Raises:
            BadInputError: a URL, a redirect or a certificate is malformed, or http is not allowed.
            DeniedError: a URL has a private address that the tenant may not have.
            UnknownError: the tenant has no credential of a name.
        """
        upstreams = [
            self._upstream(u, tenant, credentials, before=before, is_platforms=is_platforms)
            for u in route.upstreams
        ]
        host = route.pattern.text.partition("/")[0]
        if any(u.vanity for u in upstreams) and not _HOST.fullmatch(host):
            raise BadInputError(
                "a route with vanity names the host that is asked: its pattern begins with a host"
            )
        as_recorded = route.model_copy(update={"upstreams": tuple(upstreams)})
        return RecordedRoute.first(as_recorded, now, tenant=tenant.name)

    def _upstream(
        self,
        upstream: Upstream,
        tenant: Tenant,
        credentials: Mapping[str, int],
        *,
        before: RecordedRoute | None,
        is_platforms: bool,
    ) -> RecordedUpstream:
        if upstream.credential is not None and upstream.credential not in credentials:
            raise UnknownError(
                f"tenant {tenant.name} has no credential {upstream.credential[:80]!a}; "
                "see `moorage credential set`"
            )
        if is_published(upstream.url):
            return _published(upstream, is_platforms=is_platforms)
        url, base = _url_of(upstream)
        if upstream.vanity and not (isinstance(url, GitUrl) and url.has_place):
            raise BadInputError("vanity is for git upstreams with {path} in their URL")
        self._check_plain_http(url)
        redirect_to = upstream.redirect_to or _known_stores(url)
        is_trusted = _is_trusted(base, redirect_to, before, is_platforms=is_platforms)
        if not is_trusted and not is_platforms:
            self._access.check_address(url, tenant)
        _check_ca(upstream.ca_pem)
        for target in upstream.redirect_to:
            Url.parse(target if "://" in target else f"https://{target}")
        changes = {"url": base, "redirect_to": redirect_to}
        name = upstream.credential
        return RecordedUpstream(
            **{**dict(upstream), **changes},
            origin_id=0,
            credential_id=None if name is None else credentials[name],
            is_platforms=is_trusted,
        )

    def _check_plain_http(self, url: Url | GitUrl) -> None:
        host = "127.0.0.1" if url.host == "localhost" else url.host
        if url.scheme == "http" and not self._guard.is_listed(host, url.port):
            raise BadInputError(
                f"{url.origin}: http:// can be read and changed on its way, so it is accepted only "
                "for an address in MOORAGE_NETWORK__ALLOW; use https://"
            )


def _published(upstream: Upstream, *, is_platforms: bool) -> RecordedUpstream:
    """Return the upstream of published modules, which nothing but `on_absent` can be said of."""
    plain = Upstream(url=upstream.url, on_absent=upstream.on_absent)
    if upstream != plain:
        raise BadInputError(f"the upstream {upstream.url} has no credential and no other fields")
    return RecordedUpstream(
        **dict(plain), origin_id=0, credential_id=None, is_platforms=is_platforms
    )


def _is_trusted(
    url: str, redirect_to: frozenset[str], before: RecordedRoute | None, *, is_platforms: bool
) -> bool:
    """Whether an upstream is one that a platform admin wrote.

    A platform admin who changes a note must not open the own network to a URL that the tenant's
    admin has chosen. Where an upstream may redirect to is part of what a platform admin wrote.
    """
    earlier = () if before is None else before.upstreams
    if any(u.url == url and not u.is_platforms for u in earlier):
        return False
    return is_platforms or any((u.url, u.redirect_to) == (url, redirect_to) for u in earlier)


def _url_of(upstream: Upstream) -> tuple[Url | GitUrl, str]:
    """Return an upstream's URL, and its one spelling.

    Raises:
        BadInputError: it is malformed, or lacks what its kind needs.
    """
    if is_git(upstream.url):
        git = parse_git_url(upstream.url)
        if git.is_ssh:
            check_host_keys(upstream.host_keys)
            if upstream.credential is None:
                raise BadInputError("a git+ssh upstream needs a credential of kind ssh_key")
        return git, git.text
    url = Url.parse(upstream.url)
    if url.query is not None or "#" in upstream.url:
        raise BadInputError("an upstream's URL has no query and no fragment")
    return url, url.origin + url.path.rstrip("/")


def _known_stores(url: Url | GitUrl) -> frozenset[str]:
    """Return where a public proxy may redirect to without being told so."""
    if isinstance(url, GitUrl):
        return frozenset()
    return _KNOWN_REDIRECTS.get(url.host, frozenset()) if url.is_at_usual_port else frozenset()


def _check_ca(pem: str) -> None:
    if not pem:
        return
    try:
        ssl.create_default_context(cadata=pem)
    except (ssl.SSLError, ValueError) as error:
        raise BadInputError("ca_pem holds no PEM certificates") from error
