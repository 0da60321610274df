"""`/v2/`: Go releases as container images, by the OCI distribution-spec; for pulling only.

Plain ASGI: a layer is sent as an archive below `/dl/` is, and from the same blob. Errors are the
spec's JSON. Not here: the documents (`core/containerimage`), who may pull (`pulling`).
"""

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from urllib.parse import parse_qs, urlencode

from app import logs
from app.core.containerimage import VERDICT_TYPE, ImageDocument, referrers_index
from app.core.containertag import (
    NAME,
    RegistryCode,
    RegistryError,
    RegistryKind,
    RegistryRequest,
    parse_path,
)
from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    DeniedError,
    MoorageError,
    OverloadedError,
    RateLimitedError,
    UnauthenticatedError,
)
from app.core.urlpath import decode
from app.core.withdrawal import gone
from app.metrics import hotpath
from app.services.releases.images import ImageSet, ReleaseImages
from app.web.hotcache import HotCache
from app.web.judging import Judge
from app.web.plainhead import PlainHead
from app.web.pulling import Puller, PullingDoor
from app.web.requestline import request_line
from app.web.responses import (
    IMMUTABLE,
    LISTING,
    NO_STORE,
    Answer,
    Header,
    body_answer,
    file_answer,
    made_private,
    retry_after_s,
    status_of,
)
from app.web.sending import Sender
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways, client_block

PREFIX = b"/v2/"
ROOTS = (b"/v2",)

_JSON = b"application/json"
_BLOB = b"application/octet-stream"
_VERSION = (b"docker-distribution-api-version", b"registry/2.0")
_METHODS = ("GET", "HEAD")
_FILTERED = (b"oci-filters-applied", b"artifactType")
_MOST_TAGS = 10_000
_log = logs.get("containers")


@dataclass(frozen=True, slots=True)
class _Prepared:
    """An answer, and whether it may be kept under the path alone."""

    answer: Answer
    is_public: bool = True
    is_kept: bool = True


class ContainerRegistry:
    """The ASGI application of `/v2/`.

    Args:
        images: the images of the served archives.
        door: says who may pull, and which channels are tags for whom.
        sender: sends the answers.
        gateways: whose X-Forwarded-For is believed.
        public_url: scheme, host and port as clients see them; None for the request's own.
    """

    def __init__(
        self,
        images: ReleaseImages,
        door: PullingDoor,
        sender: Sender,
        gateways: Gateways,
        *,
        public_url: str | None,
    ) -> None:
        self._images = images
        self._door = door
        self._sender = sender
        self._gateways = gateways
        self._public_url = public_url
        self._hot: HotCache[Answer] = HotCache(
            size_of=lambda answer: answer.memory_bytes,
            since=lambda _: max(images.changed_at, door.changed_at),
        )
        self._judge = Judge(
            sender,
            generation=lambda: images.generation,
            since=lambda: max(images.changed_at, door.changed_at, door.admits_since),
        )

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        """Return the prepared answer to a plain GET, without any await; None where there is none.

        Args:
            url: path and query as they came over the wire.
            head: of the request.
        """
        answer = self._hot.get(url)
        if answer is None or not answer.wire or head.is_conditional:
            return None
        hotpath.count_hot(hit=True)
        hotpath.count_request("containers", "GET", 200, answer.size_bytes)
        return answer.wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        key = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        answer = self._hot.get(key) if scope["method"] in _METHODS else None
        hotpath.count_hot(hit=answer is not None)
        if answer is not None and answer.blob is None:
            status, sent = await self._sender.send(answer, scope, receive, send)
        else:
            status, sent = await self._send_logged(answer, key, scope, receive, send)
        hotpath.count_request("containers", scope["method"], status, sent)

    async def _send_logged(
        self, answer: Answer | None, key: bytes, scope: Scope, receive: Receive, send: Send
    ) -> tuple[int, int]:
        """Answer, and log it under a request id: all but small hits, which are only counted."""
        peer = scope["client"][0] if scope.get("client") else ""
        client = self._gateways.client_behind(peer, scope["headers"])
        block, blob = client_block(client), None
        with request_line(_log, scope, client) as line:
            try:
                async with AsyncExitStack() as turns:
                    try:
                        # The blob is opened here: a damaged one is told in the registry's JSON.
                        answer, blob = await self._judge.ready(
                            answer, partial(self._decide, scope, key, block), scope, turns, block
                        )
                    except (MoorageError, RegistryError) as error:
                        answer = self._refusal(error, scope)
                    sent = await self._sender.send(answer, scope, receive, send, blob)
            finally:
                if blob is not None:
                    blob.close()
            line.status, line.sent_bytes = sent
        return sent

    async def _decide(self, scope: Scope, key: bytes, client: str) -> tuple[Answer, None]:
        return await self._answer(key, scope, client), None

    async def _answer(self, key: bytes, scope: Scope, client: str) -> Answer:
        """Return the answer, kept for the next request.

        Raises:
            MoorageError: the caller may not pull, or the answer can't be had now.
            RegistryError: there is no such thing.
        """
        request = parse_path(decode(scope["raw_path"]).decode())
        if scope["method"] not in _METHODS:
            raise RegistryError(405, RegistryCode.UNSUPPORTED, "this registry is for pulling only")
        if request.kind is RegistryKind.TOKEN:
            return await self._token(scope, client)
        puller = await self._door.enter(scope["headers"], client)
        if not puller.is_anonymous:
            key = puller.key + key
            answer = self._hot.get(key)
            if answer is not None:
                return answer
        images = await self._images.current()
        generation = self._images.generation
        prepared = await self._prepare(request, images, puller, scope)
        answer = prepared.answer
        if not (prepared.is_public and self._door.is_open):
            answer = made_private(answer)
        # Under any other spelling or query a client could fill the cache with copies.
        is_plain = b"%" not in scope["raw_path"] and not scope["query_string"]
        if is_plain and prepared.is_kept and (prepared.is_public or not puller.is_anonymous):
            self._hot.put(key, generation, answer)
        return answer

    async def _prepare(
        self, request: RegistryRequest, images: ImageSet, puller: Puller, scope: Scope
    ) -> _Prepared:
        query: bytes = scope["query_string"]
        if request.kind is RegistryKind.PING:
            await self._door.ping(puller, scope["headers"])
            return _Prepared(body_answer(b"{}", _JSON, NO_STORE, _VERSION), is_kept=False)
        if request.kind is RegistryKind.TAGS:
            return await self._tags(images, puller, query)
        if request.kind is RegistryKind.MANIFEST and request.digest is None:
            return await self._tagged(request.tag, images, puller)
        digest = request.digest
        if digest is None:
            raise AssertionError(f"{request.kind} without a digest")
        if request.kind is RegistryKind.REFERRERS:
            return _Prepared(_referrers(images, digest, query))
        if request.kind is RegistryKind.BLOB:
            answer = _blob(images, digest) or _blob(await self._look_again(), digest)
            if answer is None:
                _raise_if_gone(images, digest, RegistryCode.BLOB_UNKNOWN)
                raise RegistryError(404, RegistryCode.BLOB_UNKNOWN, f"there is no blob {digest}")
            return _Prepared(answer)
        manifest = images.manifests.get(digest) or (await self._look_again()).manifests.get(digest)
        if manifest is None:
            _raise_if_gone(images, digest, RegistryCode.MANIFEST_UNKNOWN)
            raise RegistryError(404, RegistryCode.MANIFEST_UNKNOWN, f"there is no {NAME}@{digest}")
        return _Prepared(_document_answer(manifest, IMMUTABLE))

    async def _look_again(self) -> ImageSet:
        """Return the images as they are now: another process may have handed a digest out."""
        return await self._images.current(fresh=True)

    async def _tagged(self, tag: str, images: ImageSet, puller: Puller) -> _Prepared:
        version, is_public = images.tags.get(tag), True
        if version is None:
            version, is_public = await self._door.release_of(tag, puller)
        index = None if version is None else await self._images.index(version)
        if index is None:
            _raise_if_gone(images, tag, RegistryCode.MANIFEST_UNKNOWN)
            release = version or f"go{tag}"
            raise RegistryError(
                404,
                RegistryCode.MANIFEST_UNKNOWN,
                f"there is no {NAME}:{tag} here: a release has a tag once a Linux archive of it is "
                f"mirrored (`moorage releases sync {release}`), and a channel once it is set",
            )
        return _Prepared(_document_answer(index, LISTING), is_public=is_public)

    async def _tags(self, images: ImageSet, puller: Puller, query: bytes) -> _Prepared:
        channels, is_public = await self._door.channels(images.indexes, puller)
        tags = sorted({*images.tags, *channels} - images.unlisted)
        fields = parse_qs(query.decode("ascii", "ignore"), keep_blank_values=True)
        last = fields.get("last", [""])[-1]
        page = [tag for tag in tags if tag > last]
        most = _number(fields.get("n", [""])[-1])
        extra: tuple[Header, ...] = ()
        if most is not None and most < len(page):
            page = page[:most]
            if page:
                more = urlencode({"n": most, "last": page[-1]})
                link = f'</v2/{NAME}/tags/list?{more}>; rel="next"'
                extra = ((b"link", link.encode()),)
        body = json.dumps({"name": NAME, "tags": page}).encode()
        return _Prepared(body_answer(body, _JSON, LISTING, *extra), is_public=is_public)

    async def _token(self, scope: Scope, client: str) -> Answer:
        """Return the token that a client is to present: the one that it has sent by Basic."""
        token = await self._door.token(scope["headers"], client)
        body = json.dumps({"token": token, "access_token": token, "expires_in": 300}).encode()
        return body_answer(body, _JSON, NO_STORE)

    def _refusal(self, error: MoorageError | RegistryError, scope: Scope) -> Answer:
        """Return an error in the registry's JSON."""
        if isinstance(error, RegistryError):
            allow = ((b"allow", b"GET, HEAD"),) if error.status == 405 else ()
            return _error_answer(error.status, error.code, str(error), *allow)
        status = status_of(error)
        if isinstance(error, UnauthenticatedError):
            extra = (_VERSION, (b"www-authenticate", self._challenge(scope)))
            return _error_answer(status, RegistryCode.UNAUTHORIZED, str(error), *extra)
        retry = retry_after_s(error)
        wait = () if retry is None else ((b"retry-after", b"%d" % retry),)
        return _error_answer(status, _code(error), str(error), *wait)

    def _challenge(self, scope: Scope) -> bytes:
        headers: list[Header] = scope["headers"]
        host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
        base = self._public_url or f"{scope['scheme']}://{host}"
        service = base.partition("://")[2]
        return (
            f'Bearer realm="{base}/v2/token",service="{service}",scope="repository:{NAME}:pull"'
        ).encode("latin-1")


def _raise_if_gone(images: ImageSet, name: str | Digest, code: RegistryCode) -> None:
    """Return unless a tag, a layer or a manifest is of a release that was withdrawn for good.

    Raises:
        RegistryError: it is.
    """
    withdrawal = images.gone.get(name)
    if withdrawal is not None:
        error = gone(withdrawal)
        raise RegistryError(status_of(error), code, str(error))


def _document_answer(document: ImageDocument, caching: bytes) -> Answer:
    digest = (b"docker-content-digest", f"sha256:{document.digest}".encode())
    return body_answer(document.body, document.media_type.encode(), caching, digest)


def _blob(images: ImageSet, digest: Digest) -> Answer | None:
    extra = (b"docker-content-digest", f"sha256:{digest}".encode())
    record = images.layers.get(digest)
    if record is not None:
        stored_at = record.ingested_at or record.first_seen_at
        return file_answer(digest, record.file.size_bytes, _BLOB, stored_at, extra)
    document = images.blobs.get(digest)
    return None if document is None else body_answer(document.body, _BLOB, IMMUTABLE, extra)


def _referrers(images: ImageSet, digest: Digest, query: bytes) -> Answer:
    """Return the list of what refers to a manifest; an empty one for every other digest."""
    fields = parse_qs(query.decode("ascii", "ignore"))
    wanted_type = fields.get("artifactType", [""])[-1]
    artifact = images.referrers.get(digest)
    is_listed = artifact is not None and wanted_type in ("", VERDICT_TYPE)
    index = referrers_index([artifact] if artifact is not None and is_listed else [])
    extra = (_FILTERED,) if wanted_type else ()
    return body_answer(index.body, index.media_type.encode(), LISTING, *extra)


def _number(text: str) -> int | None:
    """Return the number of tags that a client asks for; None for all.

    Raises:
        RegistryError: it is not a number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        code = RegistryCode.PAGINATION_NUMBER_INVALID
        raise RegistryError(400, code, "n is a number of tags, 0 or more")
    return min(int(text), _MOST_TAGS)


def _code(error: MoorageError) -> RegistryCode:
    if isinstance(error, DeniedError):
        return RegistryCode.DENIED
    if isinstance(error, RateLimitedError | OverloadedError):
        return RegistryCode.TOO_MANY_REQUESTS
    if isinstance(error, BadInputError):
        return RegistryCode.NAME_INVALID
    return RegistryCode.UNAVAILABLE


def _error_answer(status: int, code: RegistryCode, message: str, *extra: Header) -> Answer:
    content = {"errors": [{"code": code, "message": message, "detail": {}}]}
    body = json.dumps(content).encode()
    headers = (
        (b"content-type", _JSON),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", NO_STORE),
        (b"x-content-type-options", b"nosniff"),
        *extra,
    )
    return Answer(status, headers, len(body), body=body)
