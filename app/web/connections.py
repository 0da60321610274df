"""How many connections a process has, and from one address; beyond that only health is answered.

A connection beyond the limits is still accepted: whether it asks for health is known only when its
head has come. Few such connections are open at once; a further one takes the place of the oldest.
"""

import resource
from collections import Counter, OrderedDict
from typing import Protocol

from app.web.tenancy import Gateways, client_block

HEALTH = frozenset({b"/healthz", b"/readyz", b"/version", b"/metrics"})
_MAX_EXTRA = 64
_FILES_PER_CONNECTION = 2  # its own descriptor, and one for upstreams, blobs and the database
_ADDRESS_REFUSAL = 429, "this address has too many connections open; close some and try again"
_PROCESS_REFUSAL = 503, "too many connections are open here; try again"


class Cuttable(Protocol):
    """A connection that can be cut."""

    def cut(self) -> None:
        """Close the connection at once."""


class Connections:
    """The open connections of one process.

    Args:
        most: of all addresses together. An address gets one more connection only while it has
            fewer than are free: one address has half of them at most, two have a third each.
        most_by_address: from one address.
        gateways: their connections carry those of many addresses, and count only for `most`.
    """

    def __init__(self, most: int, most_by_address: int, gateways: Gateways) -> None:
        self._free = min(most, _open_files() // _FILES_PER_CONNECTION)
        self._most_by_address = most_by_address
        self._gateways = gateways
        self._by_address: Counter[str] = Counter()
        self._extra: OrderedDict[Cuttable, None] = OrderedDict()  # the oldest first

    def open(self, client: str) -> tuple[int, str] | None:
        """Count a connection; `close` follows.

        Args:
            client: the address of the other end.

        Returns:
            None, or (status, line): the connection is not counted, and all but health is refused.
        """
        block = client_block(client)
        held = self._by_address[block]
        is_gateway = self._gateways.trusts(client)
        if not is_gateway and held >= self._most_by_address:
            return _ADDRESS_REFUSAL
        if self._free <= (0 if is_gateway else held):
            return _PROCESS_REFUSAL
        self._by_address[block] += 1
        self._free -= 1
        return None

    def close(self, client: str) -> None:
        """Count a connection less."""
        block = client_block(client)
        self._by_address[block] -= 1
        if not self._by_address[block]:
            del self._by_address[block]
        self._free += 1

    def add_extra(self, connection: Cuttable) -> None:
        """Let a refused connection stay for a while; beyond the limit cut the oldest one."""
        self._extra[connection] = None
        if len(self._extra) > _MAX_EXTRA:
            oldest, _ = self._extra.popitem(last=False)
            oldest.cut()

    def drop_extra(self, connection: Cuttable) -> None:
        """Forget a refused connection that asks for health, or that is closed."""
        self._extra.pop(connection, None)


def is_health(url: bytes) -> bool:
    """Whether a target asks how this process is: b"/readyz", b"/metrics?x"."""
    return url.partition(b"?")[0] in HEALTH


def _open_files() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 30 if soft == resource.RLIM_INFINITY else soft
