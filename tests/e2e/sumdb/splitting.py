"""The unluckiest load balancer: a lookup goes to one server, its tiles to the other one."""

import urllib.error
import urllib.request

from tests.fakes.faults import Reply, rope
from tests.fakes.server import FakeServer
from tests.fakes.wire import RecordedRequest

_KEPT = ("Content-Type",)


class Splitting(FakeServer):
    """Passes requests on to two servers; `turn` swaps them.

    Args:
        lookups: where lookups go, and all that is not a tile.
        tiles: where tiles go.
    """

    def __init__(self, lookups: str, tiles: str) -> None:
        super().__init__()
        self._servers = [lookups, tiles]
        self._at = 0

    def turn(self, number: int) -> None:
        """Swap the servers for odd numbers."""
        self._at = number % 2

    def answer(self, request: RecordedRequest) -> Reply:
        """Return what the server answers whose turn it is."""
        which = (self._at + ("/tile/" in request.target)) % 2
        url = self._servers[which] + request.target
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                status, headers, body = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, headers, body = error.code, error.headers, error.read()
        kept = {name: headers[name] for name in _KEPT if headers[name]}
        return Reply(status, kept, rope(body))
