"""The span of a request that is not answered from memory, around the ASGI app that answers it."""

from app import tracing
from app.web.streaming import AsgiApp, Message, Receive, Scope, Send

_SURFACES = frozenset({"goproxy", "dl", "go", "v2", "fleet", "api", "hooks"})
_CHECK_IN = "/fleet/v1/check"


async def traced(app: AsgiApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an app answer a request within the request's trace; only while tracing is on."""
    method, path = scope["method"], scope["path"]
    surface = path.split("/", 2)[1]
    name = f"{method} /{surface}" if surface in _SURFACES else method
    # Nodes check in by the thousand and all sample their traces: the share of samples decides.
    follows = path != _CHECK_IN
    with tracing.request(
        scope["headers"],
        name,
        follows=follows,
        http__request__method=method,
        url__path="/hooks/" if surface == "hooks" else path[:500],  # the URL is a secret
    ) as span:

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = message["status"]
                span.set(http__response__status_code=status)
                if status >= 500:
                    span.fail(f"status {status}")
            await send(message)

        await app(scope, receive, noting)
