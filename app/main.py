"""The ASGI application: Go-facing paths go straight to their plain ASGI apps, the rest to FastAPI.

Mounted inside FastAPI the same downloads would answer half as many requests.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from random import Random

from app import logs, metrics, tracing
from app.core.errors import (
    DatabaseBusyError,
    MoorageError,
    SchemaError,
    StorageError,
    StoreAwayError,
)
from app.services.assembly import Services
from app.settings import Limits, Settings, load_settings
from app.tls import Certificate, certificate_of
from app.web.admin.app import create_admin, refused
from app.web.admin.context import Backend, Callers, operator_of
from app.web.admission import Admission, TenantDefaults
from app.web.channelfiles import ChannelDoor
from app.web.connections import HEALTH, Connections
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
from app.web.health import Health, Waiting
from app.web.home import PATH as HOME
from app.web.home import Home
from app.web.limits import AdminRates, WrongTokens
from app.web.operators import OperatorsApp
from app.web.publishing import METHOD as PUT
from app.web.publishing import PublishingApp
from app.web.pulling import PullingDoor
from app.web.requestspan import traced
from app.web.responses import Header, plain
from app.web.sending import Sender
from app.web.streaming import Receive, Scope, Send, Streams
from app.web.tenancy import PREFIX, Gateways
from app.web.wrongaddress import WrongAddress, is_misaddressed
from app.wiring import build
from app.worker import Worker

_log = logs.get("main")
_DOWNLOADS = (b"/dl/", b"/go/")
_METRICS = b"/metrics"
_READING = ("GET", "HEAD")
_START_AGAIN_S = 3.0
_DOWNLOAD_ROOTS = (b"/dl", b"/go", *ROOT_LISTS)


class Application:
    """The outermost ASGI callable of one process.

    Args:
        services: of this process.
        certificate: of the listener; None for plain HTTP.
        leads: whether the process may lead the background work; see `Worker`.
    """

    def __init__(
        self,
        services: Services,
        certificate: Certificate | None = None,
        *,
        leads: bool = True,
    ) -> None:
        self.services = services
        self.certificate = certificate
        self._leads = leads
        shared, releases = services.shared, services.releases
        settings, limits = shared.settings, shared.settings.limits
        notes = {
            "clock": shared.clock.trouble,
            "logs": services.sumdb.watch.note,
            "audit": shared.audit_head.note,
            "storage": shared.store.note,
            "tls": certificate.note if certificate is not None else _nothing,
            "database": shared.watch.note,
        }
        self.health = Health(
            shared.db,
            shared.store,
            releases.keyring,
            notes,
            services.origins,
            shared.watch,
            shared.mark,
        )
        self._guard = Guard(
            max_url_bytes=limits.url_bytes,
            max_header_bytes=limits.header_bytes,
            max_headers=limits.headers,
        )
        streams = Streams(limits.streams, float(limits.stream_wait_s))
        sender = Sender(
            shared.store, services.upkeep.repair, streams, redirects=settings.storage.redirect
        )
        self.gateways = gateways = Gateways(settings.network.gateways)
        self.connections = Connections(limits.connections, limits.address_connections, gateways)
        wrong_tokens = WrongTokens(limits.bad_tokens)
        door = ChannelDoor(
            services.fleet.offered,
            shared.policies,
            wrong_tokens,
            services.fleet.check_ins,
            shared.now,
        )
        self._downloads = Downloads(
            releases.catalog, releases.ingestion, releases.freshness, door, sender, gateways
        )
        self._images = ContainerRegistry(
            releases.images,
            PullingDoor(
                services.fleet.offered,
                shared.policies,
                wrong_tokens,
                shared.now,
                is_open=not settings.releases.images_need_token,
            ),
            sender,
            gateways,
            public_url=settings.public_url,
        )
        defaults = TenantDefaults(
            streams=limits.tenant_streams,
            stream_wait_s=float(limits.stream_wait_s),
            rate=limits.tenant_rate,
        )
        admission = Admission(shared.policies, gateways, defaults, wrong_tokens, shared.now)
        self._publishing = PublishingApp(services.sumdb.publishing, admission, gateways)
        self._git_hooks = GitHooksApp(
            services.modules.git_hooks, services.modules.memory, gateways, wrong_tokens
        )
        self._goproxy = GoproxyApp(
            shared.policies,
            services.modules.front,
            services.sumdb.front,
            shared.usage,
            shared.denials,
            sender,
            gateways,
            admission,
            shared.now,
            shared.clock,
            max_age_s=settings.modules.max_age_s,
        )
        self._home = Home(
            releases.catalog,
            shared.policies,
            services.publiclog.relays,
            sender,
            settings.public_url,
        )
        self._fleet = FleetApp(
            services.fleet.enrolment,
            services.fleet.check_ins,
            sender,
            gateways,
            wrong_tokens,
            check_s=float(settings.fleet.check_s),
            random=Random().random,  # noqa: S311 (a jitter is no secret)
            public_url=settings.public_url,
        )
        self._wrong_address = WrongAddress(shared.policies, settings.public_url)
        rates = AdminRates(limits.admin_token_rate, limits.admin_address_rate)
        callers = Callers(gateways, rates, wrong_tokens)
        self._admin = create_admin(Backend(services, callers, self.health))
        self.operators = OperatorsApp(self._admin, limits)
        self._has_metrics = settings.metrics.port is None
        self._background: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._hits: tracing.Hits | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def limits(self) -> Limits:
        """How long clients may take, and how much they may ask for."""
        return self.services.shared.settings.limits

    def instant(
        self, url: bytes, headers: list[Header], client: str, trace: str | None = None
    ) -> bytes | None:
        """Return what follows status line and Date of the answer to a plain GET, or None.

        None says nothing of the answer: `__call__` has it. trace: the id of the request's trace,
        for its line in the log.
        """
        if url.startswith(PREFIX):
            if self._guard.refuses(url, headers) is not None:
                return None
            return self._goproxy.instant(url, headers, client, trace)
        if url.startswith(IMAGES):
            if self._guard.refuses(url, headers) is not None:
                return None
            return self._images.instant(url, headers)
        if not url.startswith(_DOWNLOADS) or self._guard.refuses(url, headers) is not None:
            return None
        return self._downloads.instant(url, headers)

    def _traced_instant(
        self, url: bytes, headers: list[Header], client: str, trace: str | None = None
    ) -> bytes | None:
        """Do what `instant` does; make a span of a prepared answer that is sampled."""
        span = None if self._hits is None else self._hits.begin(headers, url)
        if span is None:
            return Application.instant(self, url, headers, client, trace)
        answer = Application.instant(self, url, headers, client, span.own.trace_id)
        if answer is not None:
            span.end()
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one ASGI scope."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} is not served")
        if self._hits is None:
            await self._dispatch(scope, receive, send)
        else:
            await traced(self._dispatch, scope, receive, send)

    async def _dispatch(self, scope: Scope, receive: Receive, send: Send) -> None:
        # The operator's requests come from this process, not from a stranger: no size is too large.
        refusal = self._guard.refusal(scope) if operator_of(scope) is None else None
        path: bytes = scope["raw_path"]
        if self.health.waiting is not None and path not in HEALTH:
            subject = self.health.waiting.subject
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
            await self._downloads(scope, receive, send)
        elif path.startswith(HOOKS):
            await self._git_hooks(scope, receive, send)
        elif is_goproxy:
            app = self._publishing if scope["method"] == PUT else self._goproxy
            await app(scope, receive, send)
        elif is_image:
            await self._images(scope, receive, send)
        elif path == HOME:
            await self._home(scope, receive, send)
        elif is_fleet:
            await self._fleet(scope, receive, send)
        elif path == _METRICS and not self._has_metrics:
            line = "the metrics are on a listener of their own (MOORAGE_METRICS__PORT)"
            await _send_refusal((404, line), scope["method"], send)
        else:
            await self._admin(scope, receive, send)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except MoorageError as error:
            _log.error("start failed", error=str(error))
            await self._fail(str(error), send)
            return
        except Exception:
            # Left to itself, uvicorn takes a defect here for a missing lifespan, and serves.
            _log.exception("start broke")
            await self._fail("a defect; see the log", send)
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _fail(self, message: str, send: Send) -> None:
        await self.services.close()
        await send({"type": "lifespan.startup.failed", "message": message})

    async def start(self) -> None:
        """Start the services and the background work.

        A PostgreSQL that is away, or at a schema that this program can't serve, is waited for, and
        so is an S3 that is away: the process is not ready, says why, and does not end again and
        again. With a data directory that was used with this S3 before nothing waits for S3.

        Raises:
            SettingsError: traces are wanted, and the packages for them are missing.
            MoorageError: see `Services.start`.
        """
        otel = self.services.shared.settings.otel
        if otel.endpoint is not None:
            tracing.start(otel.endpoint, otel.sample, f"{socket.gethostname()}/{os.getpid()}")
            self._hits = tracing.Hits(otel.sample)
            # Untraced, a hit must not pay for a question whether it is traced.
            self.instant = self._traced_instant  # type: ignore[method-assign]
        try:
            await self.services.start()
        except (SchemaError, DatabaseBusyError, StoreAwayError) as error:
            is_away = isinstance(error, StoreAwayError)
            if self.services.shared.file is not None and not is_away:
                raise
            self._wait(error)
            self._starting = asyncio.ensure_future(self._start_later())
        else:
            self._begin()

    def _wait(self, error: MoorageError) -> None:
        subject = "storage" if isinstance(error, StorageError) else "database"
        waiting = Waiting(subject, str(error))
        if self.health.waiting != waiting:
            _log.error("the start waits", subject=subject, error=str(error))
        self.health.waiting = waiting

    async def _start_later(self) -> None:
        """Try the start again until it succeeds."""
        while self.health.waiting is not None:
            await self.services.shared.pause(_START_AGAIN_S)
            try:
                await self.services.start()
            except MoorageError as error:
                self._wait(error)
            except Exception:
                _log.exception("start broke")
            else:
                self.health.waiting = None
                self._begin()

    def _begin(self) -> None:
        """Begin the background work."""
        for about, note in self.health.notes().items():
            _log.warning("an operator has to act", about=about, note=note)
        worker = Worker(self.services, self._goproxy.decisions.flush, leads=self._leads)
        self._background = asyncio.ensure_future(worker.run())
        if self.certificate is None:
            metrics.set_certificate_expiry(float("inf"))
        else:
            self._watch = asyncio.ensure_future(self.certificate.watch())

    def begin_drain(self) -> None:
        """Become unready, so that no new traffic is sent here; called on SIGTERM."""
        self.health.draining = True
        self.services.begin_drain()

    async def stop(self) -> None:
        """End the background work, give running ingestions their time, release everything."""
        for task in (self._watch, self._starting, self._background):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.services.drain(self.services.shared.settings.drain_s)
        self._goproxy.decisions.flush()
        if self._background is not None:  # not of a database that the start refused
            await self.services.shared.usage.flush()
            await self.services.shared.denials.flush()
            await self.services.fleet.check_ins.flush()
            await self.services.shared.refusals.flush(all_windows=True)
            await self.services.file_heads()
        await self.services.close()
        if self._hits is not None:
            tracing.stop()


def _nothing() -> None:
    """Say that no operator has to act."""


async def _send_refusal(refusal: tuple[int, str], method: str, send: Send) -> None:
    status, line = refusal
    answer = plain(status, line, (b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": answer.headers})
    body = b"" if method == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})


def create_app(settings: Settings | None = None) -> Application:
    """Return the application; without settings, those of the environment.

    Raises:
        SettingsError: a setting is unknown, malformed or contradictory, or names a certificate
            that can't be used.
    """
    settings = settings or load_settings()
    return Application(build(settings), certificate_of(settings.tls))


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Application]:
    """Return a context with a started application, for embedding and for tests."""
    application = create_app(settings)
    try:
        await application.start()
        yield application
    finally:
        await application.stop()
