"""Requests of a GOPROXY's protocol outside `/goproxy/`: one line of text with the right address.

A GOPROXY without its path, or with a wrong one, is a mistake that `go` shows to a person. The
status is 400: after a 404 `go` asks the next proxy of its list, or the repository itself.
"""

import re

from app.core import urlpath
from app.core.errors import BadInputError, MoorageError
from app.metrics import hotpath
from app.services.policy import Policy, PolicyReader
from app.web.responses import Answer, Header, error_answer, plain
from app.web.streaming import Scope, Send

_ENDPOINT = re.compile(
    rb"/[^?]*?/@v/[^/]+|/[^?]*?/@latest"
    rb"|(?:/[^/]+)*?/sumdb/[^/]+/(?:supported|latest|(?:lookup|tile)/.+)"
)
_NOT_OURS = b"/api/"
_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}", re.ASCII)
_PAGES = frozenset({"dl", "go", "sumdb"})
_ANY = "<tenant>"


def is_misaddressed(path: bytes) -> bool:
    """Whether a path that is not below "/goproxy/" is one that a client of a GOPROXY asks for.

    Args:
        path: as it came: b"/example.com/x/@v/list", b"/acme/example.com/x/%40latest".
    """
    if path.startswith(_NOT_OURS):
        return False
    try:
        return _ENDPOINT.fullmatch(urlpath.decode(path)) is not None
    except BadInputError:
        return False


class WrongAddress:
    """The ASGI application of paths that `is_misaddressed` accepts.

    Args:
        policies: whose tenants the line may name.
        public_url: scheme, host and port as clients see them; None takes those of the request.
    """

    def __init__(self, policies: PolicyReader, public_url: str | None) -> None:
        self._policies = policies
        self._public_url = public_url

    async def __call__(self, scope: Scope, send: Send) -> None:
        """Answer one request."""
        answer = await self._answer(scope)
        body = b"" if scope["method"] == "HEAD" else answer.body
        start = {"type": "http.response.start", "status": answer.status, "headers": answer.headers}
        await send(start)
        await send({"type": "http.response.body", "body": body})
        hotpath.count_request("goproxy", scope["method"], answer.status, len(body))

    async def _answer(self, scope: Scope) -> Answer:
        try:
            tenant = _tenant(scope["raw_path"], await self._policies.current())
        except MoorageError as error:
            return error_answer(error)
        base = self._public_url or _base_url(scope)
        line = f"this is not the address of a GOPROXY: set GOPROXY={base}/goproxy/{tenant}"
        return plain(400, line + (" with your tenant's name" if tenant == _ANY else ""))


def _tenant(path: bytes, policy: Policy) -> str:
    """Return the open tenant that a path begins with, else the only one that is open.

    Tenants that need a token are not told apart from those that do not exist.
    """
    tenants = [one.tenant for one in policy.tenants.values()]
    names = [tenant.name for tenant in tenants if tenant.anonymous_read and tenant.enabled]
    first = path.removeprefix(b"/").partition(b"/")[0].decode("ascii", "replace")
    if first in names:
        return first
    is_module = "." in first or first in _PAGES  # else it may be a tenant's name
    return names[0] if is_module and len(names) == 1 else _ANY


def _base_url(scope: Scope) -> str:
    headers: list[Header] = scope["headers"]
    host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1")
    return f"{scope['scheme']}://{host}" if _HOST.fullmatch(host) else "https://<this host>"
