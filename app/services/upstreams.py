"""Opening the upstreams of routes: the client of each upstream, with its credential."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Protocol

from app.core.errors import DeniedError, StorageError, UpstreamAbsentError
from app.core.giturl import GitUrl, is_git, parse_git_url
from app.core.goproxy import GoproxyRequest
from app.core.privatehost import PrivateHosts
from app.core.published import is_published
from app.core.routing import RecordedRoute, RecordedUpstream
from app.core.tenant import Tenant
from app.services.policy import Policy, PolicyReader
from app.services.secrets import SecretBox, place_of
from app.upstream.address import kind_of_text
from app.upstream.githubapp import GithubApp
from app.upstream.gitssh import SshKey
from app.upstream.goproxy import Goproxies, ModuleUpstream
from app.upstream.sink import Sink
from app.upstream.url import Credential, Url

AnyCredential = Credential | SshKey | GithubApp
"""What an upstream may be shown; a GOPROXY takes a `Credential`."""


@dataclass(frozen=True, slots=True)
class Source:
    """An upstream that is ready for requests of a tenant.

    Attributes:
        proxy: the upstream's client, with its credential.
        tenant: the name of the tenant whose slots a fetch uses.
        slots: number of concurrent fetches of that tenant.
        client: the address of whoever asks, "" for background work.
        quota_bytes: what may be stored for that tenant; None for no quota.
    """

    proxy: ModuleUpstream
    tenant: str
    slots: int
    client: str = ""
    quota_bytes: int | None = None


class GitOpener(Protocol):
    """Opens git upstreams."""

    def open_git(
        self,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        credential: AnyCredential | None,
        tenant: Tenant,
    ) -> ModuleUpstream:
        """Return a git upstream of a route, for requests of a tenant.

        Raises:
            StorageError: its credential is of a kind that it can't use.
        """


class _Nothing:
    """The upstream of published modules: what is not stored is nowhere."""

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Refuse every request.

        Raises:
            UpstreamAbsentError: always.
        """
        raise UpstreamAbsentError(f"{request} is not published here", origin="", status=404)


_NOTHING = _Nothing()


class HostAccess:
    """Says which hosts in the own network the upstreams of a tenant may have.

    A platform admin lists them for the tenant, or writes the route, or the settings list them for
    every tenant. A host that some tenants list is closed to routes that others write, whether its
    address is private or not: content that came from it is stored for all who may use it.

    Args:
        shared: of the settings.
    """

    def __init__(self, shared: PrivateHosts) -> None:
        self._shared = shared

    def check(self, route: RecordedRoute, policy: Policy, tenant: Tenant) -> None:
        """Return if a tenant may use all upstreams of a route.

        Raises:
            DeniedError: the host of one is another tenant's.
        """
        own = _set_of(tenant.private_hosts)
        for upstream in route.upstreams:
            if is_published(upstream.url):
                continue
            url = _parsed(upstream.url)
            if upstream.is_platforms or not policy.private_hosts.covers(url.host, url.port):
                continue
            if not self._shared.covers(url.host, url.port) and not own.covers(url.host, url.port):
                raise DeniedError(
                    f"{url.origin} is in {route}, and is a private host of other tenants; a "
                    f"platform admin can list it for tenant {tenant.name}",
                    "private host",
                )

    def check_address(self, url: Url | GitUrl, tenant: Tenant) -> None:
        """Return if a tenant may have a URL, as far as the URL alone tells: a name is not resolved.

        Raises:
            DeniedError: its host is an address that is not public, and not listed for the tenant.
        """
        host = "127.0.0.1" if url.host == "localhost" else url.host
        kind = kind_of_text(host)
        if not kind or self._shared.covers(url.host, url.port):
            return
        if not _set_of(tenant.private_hosts).covers(url.host, url.port):
            shown = f"[{url.host}]" if ":" in url.host else url.host
            raise DeniedError(
                f"{url.origin} has {kind}, which is not of the public internet; a platform admin "
                f"can list it for the tenant: moorage tenant update {tenant.name} --private-host "
                f"{shown}:{url.port}"
            )


_set_of = lru_cache(maxsize=1024)(PrivateHosts)  # by a tenant's list


@lru_cache(maxsize=4096)
def _parsed(url: str) -> Url | GitUrl:
    return parse_git_url(url) if is_git(url) else Url.parse(url)


class Upstreams:
    """Opens upstreams.

    Args:
        proxies: the clients.
        box: opens the sealed credentials.
        slots: concurrent fetches of a tenant without an own limit.
        policies: of this process.
        access: says which private hosts a tenant may have.
        gits: opens git upstreams.
    """

    def __init__(
        self,
        proxies: Goproxies,
        box: SecretBox,
        slots: int,
        policies: PolicyReader,
        access: HostAccess,
        gits: GitOpener,
    ) -> None:
        self.access = access
        self._gits = gits
        self._proxies = proxies
        self._box = box
        self._slots = slots
        self._policies = policies
        self._generation = 0
        self._credentials: dict[tuple[int, int, str], AnyCredential] = {}

    def open(
        self,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        policy: Policy,
        tenant: Tenant,
        client: str = "",
    ) -> Source:
        """Return an upstream of a route with its credential, for requests of a tenant's client.

        Raises:
            StorageError: the credential can't be opened with the present key.
        """
        if is_published(upstream.url):
            return Source(_NOTHING, tenant.name, tenant.limits.cold or self._slots, client)
        quota = tenant.limits.quota_bytes
        credential = self._credential(upstream, policy)
        slots = tenant.limits.cold or self._slots
        if is_git(upstream.url):
            git = self._gits.open_git(route, upstream, credential, tenant)
            return Source(git, tenant.name, slots, client, quota)
        if isinstance(credential, SshKey | GithubApp):
            raise StorageError("the credential of an upstream is of a kind that only git takes")
        hosts = None if upstream.is_platforms else tenant.private_hosts
        proxy = self._proxies.open(upstream, credential, hosts)
        return Source(proxy, tenant.name, slots, client, quota)

    async def step(self) -> None:
        """Drop the opened secrets of earlier generations: one may be rotated or removed."""
        self._forget_before(self._policies.changed_at)

    def _forget_before(self, generation: int) -> None:
        if generation > self._generation:
            self._credentials.clear()
            self._generation = generation

    async def origins(self) -> frozenset[str]:
        """Return the origins of all upstreams that a route of the present policy leads to.

        Raises:
            DatabaseBusyError: the policy can't be read.
        """
        return await asyncio.to_thread(_origins_of, await self._policies.current())

    def _credential(self, upstream: RecordedUpstream, policy: Policy) -> AnyCredential | None:
        if upstream.credential_id is None:
            return None
        recorded = policy.credentials.get(upstream.credential_id)
        if recorded is None:
            raise StorageError("the credential of an upstream is gone; an admin can set it again")
        origin = _parsed(upstream.url).origin
        key = (recorded.id, recorded.revision, origin)
        self._forget_before(policy.generation)
        known = self._credentials.get(key)
        if known is not None:
            return known
        secret = self._box.open(recorded.sealed, place_of(recorded.tenant, recorded.name))
        identity = str(recorded.id)
        if recorded.kind == "github_app":  # its tokens end with the key
            identity += f".{recorded.revision}"
        opened = credential_for(identity, origin, recorded.kind, recorded.username, secret)
        # A request that began under an earlier policy must not bring back what was dropped.
        if policy.generation >= self._generation:
            self._credentials[key] = opened
        return opened


def _origins_of(policy: Policy) -> frozenset[str]:
    routes = (route for of_tenant in policy.tenants.values() for route in of_tenant.routes)
    urls = {upstream.url for route in routes for upstream in route.upstreams}
    return frozenset(_parsed(url).origin for url in urls if not is_published(url))


def credential_for(
    identity: str, origin: str, kind: str, username: str, secret: str
) -> AnyCredential:
    """Return the credential to send to an origin, or to show to an ssh server.

    Raises:
        BadInputError: the credential has a character that a header can't have.
    """
    if kind == "ssh_key":
        return SshKey(secret)
    if kind == "github_app":
        app_id, _, installation_id = username.partition("/")
        return GithubApp(identity, app_id, installation_id, secret)
    if kind == "basic":
        return Credential.basic(identity, origin, username, secret)
    return Credential.bearer(identity, origin, secret)
