"""Sending a prepared answer: the part that a request wants, from memory or from the blob store.

A blob is opened, and so proven, before the first byte goes out; a damaged one is healed.
"""

from contextlib import AbstractAsyncContextManager, suppress

from app import logs
from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError, MoorageError, StorageError
from app.services.repair import Repair
from app.storage.blobstore import BlobStore, OpenBlob
from app.web.responses import Answer, Slice, error_answer, for_request, in_coding, with_trace
from app.web.streaming import Message, Receive, Scope, Send, Streams

_START = "http.response.start"
_LINK_S = 300.0
_IN_MEMORY_BYTES = 1 << 20
_NODES = b"moorage-node/"
_log = logs.get("sending")


def is_stream(answer: Answer, scope: Scope) -> bool:
    """Whether the answer to a request is sent from a file, and so needs a turn."""
    if answer.blob is None or answer.wire or scope["method"] != "GET":
        return False
    return for_request(answer, scope["headers"], scope["method"]).length > 0


class Sender:
    """Sends answers of one process.

    Args:
        store: of the blobs.
        repair: gets blobs that are damaged.
        streams: how many bodies are sent at once.
        redirects: lead clients to the store itself for streams, where it gives links.
    """

    def __init__(
        self, store: BlobStore, repair: Repair, streams: Streams, *, redirects: bool = False
    ) -> None:
        self._redirects = redirects
        self._store = store
        self._repair = repair
        self._streams = streams

    async def open(self, digest: Digest, size_bytes: int) -> OpenBlob:
        """Open a blob whose bytes are known to be right.

        Raises:
            StorageError: it is damaged, and is being fetched again.
        """
        try:
            return await self._store.open(digest, size_bytes)
        except (BlobMissingError, BlobDamagedError) as error:
            if not await self._repair.suspect(digest, size_bytes, str(error)):
                # Spoilt on its way from S3, or healed meanwhile: the bytes are right.
                with suppress(BlobMissingError, BlobDamagedError):
                    return await self._store.open(digest, size_bytes)
            raise StorageError(
                "the stored file was found damaged and is being fetched again; try again shortly"
            ) from error

    def turn(self, who: str) -> AbstractAsyncContextManager[None]:
        """Return a context for sending a stream; wait for a turn.

        Args:
            who: the tenant or the address whose share of the streams is used.

        Raises:
            OverloadedError: no turn came in time.
        """
        return self._streams.turn(who)

    async def send(
        self,
        answer: Answer,
        scope: Scope,
        receive: Receive,
        send: Send,
        blob: OpenBlob | None = None,
    ) -> tuple[int, int]:
        """Send an answer; return the status and how many bytes of body went out.

        Where `is_stream` says so, the caller holds a `turn` meanwhile.

        Args:
            answer: what to send.
            scope: of the request.
            receive: ASGI's.
            send: ASGI's.
            blob: the answer's blob, where the caller has opened it; the caller closes it.
        """
        answer = in_coding(answer, scope["headers"])
        if answer.status >= 400 and (trace := logs.trace_id.get()):
            answer = with_trace(answer, trace)
        part = for_request(answer, scope["headers"], scope["method"])
        wants_body = scope["method"] != "HEAD" and part.length > 0
        if answer.blob is None or answer.wire or not wants_body:
            body = _in_memory(answer, part) if wants_body else b""
            await send(_start(part))
            await send({"type": "http.response.body", "body": body})
            return part.status, len(body)
        return await self._send_blob(answer, answer.blob, part, scope, receive, send, blob)

    async def _send_blob(
        self,
        answer: Answer,
        digest: Digest,
        part: Slice,
        scope: Scope,
        receive: Receive,
        send: Send,
        opened: OpenBlob | None,
    ) -> tuple[int, int]:
        try:
            blob = opened or await self.open(digest, answer.size_bytes)
            try:
                if self._may_redirect(answer, scope):
                    link = await self._store.link(digest, _LINK_S)
                    if link is not None:
                        return await self.send(_found(link), scope, receive, send)
                await send(_start(part))
                sent = await self._streams.send(blob, part.start, part.length, scope, receive, send)
            except StorageError as error:
                await self._look_at_cut(digest, answer.size_bytes, error)
                return part.status, 0
            finally:
                if opened is None:
                    blob.close()
        except MoorageError as error:  # from opening: nothing was sent yet
            return await self.send(error_answer(error), scope, receive, send)
        return part.status, sent

    def _may_redirect(self, answer: Answer, scope: Scope) -> bool:
        """Whether a client is led to the store: not for small bodies, and nodes go nowhere else."""
        return (
            self._redirects
            and answer.size_bytes > _IN_MEMORY_BYTES
            and not any(
                name == b"user-agent" and value.startswith(_NODES)
                for name, value in scope["headers"]
            )
        )

    async def _look_at_cut(self, digest: Digest, size_bytes: int, error: StorageError) -> None:
        """Look at a blob whose sending had to be cut; nothing can be answered any more."""
        _log.error("download cut", digest=digest.hex, error=str(error))
        try:
            await self._repair.suspect(digest, size_bytes, str(error))
        except MoorageError as trouble:
            _log.error("blob not looked at", digest=digest.hex, error=str(trouble))


def _found(link: str) -> Answer:
    """Return a redirect to a link that ends soon: nobody may keep it."""
    headers = (
        (b"location", link.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"content-length", b"0"),
    )
    return Answer(302, headers, 0)


def _in_memory(answer: Answer, part: Slice) -> bytes:
    """Return the part of a body that is in memory: by itself, or at the end of the wire form."""
    if answer.blob is None:
        return answer.body
    start = len(answer.wire) - answer.size_bytes + part.start
    return answer.wire[start : start + part.length]


def _start(part: Slice) -> Message:
    """Return the message that begins a response; its request id is that of the log line."""
    request_id = logs.request_id.get()
    if request_id is None:
        return {"type": _START, "status": part.status, "headers": part.headers}
    headers = (*part.headers, (b"x-request-id", request_id.encode()))
    return {"type": _START, "status": part.status, "headers": headers}
