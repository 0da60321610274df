"""Opening the upstreams of routes: the client of each upstream, with its credential."""

import asyncio
from dataclasses import dataclass

from app.core.errors import StorageError
from app.core.routing import RecordedUpstream
from app.core.tenant import Tenant
from app.services.policy import Policy, PolicyReader
from app.services.secrets import SecretBox, place_of
from app.upstream.address import Credential, Url
from app.upstream.goproxy import Goproxies, Goproxy


@dataclass(frozen=True, slots=True)
class Source:
    """An upstream that is ready for requests of a tenant.

    Attributes:
        proxy: the upstream's client, with its credential.
        tenant: the name of the tenant whose slots a fetch uses.
        slots: number of concurrent fetches of that tenant.
        client: the address of whoever asks, "" for background work.
    """

    proxy: Goproxy
    tenant: str
    slots: int
    client: str = ""


class Upstreams:
    """Opens upstreams.

    Args:
        proxies: the clients.
        box: opens the sealed credentials.
        slots: concurrent fetches of a tenant without an own limit.
        policies: of this process.
    """

    def __init__(
        self, proxies: Goproxies, box: SecretBox, slots: int, policies: PolicyReader
    ) -> None:
        self._proxies = proxies
        self._box = box
        self._slots = slots
        self._policies = policies
        self._generation = 0
        self._credentials: dict[tuple[int, int, str], Credential] = {}

    def open(
        self, upstream: RecordedUpstream, policy: Policy, tenant: Tenant, client: str = ""
    ) -> Source:
        """Return an upstream with its credential, for requests of a tenant and of a client.

        Raises:
            StorageError: the credential can't be opened with the present key.
        """
        proxy = self._proxies.open(upstream, self._credential(upstream, policy))
        return Source(proxy, tenant.name, tenant.limits.cold or self._slots, client)

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

    def _credential(self, upstream: RecordedUpstream, policy: Policy) -> Credential | None:
        if upstream.credential_id is None:
            return None
        recorded = policy.credentials.get(upstream.credential_id)
        if recorded is None:
            raise StorageError("the credential of an upstream is gone; an admin can set it again")
        origin = Url.parse(upstream.url).origin
        key = (recorded.id, recorded.revision, origin)
        self._forget_before(policy.generation)
        known = self._credentials.get(key)
        if known is not None:
            return known
        secret = self._box.open(recorded.sealed, place_of(recorded.tenant, recorded.name))
        opened = credential_for(str(recorded.id), origin, recorded.kind, recorded.username, secret)
        # A request that began under an earlier policy must not bring back what was dropped.
        if policy.generation >= self._generation:
            self._credentials[key] = opened
        return opened


def _origins_of(policy: Policy) -> frozenset[str]:
    routes = (route for of_tenant in policy.tenants.values() for route in of_tenant.routes)
    urls = {upstream.url for route in routes for upstream in route.upstreams}
    return frozenset(Url.parse(url).origin for url in urls)


def credential_for(identity: str, origin: str, kind: str, username: str, secret: str) -> Credential:
    """Return the credential to send to an origin.

    Raises:
        BadInputError: the credential has a character that a header can't have.
    """
    if kind == "basic":
        return Credential.basic(identity, origin, username, secret)
    return Credential.bearer(identity, origin, secret)
