"""Upstream GOPROXY servers: one client for each, so that a slow upstream harms only its own routes.

The caller checks their answers. Errors hold the upstream's URL and words: they are for the log, not
for clients.
"""

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

from cachetools import LRUCache

from app.core import module as modules
from app.core.goproxy import RequestKind
from app.core.routing import RecordedUpstream
from app.upstream.address import Credential
from app.upstream.http import HttpClient, Sink
from app.upstream.limits import UpstreamLimits

CONNECTIONS = 64
_MAX_CLIENTS = 256


@dataclass(frozen=True, slots=True)
class Goproxy:
    """One upstream with its client and its credential."""

    client: HttpClient
    upstream: RecordedUpstream
    credential: Credential | None

    async def get(self, path: str, max_bytes: int) -> bytes:
        """Return a small body: a list, .info, .mod or @latest.

        Args:
            path: escaped, below the base: "example.com/x/@v/list".
            max_bytes: a longer body is refused.

        Raises:
            UpstreamAbsentError: 404 or 410.
            UpstreamError: the file can't be fetched.
            OverloadedError: all connections to this upstream are in use.
        """
        _, body = await self.client.get(
            f"{self.upstream.url}/{path}",
            max_bytes=max_bytes,
            deadline_s=self.upstream.metadata_s,
            credential=self.credential,
            follow_to=self.upstream.redirect_to,
        )
        return body

    async def fetch_small(self, path: str, sink: Sink, max_bytes: int) -> None:
        """Write a list, .info or .mod into sink; the deadline is that of `get`.

        Raises:
            UpstreamAbsentError: 404 or 410.
            UpstreamError: the file can't be fetched.
            OverloadedError: all connections to this upstream are in use.
        """
        await self._download(path, sink, max_bytes, self.upstream.metadata_s, is_paced=False)

    async def download(self, path: str, sink: Sink, max_bytes: int) -> None:
        """Write a zip into sink; it must come at a minimum rate.

        Raises:
            UpstreamAbsentError: 404 or 410.
            UpstreamError: the file can't be fetched.
            OverloadedError: all connections to this upstream are in use.
        """
        await self._download(path, sink, max_bytes, self.upstream.zip_s, is_paced=True)

    async def _download(
        self, path: str, sink: Sink, max_bytes: int, deadline_s: float, *, is_paced: bool
    ) -> None:
        await self.client.download(
            f"{self.upstream.url}/{path}",
            sink,
            max_bytes=max_bytes,
            deadline_s=deadline_s,
            credential=self.credential,
            follow_to=self.upstream.redirect_to,
            is_paced=is_paced,
        )


class Goproxies:
    """The clients of upstreams, made when first needed.

    Args:
        make: makes a client from limits and a CA bundle in PEM.
    """

    def __init__(self, make: Callable[[UpstreamLimits, str], HttpClient]) -> None:
        self._make = make
        self._clients: LRUCache[tuple[int, float, str], HttpClient] = LRUCache(_MAX_CLIENTS)
        self._all: WeakSet[HttpClient] = WeakSet()

    def open(self, upstream: RecordedUpstream, credential: Credential | None) -> Goproxy:
        """Return an upstream with its own client."""
        key = (upstream.origin_id, upstream.connect_s, upstream.ca_pem)
        client = self._clients.get(key)
        if client is None:
            limits = UpstreamLimits(connect_s=upstream.connect_s, connections=CONNECTIONS)
            client = self._make(limits, upstream.ca_pem)
            self._clients[key] = client
            # A client that leaves the cache may still be in use; aclose() must reach it.
            self._all.add(client)
        return Goproxy(client, upstream, credential)

    async def aclose(self) -> None:
        """Close every client."""
        for client in list(self._all):
            await client.aclose()


def path_of(module: str, kind: RequestKind, version: str = "") -> str:
    """Return the escaped path below a proxy's base: "github.com/!burnt!sushi/toml/@v/v1.4.0.zip".

    Args:
        module: plain path.
        kind: of the request.
        version: plain version or query, for INFO, MOD and ZIP.
    """
    escaped = modules.escape_path(module)
    if kind is RequestKind.LATEST:
        return f"{escaped}/@latest"
    if kind is RequestKind.LIST:
        return f"{escaped}/@v/list"
    return f"{escaped}/@v/{modules.escape_version(version)}.{kind}"
