"""`/dl/` and `/go/`: listings, archives, and what stands beside them. Plain ASGI: the hot path.

Below `/dl/channels/<channel>/` the same, restricted to the channel's revision. Only what the
catalogue offers goes out. The statuses are those of `responses`; the page for people
is made by `pages`. Which paths there are: `downloadrequest`.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

from app import logs
from app.core.channel import Revision
from app.core.errors import MoorageError, UnknownError
from app.core.gorelease import parse_filename
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord
from app.core.releasename import near_names
from app.metrics import hotpath
from app.services.fleet.offered import OfferedChannel
from app.services.flight import Flight
from app.services.releases.catalog import Catalog, CatalogReader
from app.services.releases.freshness import Freshness
from app.services.releases.ingestion import Ingestion
from app.services.releases.policy import raise_if_held_back
from app.storage.blobstore import OpenBlob
from app.web.channelfiles import (
    Audience,
    ChannelDoor,
    current_of,
    text_of,
)
from app.web.derivedfiles import KINDS, derived_answer, derived_file
from app.web.downloadrequest import SHA256, SMART_QUERY, DownloadRequest, parse_request
from app.web.hotcache import HotCache
from app.web.judging import Judge
from app.web.plainhead import PlainHead
from app.web.releaselistings import listing_answer, needs_index, unread_answer
from app.web.requestline import request_line
from app.web.responses import (
    IMMUTABLE,
    TEXT,
    Answer,
    body_answer,
    error_answer,
    file_answer,
    in_coding,
    is_storable,
    made_private,
    plain,
    redirect,
)
from app.web.sending import Sender, is_stream
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways, client_block

_CONTENT_TYPES = {
    "tar.gz": b"application/gzip",
    "zip": b"application/zip",
    "msi": b"application/x-msi",
    "pkg": b"application/octet-stream",
}
_METHODS = ("GET", "HEAD")
_KEPT_QUERIES = (
    b"mode=json",
    b"mode=json&include=all",
    b"include=all&mode=json",
    b"mode=json&include=own",
    SMART_QUERY,
)
_log = logs.get("downloads")


class Downloads:
    """The ASGI application of `/dl` and `/go`."""

    def __init__(
        self,
        catalog: CatalogReader,
        ingestion: Ingestion,
        freshness: Freshness,
        door: ChannelDoor,
        sender: Sender,
        gateways: Gateways,
    ) -> None:
        self._catalog = catalog
        self._ingestion = ingestion
        self._freshness = freshness
        self._door = door
        self._listings: Flight[tuple[int, Revision | None, DownloadRequest], Answer] = Flight()
        self._sender = sender
        self._gateways = gateways
        self._hot: HotCache[Answer] = HotCache(
            size_of=lambda answer: answer.memory_bytes,
            since=lambda _: max(catalog.changed_at, door.changed_at),
        )
        self._judge = Judge(
            sender,
            generation=lambda: catalog.generation,
            since=lambda: max(catalog.changed_at, door.changed_at, door.admits_since),
        )

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        """Return the prepared answer to a plain GET, without any await; None where there is none.

        Args:
            url: path and query as they came over the wire.
            head: of the request.
        """
        began = time.monotonic()
        answer = self._hot.get(url)
        if answer is None:
            return None
        answer = in_coding(answer, head.headers)
        if not answer.wire or head.is_conditional:
            return None
        hotpath.count_instant("downloads", "", answer.size_bytes, began)
        return answer.wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        # A query says something to a listing, and to git; elsewhere it is no part of the key.
        key = path + b"?" + query if query and path.endswith((b"/", b"/info/refs")) else path
        answer = self._hot.get(key)
        is_hit = answer is not None and scope["method"] in _METHODS
        hotpath.count_hot(hit=is_hit)
        if answer is not None and is_hit and answer.blob is None:
            hotpath.observe_hit("downloads", 0.0)
            status, sent = await self._sender.send(answer, scope, receive, send)
        else:
            hit = answer if is_hit else None
            status, sent = await self._send_logged(hit, key, scope, receive, send)
        hotpath.count_request("downloads", scope["method"], status, sent)

    async def _send_logged(
        self, answer: Answer | None, key: bytes, scope: Scope, receive: Receive, send: Send
    ) -> tuple[int, int]:
        """Answer, and log it under a request id: all but small hits, which are only counted."""
        peer = scope["client"][0] if scope.get("client") else ""
        client = self._gateways.client_behind(peer, scope["headers"])
        block, blob, is_hit = client_block(client), None, answer is not None
        with request_line(_log, scope, client) as line:
            try:
                async with AsyncExitStack() as turns:
                    try:
                        answer, blob = await self._judge.ready(
                            answer, partial(self._answer, scope, key, block), scope, turns, block
                        )
                    except MoorageError as error:
                        answer = error_answer(error)
                    if is_hit and is_stream(answer, scope):
                        hotpath.observe_hit("downloads", time.monotonic() - line.began_s)
                    sent = await self._sender.send(answer, scope, receive, send, blob)
            finally:
                if blob is not None:
                    blob.close()
            line.status, line.sent_bytes = sent
            line.more = _reason(answer)
        return sent

    async def _answer(
        self, scope: Scope, key: bytes, client: str
    ) -> tuple[Answer, OpenBlob | None]:
        """Return the answer, kept for the next request, and the blob that was opened for it."""
        if scope["method"] not in _METHODS:
            answer = plain(405, "only GET and HEAD are answered here", (b"allow", b"GET, HEAD"))
            return answer, None
        path: bytes = scope["raw_path"]
        if path in (b"/dl", b"/go"):
            query = scope["query_string"].decode("ascii", "ignore")
            return redirect(f"/dl/?{query}" if query else "/dl/"), None
        try:
            request = parse_request(path, scope["query_string"])
            if request is None:
                return redirect(f"{path.decode('ascii')}/"), None
            await self._catalog.current()
            generation = self._catalog.generation
            offered, audience = await self._enter(request, scope, client)
            is_limited = audience is not Audience.EVERYBODY
            # Under any other spelling or query a client could fill the cache with copies.
            is_plain = b"%" not in path and b"//" not in path
            is_kept = is_plain and (key == path or scope["query_string"] in _KEPT_QUERIES)
            if is_limited:
                # Never under the URL alone: `instant` would give it to everybody.
                key = f"{audience}:".encode() + key
                hit = self._hot.get(key)
                if hit is not None:
                    return hit, None
            answer, blob = await self._prepare(request, offered, client)
            answer = made_private(answer) if is_limited else answer
        except MoorageError as error:
            # The line names the file server; the server's own text says nothing of releases.
            return error_answer(error, with_upstream_text=False), None
        if is_kept and is_storable(answer):
            self._hot.put(key, generation, answer)
        return answer, blob

    async def _enter(
        self, request: DownloadRequest, scope: Scope, client: str
    ) -> tuple[OfferedChannel | None, Audience]:
        """Return the channel that a request is restricted to, if the client may see it."""
        if not request.channel:
            return None, Audience.EVERYBODY
        return await self._door.enter(request.channel, scope["headers"], client)

    async def _prepare(
        self, request: DownloadRequest, offered: OfferedChannel | None, client: str
    ) -> tuple[Answer, OpenBlob | None]:
        signed = None if offered is None else current_of(offered)
        if signed is not None and request.is_text_of_channel:
            return text_of(request.name, signed), None
        revision = None if signed is None else signed.revision
        if request.is_listing:
            return await self._listed(request, revision), None
        record = await self._find_served(request.name, revision, client)
        if request.extra in KINDS:
            derived = derived_file(record, KINDS[request.extra])
            blob = await self._sender.open(derived.sha256, derived.size_bytes)
            return derived_answer(record, KINDS[request.extra], derived), blob
        if request.extra:
            return _extra_answer(record, request.extra), None
        sha256, size_bytes = record.sha256, record.file.size_bytes
        stored_at = record.ingested_at or record.first_seen_at
        kind = _CONTENT_TYPES[record.file.suffix]
        # Opening proves the bytes before the answer is prepared, and heals them if need be.
        blob = await self._sender.open(sha256, size_bytes)
        return file_answer(sha256, size_bytes, kind, stored_at), blob

    async def _listed(self, request: DownloadRequest, revision: Revision | None) -> Answer:
        catalog = await self._catalog.current()
        if needs_index(catalog, request, revision):
            try:
                await self._freshness.first_index(catalog)
            except MoorageError as error:
                catalog = await self._catalog.current(fresh=True)  # has the failure, for the page
                answer = unread_answer(request, error, catalog)
                if answer is not None:
                    return answer
        catalog = await self._catalog.current()
        # Rendered in a thread, and once for all who ask: an index may have many files.
        key = (catalog.generation, revision, request)
        work = partial(asyncio.to_thread, listing_answer, catalog, request, revision)
        return await self._listings.do(key, work)

    async def _find_served(self, name: str, revision: Revision | None, client: str) -> FileRecord:
        """Return the record of a file that may go out, ingesting it if settings allow.

        Args:
            name: the file's, or its SHA-256.
            revision: of a channel, which limits the releases; None for none.
            client: the address that asks.

        Raises:
            UnknownError: it is known to be absent.
            MoorageError: it exists and can't be had; see `Ingestion.ensure`.
        """
        record = _find(await self._catalog.current(), name)
        if revision is not None and (record is None or record.file.version not in revision):
            raise _outside(name, revision)
        is_in_indexes = not _is_own(name)  # of an own release no index knows more
        if record is None and is_in_indexes and await self._freshness.look_again():
            record = _find(await self._catalog.current(), name)
        if record is None:
            raise _absent(name, await self._catalog.current())
        if not self._catalog.policy.serves(record) or record.damaged:
            record = await self._ingestion.ensure(record.file.filename, client=client)
            await self._catalog.current(fresh=True)
        raise_if_held_back(record)
        return record


def _reason(answer: Answer) -> dict[str, str]:
    """Return why a request is refused, for its line in the log: the one line of the answer."""
    if answer.status < 400:
        return {}
    return {"reason": answer.body.decode("utf-8", "replace").strip()}


def _find(catalog: Catalog, name: str) -> FileRecord | None:
    if SHA256.fullmatch(name):
        return catalog.by_sha256.get(name)
    return catalog.records.get(name)


def _is_own(name: str) -> bool:
    """Whether a file's name is one of an own release."""
    return not SHA256.fullmatch(name) and is_own(parse_filename(name).version)


def _absent(name: str, catalog: Catalog) -> UnknownError:
    if SHA256.fullmatch(name):
        return UnknownError(f"no release file has the SHA-256 {name}; see /dl/SHA256SUMS")
    text = f"there is no Go release file {name} in the release index"
    if _is_own(name):
        text = f"there is no file {name}: nobody has published it here"
    near = (catalog.records.get(n) for n in near_names(parse_filename(name)))
    offered = next((r.file.filename for r in near if r is not None and catalog.offers(r)), None)
    return UnknownError(f"{text}; did you mean {offered}?" if offered else f"{text}; see /dl/")


def _outside(name: str, revision: Revision) -> UnknownError:
    """Return the refusal of a file that a channel does not offer."""
    url = f"/dl/channels/{revision.channel}/"
    return UnknownError(
        f"channel {revision.channel} does not offer {name}: its release is {revision.current}; "
        f"see {url} for all that it offers"
    )


def _extra_answer(record: FileRecord, extra: str) -> Answer:
    filename = record.file.filename
    if extra == ".sha256":  # bare, as dl.google.com serves it: mise compares it untrimmed
        return body_answer(record.sha256.hex.encode(), TEXT, IMMUTABLE)
    if extra == ".sha256sum":
        return body_answer(f"{record.sha256}  {filename}\n".encode(), TEXT, IMMUTABLE)
    if record.signature is None or record.verdict is None or not record.verdict.accepted:
        raise UnknownError(
            f"upstream publishes no signature for {filename}; it is offered by its SHA-256"
        )
    return body_answer(record.signature, b"application/pgp-signature", IMMUTABLE)
