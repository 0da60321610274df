"""`/`: the page for people who come here first. Plain ASGI; asks no upstream.

A page is prepared once for each address by which people reach the service, and again after a change
of the releases or of the tenant that it names.
"""

import asyncio
from collections.abc import Mapping
from functools import partial

from cachetools import LRUCache

from app.core.errors import BadInputError, MoorageError
from app.metrics import hotpath
from app.services.flight import Flight
from app.services.policy import Policy, PolicyReader
from app.services.publiclog.relay import LogRelay
from app.services.releases.catalog import Catalog, CatalogReader
from app.services.tenants.clients import PublicConfig, public_config
from app.web.homepage import home_page
from app.web.pageshell import page_answer
from app.web.responses import LISTING, Answer, error_answer, plain
from app.web.sending import Sender
from app.web.streaming import Receive, Scope, Send

PATH = b"/"
_METHODS = ("GET", "HEAD")
_MAX_PAGES = 16
_EXAMPLE_URL = "https://moorage.example"
_Key = tuple[int, PublicConfig]


class Home:
    """The ASGI application of `/`.

    Args:
        catalog: of the releases.
        policies: of the tenants.
        relays: public logs by name.
        sender: sends the page.
        public_url: scheme, host and port as clients see them; None takes those of the request.
    """

    def __init__(
        self,
        catalog: CatalogReader,
        policies: PolicyReader,
        relays: Mapping[str, LogRelay],
        sender: Sender,
        public_url: str | None,
    ) -> None:
        self._catalog = catalog
        self._policies = policies
        self._relays = relays
        self._sender = sender
        self._public_url = public_url
        self._pages: LRUCache[_Key, Answer] = LRUCache(_MAX_PAGES)
        self._making: Flight[_Key, Answer] = Flight()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        method = scope["method"]
        try:
            if method in _METHODS:
                answer = await self._page(scope)
            else:
                answer = plain(405, "only GET and HEAD are answered", (b"allow", b"GET, HEAD"))
        except MoorageError as error:
            answer = error_answer(error)
        status, sent = await self._sender.send(answer, scope, receive, send)
        hotpath.count_request("home", method, status, sent)

    async def _page(self, scope: Scope) -> Answer:
        catalog, policy = await self._catalog.current(), await self._policies.current()
        key = (catalog.generation, self._public(policy, scope))
        answer = self._pages.get(key)
        if answer is None:
            work = partial(asyncio.to_thread, _made, catalog, key[1])
            answer = await self._making.do(key, work)
            self._pages[key] = answer
        return answer

    def _public(self, policy: Policy, scope: Scope) -> PublicConfig:
        hosts = (value for name, value in scope["headers"] if name == b"host")
        host = next(hosts, b"").decode("latin-1").lower()
        name = host.rsplit(":", 1)[0]
        base_url = self._public_url or f"{scope['scheme']}://{host}"
        try:
            return public_config(policy, self._relays, base_url, name)
        except BadInputError:  # a Host that no client could be given
            return public_config(policy, self._relays, _EXAMPLE_URL, name)


def _made(catalog: Catalog, public: PublicConfig) -> Answer:
    # The address comes from the Host, which is a part of every cache's key.
    return page_answer(home_page(catalog, public), LISTING)
