"""The addresses that the listeners bind to."""

import contextlib
import errno
import socket
from typing import Any

from app.core.errors import SettingsError
from app.settings import Settings


class AddressInUseError(SettingsError):
    """Something listens on the address already; perhaps the service that these settings are of."""


def bind(settings: Settings) -> socket.socket:
    """Return the bound socket that all processes listen on.

    Raises:
        SettingsError: the address is in use, or not an address of this host.
    """
    return _bind(settings.host, settings.port, "", settings)


def bind_metrics(settings: Settings) -> socket.socket | None:
    """Return the bound socket of the listener for metrics; None if the settings have none.

    Raises:
        SettingsError: the address is in use, or not an address of this host.
    """
    port = settings.metrics.port
    if port is None:
        return None
    return _bind(settings.metrics.host or settings.host, port, "METRICS__", settings)


def require_addresses(settings: Settings) -> None:
    """Return if the listeners could bind, had nothing else their ports.

    Raises:
        SettingsError: an address is none of this host, or the port is not for this user.
    """
    for make in (bind, bind_metrics):
        with contextlib.suppress(AddressInUseError):
            sock = make(settings)
            if sock is not None:
                sock.close()


def _bind(host: str, port: int, prefix: str, settings: Settings) -> socket.socket:
    try:
        results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        sock = _bound(*results[0])
    except OSError as error:
        kind = AddressInUseError if error.errno == errno.EADDRINUSE else SettingsError
        advice = {
            errno.EADDRINUSE: f"choose another MOORAGE_{prefix}PORT, or stop what listens there",
            errno.EACCES: f"choose a MOORAGE_{prefix}PORT from 1024 on",
        }.get(error.errno or 0, f"choose a MOORAGE_{prefix}HOST of this machine")
        raise kind(f"can't listen on {host}:{port}: {error.strerror}; {advice}") from error
    # Accepted sockets inherit this time-out. It covers bytes that only the kernel holds, such as
    # those of a connection that is closed here. Twice send_s, so that the sweep comes first.
    with contextlib.suppress(OSError, AttributeError):
        give_up_ms = 2000 * settings.limits.send_s
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, give_up_ms)
    return sock


def _bound(family: int, kind: int, protocol: int, _name: str, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
