"""How admin routes get at the services, and at whoever asks."""

from typing import Annotated

from fastapi import Depends, Request

from app import logs
from app.core.errors import DatabaseBusyError
from app.core.principal import Principal
from app.services.assembly import Services
from app.services.authorization import require_admin
from app.web.credentials import presented_token

_log = logs.get("admin")


def _services(request: Request) -> Services:
    services = request.app.state.services
    if not isinstance(services, Services):
        raise TypeError("the admin API was created without services")
    return services


Site = Annotated[Services, Depends(_services)]
"""The services of this process."""


async def _caller(request: Request, services: Site) -> Principal:
    principal = await services.tenants.tokens.authenticate(
        presented_token(request.scope["headers"])
    )
    # Whoever is denied from here on is known, and leaves an audit row; see `record_denial`.
    request.state.caller = principal
    return principal


Caller = Annotated[Principal, Depends(_caller)]
"""Whoever presents a valid token; the service says what it may do (`require_admin`)."""


async def _admin(caller: Caller) -> Principal:
    require_admin(caller, None)
    return caller


Admin = Annotated[Principal, Depends(_admin)]
"""An admin of the platform."""


async def record_denial(request: Request, why: str) -> None:
    """Leave an audit row of what a caller with a valid token may not do.

    A caller who is nobody leaves none: whoever can reach the port could fill the log.
    """
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Principal):
        return
    services = _services(request)
    # As it came: decoded, a path may hold line breaks.
    path = request.scope["raw_path"].decode("ascii", "backslashreplace")
    what = f"{request.method} {path}"
    try:
        await services.tenants.tokens.deny(caller, what, why)
    except DatabaseBusyError as error:
        _log.error("denial not recorded", actor=caller.actor, what=what, error=str(error))
