"""Hosts in the own network that upstreams of a tenant may have, as a platform admin lists them.

    athens.corp.example         any port
    athens.corp.example:3000    this port
    *.corp.example              every host below corp.example
    10.1.2.3:8080, [fd00::1]    addresses

Not here: which addresses are private (`upstream/address`).
"""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address

from app.core.errors import BadInputError
from app.core.hostname import HOST_NAME

MAX_PRIVATE_HOST_CHARS = 262
_ENTRY = re.compile(
    rf"(?:(?P<name>(?:\*\.)?{HOST_NAME})|\[(?P<v6>[0-9a-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


def check_private_host(text: str) -> None:
    """Return if text is a host as this file lists them.

    Raises:
        BadInputError: it is not.
    """
    _split(text)


def _split(text: str) -> tuple[str, int | None]:
    """Return the host, an IPv6 address in its short form, and the port, None for every port."""
    match = _ENTRY.fullmatch(text)
    port = None if match is None or match["port"] is None else int(match["port"])
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise BadInputError(
            "a private host is a lower-case host like athens.corp.example, *.corp.example:443 or "
            "[fd00::1]:8080"
        )
    if match["v6"] is None:
        return str(match["name"]), port
    return _short(match["v6"]), port


def _short(address: str) -> str:
    try:
        return IPv6Address(address).compressed
    except ValueError as error:
        raise BadInputError("a private host in brackets is an IPv6 address") from error


class PrivateHosts:
    """A set of such hosts.

    Args:
        texts: the hosts, as at the top of this file.

    Raises:
        BadInputError: a text is none.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._ports: dict[str, set[int | None]] = {}
        for text in texts:
            host, port = _split(text)
            self._ports.setdefault(host, set()).add(port)

    def covers(self, host: str, port: int) -> bool:
        """Whether host and port are listed; host as in `Url.host`: lower case, no brackets."""
        if not self._ports:
            return False
        name = _short(host) if ":" in host else host
        labels = name.split(".")
        patterns = (name, *(f"*.{'.'.join(labels[n:])}" for n in range(1, len(labels))))
        return any(
            ports is not None and (None in ports or port in ports)
            for ports in map(self._ports.get, patterns)
        )
