"""Git servers: what branches and tags a repository has, and packs of its objects.

The protocol is spoken here, and not by the `git` program: so every connection of HTTPS is one of
`HttpClient`, with its address guard, deadlines, credentials and breaker; see docs/decisions/0036.
Only ssh needs a program, for the connection alone (`gitssh`).

Errors hold the repository's URL: they are for the log, not for clients. Not here: the repository on
disk (`gitmirror`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from app.core.errors import BadInputError, UpstreamContentError
from app.core.gitprotocol import (
    MAX_REFS_BYTES,
    PackReader,
    fetch_request,
    list_refs_request,
    packets_of,
    read_advertisement,
    read_refs,
)
from app.core.gitrefs import GitRefs
from app.upstream.http import HttpClient
from app.upstream.sink import MemorySink, Sink
from app.upstream.url import Credential

_SERVICE = "git-upload-pack"
_SUFFIX = f"/info/refs?service={_SERVICE}"
_PROTOCOL = {"Git-Protocol": "version=2"}


@dataclass(frozen=True, slots=True)
class GitListing:
    """The refs of a repository, and what a fetch has to know of its server.

    Attributes:
        url: of the repository, where redirects have led.
        version: of the protocol.
        object_format: "sha1" or "sha256".
    """

    refs: GitRefs
    url: str
    version: int
    object_format: str


@dataclass(frozen=True, slots=True)
class GitDeadlines:
    """Seconds for listing refs, and for fetching a pack."""

    list_s: float
    fetch_s: float


class GitServer(Protocol):
    """One repository of a server, for one credential."""

    async def list_refs(self) -> GitListing:
        """Return the branches and tags that the server has now.

        Raises:
            UpstreamAbsentError: the server says that there is no such repository.
            UpstreamError: it can't be asked, or its answer is malformed.
        """

    async def fetch(
        self, listing: GitListing, wants: list[str], haves: list[str], sink: Sink, max_bytes: int
    ) -> None:
        """Write a pack with the objects behind `wants` into sink.

        Raises:
            UpstreamError: it can't be had, or has more than max_bytes.
        """


@dataclass(frozen=True, slots=True)
class HttpGitServer:
    """A repository behind HTTP.

    Attributes:
        lend: gives the client of the upstream.
        url: of the repository: "https://git.corp.example/team/x.git".
        authorize: gives the credential to send.
        follow_to: hosts and origins that it may redirect to.
    """

    lend: Callable[[], AbstractAsyncContextManager[HttpClient]]
    url: str
    authorize: Callable[[HttpClient], Awaitable[Credential | None]]
    follow_to: frozenset[str]
    deadlines: GitDeadlines

    async def list_refs(self) -> GitListing:
        """Return the branches and tags; see `GitServer.list_refs`."""
        answer = MemorySink()
        async with self.lend() as client:
            credential = await self.authorize(client)
            response = await client.exchange(
                self.url + _SUFFIX,
                answer,
                headers=_PROTOCOL,
                max_bytes=MAX_REFS_BYTES,
                deadline_s=self.deadlines.list_s,
                credential=credential,
                follow_to=self.follow_to,
                is_paced=False,
            )
            with refused(self.url):
                said = await asyncio.to_thread(
                    lambda: read_advertisement(packets_of(bytes(answer.body)))
                )
            url = _base(response.url, self.url)
            if said.refs is not None:
                return GitListing(said.refs, url, said.version, said.object_format)
            body = list_refs_request(said.object_format)
            listed = await self._post(client, url, body, credential)
        with refused(self.url):
            refs = await asyncio.to_thread(lambda: read_refs(packets_of(listed)))
        return GitListing(refs, url, said.version, said.object_format)

    async def _post(
        self, client: HttpClient, url: str, body: bytes, credential: Credential | None
    ) -> bytes:
        answer = MemorySink()
        await client.exchange(
            f"{url}/{_SERVICE}",
            answer,
            headers=_headers(),
            body=body,
            max_bytes=MAX_REFS_BYTES,
            deadline_s=self.deadlines.list_s,
            credential=credential,
            follow_to=frozenset(),
            is_paced=False,
        )
        return bytes(answer.body)

    async def fetch(
        self, listing: GitListing, wants: list[str], haves: list[str], sink: Sink, max_bytes: int
    ) -> None:
        """Write a pack into sink; see `GitServer.fetch`."""
        pack = PackSink(sink, listing.version, self.url)
        async with self.lend() as client:
            await client.exchange(
                f"{listing.url}/{_SERVICE}",
                pack,
                headers=_headers() if listing.version == 2 else _headers(version=0),
                body=fetch_request(listing.version, listing.object_format, wants, haves),
                max_bytes=max_bytes,
                deadline_s=self.deadlines.fetch_s,
                credential=await self.authorize(client),
                follow_to=frozenset(),
                is_paced=False,  # a server may count for minutes before the first byte of a pack
            )
        pack.finish()


class PackSink:
    """Takes the answer to a fetch, and gives the pack in it to another sink."""

    def __init__(self, sink: Sink, version: int, url: str) -> None:
        self._sink = sink
        self._version = version
        self._url = url
        self._reader = PackReader(version)

    @property
    def is_complete(self) -> bool:
        """Whether the pack came to its end."""
        return self._reader.is_complete

    async def restart(self) -> None:
        """Forget everything."""
        self._reader = PackReader(self._version)
        await self._sink.restart()

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            UpstreamContentError: they are no pack.
        """
        with refused(self._url):
            pack = b"".join(self._reader.feed(chunk))
        if pack:
            await self._sink.write(pack)

    def finish(self) -> None:
        """Return if the pack is complete.

        Raises:
            UpstreamContentError: it is cut short.
        """
        with refused(self._url):
            self._reader.finish()


@contextmanager
def refused(url: str) -> Iterator[None]:
    """Turn what is malformed into the error of an upstream."""
    try:
        yield
    except BadInputError as error:
        raise UpstreamContentError(f"{url}: {error}", origin="") from error


def _headers(version: int = 2) -> dict[str, str]:
    headers = {
        "Content-Type": f"application/x-{_SERVICE}-request",
        "Accept": f"application/x-{_SERVICE}-result",
    }
    return headers | _PROTOCOL if version == 2 else headers


def _base(shown: str, asked: str) -> str:
    """Return the URL of a repository from that of its refs, where redirects have led."""
    base = shown.removesuffix("/info/refs")
    return base if base != shown else asked
