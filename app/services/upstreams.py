"""Opening the upstreams of routes: the client of each, with the credential that it wants."""

from app.core.errors import StorageError
from app.core.routing import Upstream
from app.services.policy import Policy
from app.services.secrets import SecretBox, place_of
from app.upstream.address import Credential, Url
from app.upstream.goproxy import Goproxies, Goproxy


class Upstreams:
    """Upstreams, ready to be asked."""

    def __init__(self, proxies: Goproxies, box: SecretBox) -> None:
        self._proxies = proxies
        self._box = box
        self._credentials: dict[tuple[int, int, str], Credential] = {}

    def open(self, upstream: Upstream, policy: Policy) -> Goproxy:
        """Return an upstream with its credential.

        Raises:
            StorageError: the credential can't be opened with the key of now.
        """
        return self._proxies.open(upstream, self._credential(upstream, policy))

    def _credential(self, upstream: Upstream, policy: Policy) -> Credential | None:
        if upstream.credential is None:
            return None
        recorded = policy.credentials.get(upstream.credential)
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
