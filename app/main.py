"""The ASGI application of one process: its start, its background work, its end."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable

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
from app.surfaces import Surfaces
from app.tls import Certificate, certificate_of
from app.web.connections import Connections
from app.web.health import Health, Waiting
from app.web.operators import OperatorsApp
from app.web.plainhead import PlainHead
from app.web.requestspan import traced
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways
from app.wiring import build
from app.worker import Worker

_log = logs.get("main")
_START_AGAIN_S = 3.0


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
        self.gateways = Gateways(settings.network.gateways)
        self.connections = Connections(
            limits.connections, limits.address_connections, self.gateways
        )
        self.surfaces = Surfaces(services, self.gateways, self.health)
        self.operators = OperatorsApp(self.surfaces.admin, limits)
        # Untraced, a hit must not pay for a question whether it is traced.
        self.instant: Callable[[bytes, PlainHead], bytes | None] = self.surfaces.instant
        self.plain_head = self.surfaces.plain_head
        self._background: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._hits: tracing.Hits | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def limits(self) -> Limits:
        """How long clients may take, and how much they may ask for."""
        return self.services.shared.settings.limits

    def _traced_instant(self, url: bytes, head: PlainHead) -> bytes | None:
        """Do what `instant` does; make a span of a prepared answer that is sampled."""
        span = None if self._hits is None else self._hits.begin(head.headers, url)
        if span is None:
            return self.surfaces.instant(url, head)
        answer = self.surfaces.instant(url, head, span.own.trace_id)
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
            await self.surfaces(scope, receive, send)
        else:
            await traced(self.surfaces, scope, receive, send)

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
            self.instant = self._traced_instant
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
        worker = Worker(self.services, self.surfaces.flush_decisions, leads=self._leads)
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
        self.surfaces.flush_decisions()
        if self._background is not None:  # not of a database that the start refused
            await self.services.shared.usage.flush()
            await self.services.shared.denials.flush()
            await self.services.fleet.check_ins.flush()
            await self.services.shared.refusals.flush(all_windows=True)
            await self.services.fleet.node_rows.flush(all_windows=True)
            await self.services.file_heads()
        await self.services.close()
        if self._hits is not None:
            tracing.stop()


def _nothing() -> None:
    """Say that no operator has to act."""


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
