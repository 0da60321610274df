"""Upstream GOPROXY servers: one client for each, so that a slow upstream harms only its own routes.

The caller checks their answers. Errors hold the upstream's URL and words: they are for the log, not
for clients.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import quote

from cachetools import LRUCache

from app.core import module as modules
from app.core.goproxy import GoproxyRequest, RequestKind
from app.core.routing import RecordedUpstream
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.upstream.sink import Sink
from app.upstream.url import Credential

CONNECTIONS = 64
_MAX_CLIENTS = 256
_UNQUOTED = "!$&+=@~"  # as `go`, but for the exclamation mark


class ModuleUpstream(Protocol):
    """What answers the questions of the GOPROXY protocol: a GOPROXY, or a git server."""

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Write the answer to a request into sink.

        Return the moment of which the answer is, UTC; None for now.

        Raises:
            UpstreamAbsentError: it is not there.
            UpstreamError: it can't be had.
            OverloadedError: too much is under way.
        """


@dataclass(frozen=True, slots=True)
class Goproxy:
    """One upstream with its credential; each request borrows the upstream's client."""

    proxies: "Goproxies"
    upstream: RecordedUpstream
    credential: Credential | None
    private_hosts: tuple[str, ...] | None = ()

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Write the answer to a request into sink; see `ModuleUpstream`."""
        path = path_of(request.module, request.kind, request.version)
        if request.kind is RequestKind.ZIP:
            await self.download(path, sink, max_bytes)
        else:
            await self.fetch_small(path, sink, max_bytes)
        return None

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
        async with self.proxies.lend(self.upstream, self.private_hosts) as client:
            _, body = await client.get(
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
        async with self.proxies.lend(self.upstream, self.private_hosts) as client:
            await client.download(
                f"{self.upstream.url}/{path}",
                sink,
                max_bytes=max_bytes,
                deadline_s=deadline_s,
                credential=self.credential,
                follow_to=self.upstream.redirect_to,
                is_paced=is_paced,
            )


@dataclass(slots=True, eq=False)
class _Shared:
    """A client, and how many requests borrow it now."""

    client: HttpClient
    borrowers: int = 0
    is_evicted: bool = False


class Goproxies:
    """The clients of upstreams, made when first needed; of more than 256, one leaves.

    The client that was used least recently leaves. It is closed after its last request.

    Args:
        make: makes a client from limits, a CA bundle in PEM, and the private hosts of a tenant.
    """

    def __init__(
        self, make: Callable[[UpstreamLimits, str, tuple[str, ...] | None], HttpClient]
    ) -> None:
        self._make = make
        self._clients: LRUCache[tuple[int, float, str, tuple[str, ...] | None], _Shared] = LRUCache(
            _MAX_CLIENTS
        )
        self._evicted: set[_Shared] = set()  # those that a request still borrows

    def open(
        self,
        upstream: RecordedUpstream,
        credential: Credential | None,
        private_hosts: tuple[str, ...] | None = (),
    ) -> Goproxy:
        """Return an upstream with its credential, which reaches those private hosts, too.

        private_hosts: None stands for every host of the networks that are allowed.
        """
        return Goproxy(self, upstream, credential, private_hosts)

    @asynccontextmanager
    async def lend(
        self, upstream: RecordedUpstream, private_hosts: tuple[str, ...] | None = ()
    ) -> AsyncIterator[HttpClient]:
        """Return a context with the upstream's own client, which stays open inside."""
        key = (upstream.origin_id, upstream.connect_s, upstream.ca_pem, private_hosts)
        shared = self._clients.get(key)
        evicted = None
        if shared is None:
            limits = UpstreamLimits(connect_s=upstream.connect_s, connections=CONNECTIONS)
            shared = _Shared(self._make(limits, upstream.ca_pem, private_hosts))
            evicted = self._make_place()
            self._clients[key] = shared
        shared.borrowers += 1
        try:
            if evicted is not None:
                await self._close_unused(evicted)
            yield shared.client
        finally:
            shared.borrowers -= 1
            await self._close_unused(shared)

    def _make_place(self) -> _Shared | None:
        """Take the client out that was used least recently, if there is no place for another."""
        if len(self._clients) < _MAX_CLIENTS:
            return None
        _, evicted = self._clients.popitem()
        evicted.is_evicted = True
        self._evicted.add(evicted)
        return evicted

    async def _close_unused(self, shared: _Shared) -> None:
        if shared.is_evicted and not shared.borrowers:
            self._evicted.discard(shared)
            await shared.client.aclose()

    async def aclose(self) -> None:
        """Close every client, even one that a request borrows."""
        for shared in (*self._clients.values(), *self._evicted):
            await shared.client.aclose()


def path_of(module: str, kind: RequestKind, version: str = "") -> str:
    """Return the escaped path below a proxy's base: "github.com/!burnt!sushi/toml/@v/v1.4.0.zip".

    What a URL's path can't hold is percent-encoded: the branch "fix#1" gives "…/@v/fix%231.info".

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
    quoted = quote(modules.escape_version(version), safe=_UNQUOTED)
    return f"{escaped}/@v/{quoted}.{kind}"
