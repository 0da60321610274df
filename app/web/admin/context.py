"""How admin routes get at the services, and at whoever asks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.core.errors import MoorageError, UnauthenticatedError
from app.core.principal import OPERATOR, Principal
from app.services.assembly import Services
from app.services.authorization import require_admin, require_publisher
from app.services.refusals import Refusal
from app.web.credentials import presented_token
from app.web.health import Health
from app.web.limits import AdminRates, WrongTokens
from app.web.streaming import Scope
from app.web.tenancy import Gateways

_OPERATOR_KEY = "moorage.operator"
_BACKEND_KEY = "moorage.backend"


@dataclass(frozen=True, slots=True)
class Operator:
    """Says that a request comes from a command in this process, on this data directory.

    No network request can say that: a server fills the ASGI scope with texts and bytes, and only
    code of this process can put an object of this class there.

    Attributes:
        progress: is called with (done, in all) by work that counts; None where nobody looks.
    """

    progress: Callable[[int, int], None] | None = None

    def sign(self, scope: Scope) -> Scope:
        """Return the scope of a request that the operator makes."""
        return {**scope, _OPERATOR_KEY: self}


def operator_of(scope: Scope) -> Operator | None:
    """Return the operator who makes a request; None for every request over the network."""
    operator = scope.get(_OPERATOR_KEY)
    return operator if isinstance(operator, Operator) else None


@dataclass(frozen=True, slots=True)
class Callers:
    """Says from which address a request comes, and limits how much an address or token may ask."""

    gateways: Gateways
    rates: AdminRates
    wrong_tokens: WrongTokens

    def address_of(self, scope: Scope) -> str:
        """Return the client's address, behind a gateway or not; "" if it is unknown."""
        peer = scope["client"][0] if scope.get("client") else ""
        return self.gateways.client_behind(peer, scope["headers"])


@dataclass(frozen=True, slots=True)
class Backend:
    """What stands behind the admin API, whose routes are the same in every process."""

    services: Services
    callers: Callers
    health: Health

    def attach(self, scope: Scope) -> Scope:
        """Return the scope of a request that is answered from here."""
        return {**scope, _BACKEND_KEY: self}


def backend_of(request: Request) -> Backend:
    """Return what a request is answered from."""
    backend: Backend = request.scope[_BACKEND_KEY]
    return backend


async def _services(request: Request) -> Services:
    return backend_of(request).services


Site = Annotated[Services, Depends(_services)]
"""The services of this process."""


async def _base_url(request: Request, services: Site) -> str:
    public_url = services.shared.settings.public_url
    return public_url or f"{request.scope['scheme']}://{request.headers.get('host', '')}"


BaseUrl = Annotated[str, Depends(_base_url)]
"""Scheme, host and port as clients see them: MOORAGE_PUBLIC_URL, else those of the request."""


async def _caller(request: Request, services: Site) -> Principal:
    if operator_of(request.scope) is not None:
        return OPERATOR
    headers, callers = request.scope["headers"], backend_of(request).callers
    try:
        principal = await services.tenants.tokens.authenticate(presented_token(headers))
    except UnauthenticatedError:
        if any(name == b"authorization" for name, _ in headers):
            callers.wrong_tokens.count(callers.address_of(request.scope))
        raise
    callers.rates.count_token(principal.token)
    # Whoever is refused from here on is known, and is counted; see `count_refusal`.
    request.state.caller = principal
    return principal


TokenHolder = Annotated[Principal, Depends(_caller)]
"""Whoever presents a valid token; the service says what it may do (`require_admin`)."""


async def _admin(caller: TokenHolder) -> Principal:
    require_admin(caller, None)
    return caller


PlatformAdmin = Annotated[Principal, Depends(_admin)]
"""An admin of the platform."""


async def _publisher(caller: TokenHolder) -> Principal:
    require_publisher(caller)
    return caller


Publisher = Annotated[Principal, Depends(_publisher)]
"""Whoever may publish own releases."""


async def _progress(request: Request) -> Callable[[int, int], None] | None:
    operator = operator_of(request.scope)
    return None if operator is None else operator.progress


ShownProgress = Annotated[Callable[[int, int], None] | None, Depends(_progress)]
"""Shows to the operator how far the work is; None for requests over the network."""


async def _known_caller(request: Request, services: Services) -> Principal | None:
    """Return who presented a valid token; FastAPI reads a body before it asks for the caller."""
    caller = getattr(request.state, "caller", None)
    if isinstance(caller, Principal) or operator_of(request.scope) is not None:
        return caller
    try:
        return await _caller(request, services)
    except MoorageError:
        return None


async def count_refusal(request: Request, kind: Refusal, why: str) -> None:
    """Count a call that a caller with a valid token was refused, for the audit log.

    A caller who is nobody is not counted there: whoever can reach the port could fill the log.
    """
    services = backend_of(request).services
    caller = await _known_caller(request, services)
    if caller is None:
        return
    # As it came: decoded, a path may hold line breaks.
    path = request.scope["raw_path"].decode("ascii", "backslashreplace")
    await services.shared.refusals.count(caller, kind, f"{request.method} {path}", why)
