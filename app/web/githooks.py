"""`POST /hooks/git/<tenant>/<secret>`: a git host says that somebody pushed. Plain ASGI.

The URL holds a secret: no log, trace or answer has its path. The body is read only for a URL that
is right, and is never longer than `LIMIT`.
"""

import re
from secrets import token_hex

from app import logs
from app.core.errors import MoorageError, OverloadedError, UnauthenticatedError, UnknownError
from app.core.githook import LIMIT
from app.metrics import hotpath
from app.services.memory import MemoryBudget
from app.services.modules.githooks import GitHooks
from app.web.limits import WrongTokens
from app.web.requestbody import declared_bytes, pieces_of
from app.web.responses import Answer, error_answer, plain
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways, client_block

PREFIX = b"/hooks/"
_PATH = re.compile(rb"/hooks/git/([a-z0-9][a-z0-9-]{0,62})/([0-9a-f]{32})", re.ASCII)
_log = logs.get("githooks")


class GitHooksApp:
    """The ASGI application of hooks."""

    def __init__(
        self, hooks: GitHooks, memory: MemoryBudget, gateways: Gateways, wrong_tokens: WrongTokens
    ) -> None:
        self._hooks = hooks
        self._memory = memory
        self._gateways = gateways
        self._wrong_tokens = wrong_tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one message."""
        reset = logs.request_id.set(token_hex(8))
        try:
            answer = await self._answer(scope, receive)
            await send(
                {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
            )
            await send({"type": "http.response.body", "body": answer.body})
            hotpath.count_request("hooks", scope["method"], answer.status, len(answer.body))
        finally:
            logs.request_id.reset(reset)

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        peer = scope["client"][0] if scope.get("client") else ""
        client = self._gateways.client_behind(peer, scope["headers"])
        end = (b"connection", b"close")
        if scope["method"] != "POST":
            return plain(405, "only POST is answered here", (b"allow", b"POST"), end)
        try:
            try:
                line = await self._take(scope, receive, client)
            except UnauthenticatedError:
                self._wrong_tokens.count(client)
                raise
        except MoorageError as error:
            _log.warning("message not taken", client=client, error=str(error))
            # No challenge: a git host has no password to ask somebody for.
            status = 401 if isinstance(error, UnauthenticatedError) else error_answer(error).status
            return plain(status, str(error), end)
        return plain(200, line)

    async def _take(self, scope: Scope, receive: Receive, client: str) -> str:
        match = _PATH.fullmatch(scope["raw_path"])
        if match is None:
            raise UnknownError("a hook's URL is /hooks/git/<tenant>/<secret>")
        tenant, presented = (part.decode("ascii") for part in match.groups())
        secret = await self._hooks.secret_of(tenant, presented)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        who, held = client_block(client), 0
        LIMIT.check(declared_bytes(scope["headers"]))
        body = bytearray()
        try:
            async for piece in pieces_of(receive, LIMIT):
                if piece and not self._memory.take(len(piece), who):
                    raise OverloadedError("too many messages are under way here; send it again")
                held += len(piece)
                body += piece
            push, count = await self._hooks.receive(tenant, secret, headers, bytes(body))
        finally:
            self._memory.give_back(held, who)
        if not push.repository:
            return f"nothing to do for {push.event!a}"
        return f"{push.repository}: {count} upstreams are asked anew"
