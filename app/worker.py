"""Background loops: poll the index, sync, run jobs, scrub. One process leads, by a lease.

Every process tries to get the lease; the process that has the lease runs the loops.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

from app import logs, metrics
from app.core.errors import DatabaseBusyError, MoorageError
from app.db.leases import LeaseHolder, LeaseTable
from app.db.room import Room
from app.metrics import hotpath
from app.services.assembly import Services
from app.services.clock import Pause
from app.services.collection import GC
from app.services.fleet.checkins import FLUSH_S as CHECK_INS_S
from app.services.generation import POLL_S
from app.services.jobs import SYNC
from app.services.usage import FLUSH_S

_TRY_S = 2.0
_FLUSH_S = 1.0
_CLOCK_S = 1.0
_AUDIT_S = 1.0
_HEADS_S = 60.0
_STORE_S = 3.0
_METRICS_S = 2.0
_JOBS_S = 1.0
_ROLLOUTS_S = 1.0
_WEBHOOKS_S = 1.0
_NODES_S = 30.0
_VIEW_S = 1.0
_SCRUB_S = 600.0
_BACKUP_S = 300.0
_TIDY_S = 3600.0
_LOG_S = 300.0
_MANIFESTS_S = 60.0
_DERIVED_S = 60.0
_RETRY_S = 60.0
_log = logs.get("worker")


class Worker:
    """The background work of one process.

    Args:
        services: of this process.
        flush_log: writes the decision records that are still in memory.
        leads: whether the process may become the leader, which polls, syncs and scrubs.
        pause: waits between two turns of a loop.
    """

    def __init__(
        self,
        services: Services,
        flush_log: Callable[[], None],
        *,
        leads: bool = True,
        pause: Pause = asyncio.sleep,
    ) -> None:
        self._services = services
        self._flush_log = flush_log
        self._leads = leads
        self._pause = pause

    async def run(self) -> None:
        """Watch the generation, and lead when this process gets the lease; ends by cancellation."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._services.shared.watch.run())
            group.create_task(self._every(POLL_S, self._keep_policy))
            group.create_task(self._every(_FLUSH_S, self._flush))
            group.create_task(self._every(_CLOCK_S, self._look_at_clock))
            group.create_task(self._every(_AUDIT_S, self._services.shared.audit_head.step))
            group.create_task(self._every(_STORE_S, self._services.shared.prove_store))
            group.create_task(self._every(_HEADS_S, self._services.sumdb.watch.step))
            group.create_task(self._every(FLUSH_S, self._services.shared.usage.flush))
            group.create_task(self._every(FLUSH_S, self._services.shared.denials.flush))
            group.create_task(self._every(FLUSH_S, self._services.shared.refusals.flush))
            group.create_task(self._every(_FLUSH_S, self._services.modules.upstreams.step))
            group.create_task(self._every(_TIDY_S, self._services.modules.gits.step))
            group.create_task(self._every(CHECK_INS_S, self._services.fleet.check_ins.flush))
            group.create_task(self._every(FLUSH_S, self._services.fleet.node_rows.flush))
            group.create_task(self._every(_VIEW_S, self._services.fleet.view.step))
            if self._leads:
                group.create_task(self._try_to_lead())

    async def _keep_policy(self) -> None:
        """Read the policy after each change, so that an outage of the database finds it read."""
        with suppress(DatabaseBusyError):  # the watch has logged it
            await self._services.shared.policies.current()

    async def _flush(self) -> None:
        hotpath.flush()
        self._flush_log()

    async def _look_at_clock(self) -> None:
        self._services.shared.clock.look()

    async def _try_to_lead(self) -> None:
        while True:
            try:
                lease = await self._services.shared.leases.try_acquire("leader")
                if lease is not None:
                    await self._lead(lease)
            except MoorageError as error:
                _log.warning("no leadership", error=str(error))
            except Exception:
                # Without this, the process would never try to lead again, and nobody would notice.
                _log.exception("leading broke")
                if _is_cancelled():  # the error came from the clean-up after a cancellation
                    raise
            await self._pause(_TRY_S)

    async def _lead(self, lease: LeaseHolder) -> None:
        """Run the loops until the lease is lost."""
        _log.info("leading")
        async with self._services.shared.leases.keep(lease):
            await self._services.upkeep.jobs.fail_abandoned()
            loops = [asyncio.ensure_future(loop) for loop in self._loops()]
            try:
                while await self._still_leading(lease):
                    await self._pause(_TRY_S)
                _log.warning("leadership lost")
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)

    async def _still_leading(self, lease: LeaseHolder) -> bool:
        try:
            return await self._services.shared.leases.still_mine(lease)
        except DatabaseBusyError:
            return True  # a lost lease expires, and its fence guards everything that is recorded

    def _loops(self) -> list[Awaitable[None]]:
        services = self._services
        releases = services.shared.settings.releases
        metrics.set_refresh_interval(releases.refresh_s)
        loops: list[Awaitable[None]] = [
            self._every(releases.refresh_s, self._refresh),
            self._every(_JOBS_S, self._run_jobs),
            self._every(_SCRUB_S, self._scrub),
            self._every(_TIDY_S, self._tidy),
            self._every(_LOG_S, services.modules.log_pass.step),
            self._every(_MANIFESTS_S, services.fleet.manifests.step),
            self._every(_DERIVED_S, services.releases.derived.step),
            self._every(_DERIVED_S, services.releases.zst.step),
            self._every(_ROLLOUTS_S, services.fleet.rollouts.step),
            self._every(_WEBHOOKS_S, services.upkeep.webhooks.step),
            self._every(_BACKUP_S, services.upkeep.backup_age.step),
            self._every(_NODES_S, self._count_nodes),
            self._every(_TIDY_S, services.fleet.nodes.tidy),
            # Loading the catalog and the channels sets the gauges.
            self._every(_METRICS_S, services.releases.catalog.current),
            self._every(_METRICS_S, services.fleet.offered.current),
        ]
        if releases.sync_s:
            jobs = services.upkeep.jobs
            loops.append(self._every(releases.sync_s, lambda: jobs.ask_for(SYNC, "system")))
        if hours := services.shared.settings.retention.gc_hours:
            loops.append(self._every(3600.0 * hours, self._ask_for_gc))
        return loops

    async def _ask_for_gc(self) -> None:
        await self._services.upkeep.jobs.ask_for(GC, "system")

    async def _refresh(self) -> None:
        try:
            await self._services.releases.reader.refresh()
        finally:
            await self._services.releases.ingestion.judge_again()

    async def _count_nodes(self) -> None:
        counts = await self._services.fleet.nodes.count()
        metrics.set_nodes(counts.by_state, counts.declining)

    async def _run_jobs(self) -> None:
        while await self._services.upkeep.jobs.run_next():
            pass

    async def _scrub(self) -> None:
        await self._services.upkeep.scrub.step()
        metrics.set_storage_free(await self._services.shared.store.probe())

    async def _tidy(self) -> None:
        shared = self._services.shared
        before = shared.now() - timedelta(days=1)
        await shared.db.write(lambda s: LeaseTable(s).forget_expired(before), room=Room.BELOW_FLOOR)

    async def _every(self, seconds: float, work: Callable[[], Awaitable[object]]) -> None:
        """Do work now, then after every pause of `seconds`; after a failure within a minute."""
        while True:
            pause_s = seconds
            try:
                await work()
            except MoorageError as error:
                pause_s = min(seconds, _RETRY_S)
                _log.warning("background work failed", work=work.__qualname__, error=str(error))
            except Exception:
                # A defect in one loop must not end the others; it is logged with its traceback.
                _log.exception("background work broke", work=work.__qualname__)
            await self._pause(pause_s)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
