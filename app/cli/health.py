"""`moorage health`: is the service ready? For containers and supervisors, which have no curl.

It asks `/readyz` with the standard library alone: a container's health check runs twice a minute.
"""

import contextlib
import http.client
import json
from typing import TYPE_CHECKING, Any

import typer

from app.cli.output import Exit, emit
from app.cli.session import Json, ServerUrl
from app.core.errors import MoorageError

if TYPE_CHECKING:
    from app.settings import Settings

_PATIENCE_S = 4.0  # of the 5 seconds that a container's health check has
_ANSWER_MAX_BYTES = 1024 * 1024
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (compared, not bound)


def health(server_url: ServerUrl = None, as_json: Json = False) -> None:
    """Ask the service of this machine, or a server, whether it is ready. Ends with 1 if not."""
    status, answer = _ask_server(server_url) if server_url else _ask_here()
    emit(answer, as_json, _render)
    if status != http.client.OK:
        raise typer.Exit(Exit.FAILED)


def _ask_server(url: str) -> tuple[int, dict[str, Any]]:
    from app.cli.remote import Remote

    with contextlib.closing(Remote(url, None)) as remote:
        status, body = remote.send("GET", "/readyz", None)
    return status, _parsed(body)


def _ask_here() -> tuple[int, dict[str, Any]]:
    """Ask the listener that this environment's settings describe.

    Raises:
        SettingsError: a setting is wrong.
        MoorageError: nothing answers there in time, or a client certificate would be needed.
    """
    from app.settings import load_settings

    settings = load_settings()
    if settings.tls.client_ca_file is not None and settings.metrics.port is None:
        raise MoorageError(
            "clients need a certificate, and this command has none; set MOORAGE_METRICS__PORT,"
            " a listener without TLS that it asks instead"
        )
    connection = _connection(settings)
    try:
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            with connection.getresponse() as response:
                return response.status, _parsed(response.read(_ANSWER_MAX_BYTES))
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        where = f"{connection.host} port {connection.port}"
        raise MoorageError(f"{where} does not answer: {reason}") from error


def _connection(settings: "Settings") -> http.client.HTTPConnection:
    listener = settings.metrics
    if listener.port is not None:  # plain HTTP, whatever the other listener speaks
        host = listener.host or settings.host
        host = _EVERYWHERE.get(host, host)
        return http.client.HTTPConnection(host, listener.port, timeout=_PATIENCE_S)
    host = _EVERYWHERE.get(settings.host, settings.host)
    if settings.tls.cert_file is None:
        return http.client.HTTPConnection(host, settings.port, timeout=_PATIENCE_S)
    import ssl

    # The certificate names the host that clients use, not this address. Nothing secret is sent.
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, settings.port, timeout=_PATIENCE_S, context=unverified)


def _parsed(body: bytes) -> dict[str, Any]:
    """Return the object in an answer of `/readyz`.

    Raises:
        MoorageError: the answer is something else, so another program answers there.
    """
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("checks"), dict):
        raise MoorageError("what answers is not Moorage")
    return answer


def _render(answer: dict[str, Any]) -> str:
    rows = [*answer["checks"].items(), *answer.get("notes", {}).items()]
    return "\n".join([str(answer.get("status")), *(f"  {name}: {text}" for name, text in rows)])
