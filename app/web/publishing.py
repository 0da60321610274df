"""`PUT /goproxy/<tenant>/<module>/@v/<version>.zip`: publishing a version. Plain ASGI, streamed.

201 says that the version is published, 200 that the same bytes were published before. Everything
else is one line of text and the end of the connection: the rest of the upload is dropped.
"""

from secrets import token_hex

from app import logs, metrics
from app.core.errors import BadInputError, MoorageError
from app.core.goproxy import RequestKind, parse_path
from app.core.principal import ANONYMOUS
from app.metrics import hotpath
from app.services.authorization import token_wanted
from app.services.modules.publishing import LIMIT, Published, Publishing
from app.services.modules.uploads import Upload
from app.web.admission import Admission
from app.web.requestbody import declared_bytes, pieces_of
from app.web.responses import Answer, Header, error_answer, plain
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways

METHOD = "PUT"
_log = logs.get("publishing")


class PublishingApp:
    """The ASGI application of uploads."""

    def __init__(
        self,
        publishing: Publishing,
        admission: Admission,
        gateways: Gateways,
    ) -> None:
        self._publishing = publishing
        self._admission = admission
        self._gateways = gateways

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one upload."""
        request_id = token_hex(8)
        reset = logs.request_id.set(request_id)
        try:
            try:
                answer = _success(await self._publish(scope, receive))
            except MoorageError as error:
                metrics.count_publication(type(error).__name__)
                _log.warning("module not published", path=scope["path"][:300], error=str(error))
                refusal = error_answer(error)
                answer = plain(
                    refusal.status, str(error), *_kept(refusal), (b"connection", b"close")
                )
            headers = (*answer.headers, (b"x-request-id", request_id.encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            await send({"type": "http.response.body", "body": answer.body})
            hotpath.count_request("goproxy", METHOD, answer.status, len(answer.body))
        finally:
            logs.request_id.reset(reset)

    async def _publish(self, scope: Scope, receive: Receive) -> Published:
        peer = scope["client"][0] if scope.get("client") else ""
        client = self._gateways.client_behind(peer, scope["headers"])
        caller, path = await self._admission.admit(scope, peer, client)
        if caller.principal is ANONYMOUS:
            raise token_wanted(path.tenant)
        request = parse_path(path.rest)
        if request.kind is not RequestKind.ZIP:
            raise BadInputError("what is published is a zip: PUT <module>/@v/<version>.zip")
        return await self._publishing.publish(
            Upload(
                who=caller.principal,
                tenant=caller.tenant,
                module=request.module,
                version=request.version,
                pieces=pieces_of(receive, LIMIT),
                declared_bytes=declared_bytes(scope["headers"]),
            )
        )


def _success(published: Published) -> Answer:
    return plain(201 if published.is_new else 200, published.line)


def _kept(refusal: Answer) -> list[Header]:
    return [field for field in refusal.headers if field[0] in (b"www-authenticate", b"retry-after")]
