"""What answers each part of the URL space, made once for a process from its services.

Go-facing paths go straight to their plain ASGI apps, the rest to FastAPI: mounted inside FastAPI
the same downloads would answer half as many requests.
"""

from dataclasses import dataclass
from random import Random

from app.services.assembly import Services
from app.web.admin.app import create_admin, refused
from app.web.admin.context import Backend, Callers, operator_of
from app.web.admission import Admission, TenantDefaults
from app.web.channelfiles import ChannelDoor
from app.web.connections import HEALTH
from app.web.containers import PREFIX as IMAGES
from app.web.containers import ROOTS as IMAGE_ROOTS
from app.web.containers import ContainerRegistry
from app.web.downloadrequest import ROOT_LISTS
from app.web.downloads import Downloads
from app.web.fleet import PREFIX as FLEET
from app.web.fleet import FleetApp
from app.web.githooks import PREFIX as HOOKS
from app.web.githooks import GitHooksApp
from app.web.goproxy import GoproxyApp
from app.web.guard import Guard
from app.web.health import Health
from app.web.home import PATH as HOME
from app.web.home import Home
from app.web.limits import AdminRates, NodeRates, WrongTokens
from app.web.plainhead import PlainHead, plain_head
from app.web.publishing import METHOD as PUT
from app.web.publishing import PublishingApp
from app.web.pulling import PullingDoor
from app.web.responses import Header, plain
from app.web.sending import Sender
from app.web.streaming import AsgiApp, Receive, Scope, Send, Streams
from app.web.tenancy import PREFIX, Gateways
from app.web.wrongaddress import WrongAddress, is_misaddressed

_DOWNLOADS = (b"/dl/", b"/go/")
_DOWNLOAD_ROOTS = (b"/dl", b"/go", *ROOT_LISTS)
_METRICS = b"/metrics"
_READING = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What several surfaces share, so that a limit counts the same client once."""

    gateways: Gateways
    sender: Sender
    wrong_tokens: WrongTokens
    admission: Admission


class Surfaces:
    """The surfaces of one process, and which of them answers a request.

    Args:
        services: of this process.
        gateways: the proxies whose word about a client's address counts.
        health: answers for liveness and readiness; while the start waits, it alone does.

    Attributes:
        admin: FastAPI's app: the admin API, health and metrics, the pages of the documentation.
        goproxy, downloads, images, home: the apps of tenants, of /dl/ and /go/, of /v2/, of /.
    """

    def __init__(self, services: Services, gateways: Gateways, health: Health) -> None:
        settings = services.shared.settings
        limits = settings.limits
        parts = _parts(services, gateways)
        self._gateways = gateways
        self._health = health
        self._has_metrics = settings.metrics.port is None
        self._guard = Guard(limits)
        self.downloads = _downloads(services, parts)
        self.images = _images(services, parts)
        self.goproxy = _goproxy(services, parts)
        self._publishing = PublishingApp(services.sumdb.publishing, parts.admission, gateways)
        self._git_hooks = GitHooksApp(
            services.modules.git_hooks, services.modules.memory, gateways, parts.wrong_tokens
        )
        self._fleet = _fleet(services, parts)
        self.home = Home(
            services.releases.catalog,
            services.shared.policies,
            services.publiclog.relays,
            parts.sender,
            settings.public_url,
        )
        self._wrong_address = WrongAddress(services.shared.policies, settings.public_url)
        rates = AdminRates(limits.admin_token_rate, limits.admin_address_rate)
        callers = Callers(gateways, rates, parts.wrong_tokens)
        self.admin: AsgiApp = create_admin(Backend(services, callers, health))

    def flush_decisions(self) -> None:
        """Write the decision records that are still counted together."""
        self.goproxy.decisions.flush()

    def plain_head(self, headers: list[Header], peer: str) -> PlainHead | None:
        """Return what `instant` needs of the headers of plain GETs; None: they are refused."""
        return plain_head(headers, peer, self._guard, self._gateways)

    def instant(self, url: bytes, head: PlainHead, trace: str | None = None) -> bytes | None:
        """Return what follows status line and Date of the answer to a plain GET, or None.

        None says nothing of the answer: `__call__` has it. trace: the id of the request's trace,
        for its line in the log.
        """
        if self._guard.refuses_url(url) is not None:
            return None
        if url.startswith(PREFIX):
            return self.goproxy.instant(url, head, trace)
        if url.startswith(_DOWNLOADS):
            return self.downloads.instant(url, head)
        return self.images.instant(url, head) if url.startswith(IMAGES) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        # The operator's requests come from this process, not from a stranger: no size is too large.
        refusal = self._guard.refusal(scope) if operator_of(scope) is None else None
        path: bytes = scope["raw_path"]
        if self._health.waiting is not None and path not in HEALTH:
            subject = self._health.waiting.subject
            refusal = (503, f"the start waits for the {subject}; /readyz says why")
            await _send_refusal(refusal, scope["method"], send)
            return
        is_download = path.startswith(_DOWNLOADS) or path in _DOWNLOAD_ROOTS
        is_goproxy = path.startswith(PREFIX) or path == PREFIX[:-1]
        is_image = path.startswith(IMAGES) or path in IMAGE_ROOTS
        is_elsewhere = not is_goproxy and not is_image
        is_misled = is_elsewhere and scope["method"] in _READING and is_misaddressed(path)
        is_fleet = path.startswith(FLEET)
        if refusal is not None and (is_download or is_goproxy or is_image or is_misled or is_fleet):
            await _send_refusal(refusal, scope["method"], send)
        elif refusal is not None:
            await refused(*refusal)(scope, receive, send)
        elif is_misled:
            await self._wrong_address(scope, send)
        elif is_download:
            await self.downloads(scope, receive, send)
        elif path.startswith(HOOKS):
            await self._git_hooks(scope, receive, send)
        elif is_goproxy:
            app = self._publishing if scope["method"] == PUT else self.goproxy
            await app(scope, receive, send)
        elif is_image:
            await self.images(scope, receive, send)
        elif path == HOME:
            await self.home(scope, receive, send)
        elif is_fleet:
            await self._fleet(scope, receive, send)
        elif path == _METRICS and not self._has_metrics:
            line = "the metrics are on a listener of their own (MOORAGE_METRICS__PORT)"
            await _send_refusal((404, line), scope["method"], send)
        else:
            await self.admin(scope, receive, send)


def _parts(services: Services, gateways: Gateways) -> _Parts:
    shared = services.shared
    settings, limits = shared.settings, shared.settings.limits
    wrong_tokens = WrongTokens(limits.bad_tokens)
    wait_s = float(limits.stream_wait_s)
    defaults = TenantDefaults(
        streams=limits.tenant_streams, stream_wait_s=wait_s, rate=limits.tenant_rate
    )
    return _Parts(
        gateways=gateways,
        sender=Sender(
            shared.store,
            services.upkeep.repair,
            Streams(limits.streams, wait_s),
            redirects=settings.storage.redirect,
        ),
        wrong_tokens=wrong_tokens,
        admission=Admission(shared.policies, gateways, defaults, wrong_tokens, shared.now),
    )


def _downloads(services: Services, parts: _Parts) -> Downloads:
    shared, releases, fleet = services.shared, services.releases, services.fleet
    door = ChannelDoor(
        fleet.offered, shared.policies, parts.wrong_tokens, fleet.check_ins, shared.now
    )
    return Downloads(
        releases.catalog,
        releases.ingestion,
        releases.freshness,
        door,
        parts.sender,
        parts.gateways,
    )


def _images(services: Services, parts: _Parts) -> ContainerRegistry:
    shared = services.shared
    door = PullingDoor(
        services.fleet.offered,
        shared.policies,
        parts.wrong_tokens,
        shared.now,
        is_open=not shared.settings.releases.images_need_token,
    )
    return ContainerRegistry(
        services.releases.images,
        door,
        parts.sender,
        parts.gateways,
        public_url=shared.settings.public_url,
    )


def _goproxy(services: Services, parts: _Parts) -> GoproxyApp:
    shared = services.shared
    return GoproxyApp(
        shared.policies,
        services.modules.front,
        services.sumdb.front,
        shared.usage,
        shared.denials,
        parts.sender,
        parts.gateways,
        parts.admission,
        shared.now,
        shared.clock,
        max_age_s=shared.settings.modules.max_age_s,
    )


def _fleet(services: Services, parts: _Parts) -> FleetApp:
    settings = services.shared.settings
    return FleetApp(
        services.fleet.enrolment,
        services.fleet.check_ins,
        parts.sender,
        parts.gateways,
        parts.wrong_tokens,
        NodeRates(),
        check_s=float(settings.fleet.check_s),
        random=Random().random,  # noqa: S311 (a jitter is no secret)
        public_url=settings.public_url,
    )


async def _send_refusal(refusal: tuple[int, str], method: str, send: Send) -> None:
    status, line = refusal
    answer = plain(status, line, (b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": answer.headers})
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})
