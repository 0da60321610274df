"""The listener of operators' tools (`metrics.port`): health and metrics in plain HTTP.

The other listener's limits on connections do not hold here, so that metrics are read when it is
full, and neither does its TLS: a probe needs no client certificate.
"""

from app.settings import Limits
from app.web.connections import Connections, is_health
from app.web.plainhead import PlainHead
from app.web.responses import Header, plain
from app.web.streaming import AsgiApp, Receive, Scope, Send
from app.web.tenancy import Gateways

_CONNECTIONS = 64


class OperatorsApp:
    """The ASGI application of that listener, and what its connections need of it.

    Args:
        admin: answers what is about health.
        limits: how long clients may take.
    """

    def __init__(self, admin: AsgiApp, limits: Limits) -> None:
        self._admin = admin
        self.limits = limits
        self.connections = Connections(2 * _CONNECTIONS, _CONNECTIONS, Gateways(()))

    def plain_head(self, headers: list[Header], peer: str) -> PlainHead | None:
        """Return None: nothing is prepared here."""
        return None

    def instant(self, url: bytes, head: PlainHead) -> bytes | None:
        """Return None, too."""
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request about health; anything else is unknown here."""
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        if is_health(scope["raw_path"]):
            await self._admin(scope, receive, send)
            return
        line = "this listener has /metrics, /healthz, /readyz and /version alone"
        answer = plain(404, line)
        await send({"type": "http.response.start", "status": 404, "headers": answer.headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})
