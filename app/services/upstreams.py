"""Opening the upstreams of routes: the client of each upstream, with its credential."""

from dataclasses import dataclass

from app.core.errors import StorageError
from app.core.routing import RecordedUpstream
from app.core.tenant import Tenant
from app.services.policy import Policy
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
    """

    def __init__(self, proxies: Goproxies, box: SecretBox, slots: int) -> None:
        self._proxies = proxies
        self._box = box
        self._slots = slots
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

    def _credential(self, upstream: RecordedUpstream, policy: Policy) -> Credential | None:
        if upstream.credential_id is None:
            return None
        recorded = policy.credentials.get(upstream.credential_id)
        if recorded is None:
            raise StorageError("the credential of an upstream is gone; an admin can set it again")
        origin = Url.parse(upstream.url).origin
        key = (recorded.id, recorded.revision, origin)
        if key not in self._credentials:
            secret = self._box.open(recorded.sealed, place_of(recorded.tenant, recorded.name))
            self._credentials[key] = credential_for(
                str(recorded.id), origin, recorded.kind, recorded.username, secret
            )
        return self._credentials[key]


def credential_for(identity: str, origin: str, kind: str, username: str, secret: str) -> Credential:
    """Return the credential to send to an origin.

    Raises:
        BadInputError: the credential has a character that a header can't have.
    """
    if kind == "basic":
        return Credential.basic(identity, origin, username, secret)
    return Credential.bearer(identity, origin, secret)
