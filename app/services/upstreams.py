"""Opening the upstreams of routes: the client of each, with the credential that it wants."""

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
    """An upstream that is ready to be asked on behalf of a tenant.

    Attributes:
        proxy: the upstream's client, with its credential.
        tenant: the name of the tenant whose slots a fetch takes.
        slots: how many fetches of that tenant may run at once.
    """

    proxy: Goproxy
    tenant: str
    slots: int


class Upstreams:
    """Opens upstreams.

    Args:
        proxies: the clients.
        box: opens the sealed credentials.
        slots: fetches at once of a tenant that has no limit of its own.
    """

    def __init__(self, proxies: Goproxies, box: SecretBox, slots: int) -> None:
        self._proxies = proxies
        self._box = box
        self._slots = slots
        self._credentials: dict[tuple[int, int, str], Credential] = {}

    def open(self, upstream: RecordedUpstream, policy: Policy, tenant: Tenant) -> Source:
        """Return an upstream with its credential, to be asked on behalf of a tenant.

        Raises:
            StorageError: the credential can't be opened with the key of now.
        """
        proxy = self._proxies.open(upstream, self._credential(upstream, policy))
        return Source(proxy, tenant.name, tenant.limits.cold or self._slots)

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
        BadInputError: it can't be a header.
    """
    if kind == "basic":
        return Credential.basic(identity, origin, username, secret)
    return Credential.bearer(identity, origin, secret)
