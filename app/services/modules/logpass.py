"""Asking the public log, in the background, about content that came in while the log was down.

The routes of now decide which names go to the log: a name that has become private is not sent. Two
kinds of content are asked about: module files, and the toolchains that release archives imply. For
an archive without a signature the log's record is a proof, too.
"""

from app import logs
from app.core.errors import DeniedError, MoorageError, VerificationError
from app.core.logstate import LogState
from app.core.releasefile import FileRecord, FileState
from app.core.routing import LogPolicy, route_for
from app.core.toolchain import MODULE_PATH
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.modules import ModuleFile, ModuleTable
from app.db.origins import OriginTable
from app.db.releases import ReleaseTable
from app.db.room import Room
from app.services.clock import Now
from app.services.modules.files import ModuleFiles
from app.services.modules.toolchains import ORIGIN
from app.services.policy import Policy, PolicyReader
from app.services.publiclog.checks import LogChecks

_BATCH = 50
_log = logs.get("logpass")


class LogPass:
    """Asks about content that is recorded as unverified, a batch at a time."""

    def __init__(
        self,
        db: Database,
        files: ModuleFiles,
        checks: LogChecks,
        policies: PolicyReader,
        now: Now,
    ) -> None:
        self._db = db
        self._files = files
        self._checks = checks
        self._policies = policies
        self._now = now
        self._after = 0
        self._after_release = ""

    async def step(self) -> int:
        """Ask about the next files; return how many the log vouched for."""
        if not self._checks.is_on or self._checks.is_resting:
            return 0
        return await self._modules() + await self._toolchains()

    async def _modules(self) -> int:
        after = self._after

        def work(session: Session) -> tuple[list[tuple[int, ModuleFile]], int | None]:
            rows = ModuleTable(session).unverified(after, _BATCH)
            return rows, OriginTable(session).known_origin(ORIGIN)

        rows, mirror = await self._db.read(work)
        policy = await self._policies.current(fresh=True)
        # From the beginning again once the end is reached: what failed now may be had later.
        self._after = rows[-1][0] if len(rows) == _BATCH else 0
        settled = 0
        for _, file in rows:
            if file.origin_id != mirror and not _is_asked_about(file, policy):
                continue
            try:
                state = (await self._files.records.settle(file, LogPolicy.DEFER)).log_state
            except VerificationError:
                continue  # logged, kept as evidence, and not served any more
            except MoorageError as error:
                _log.warning("log not asked", name=file.name, error=str(error))
                continue
            settled += state is LogState.VERIFIED
        return settled

    async def _toolchains(self) -> int:
        after = self._after_release
        batch = await self._db.read(
            lambda s: ReleaseTable(s).without_log(after=after, limit=_BATCH)
        )
        # As for modules: those of which the log has no record must not keep others waiting.
        self._after_release = batch[-1].file.filename if len(batch) == _BATCH else ""
        settled = 0
        for record in batch:
            settled += await self._settle(record)
        return settled

    async def _settle(self, record: FileRecord) -> bool:
        """Return whether the log vouches for an archive's toolchain; quarantine it if it does not.

        Archives of which the log has no record stay as they are: it may get one later.
        """
        toolchain = record.toolchain
        if toolchain is None:
            return False
        version = toolchain.version
        try:
            vouched = await self._checks.logged_sums(
                MODULE_PATH, version, LogPolicy.DEFER, insist=True
            )
        except MoorageError as error:
            _log.warning("log not asked", name=record.file.filename, error=str(error))
            return False
        if vouched.sums is None:
            return False
        is_right = vouched.sums.zip_h1 == toolchain.h1
        state = LogState.VERIFIED if is_right else LogState.REFUSED
        why = (
            f"its toolchain {version} has {toolchain.h1}, and {vouched.log} vouches for "
            f"{vouched.sums.zip_h1}"
        )
        at = self._now()

        def work(session: Session) -> None:
            ReleaseTable(session).set_toolchain_log(record.file.filename, state)
            if is_right:
                return
            ReleaseTable(session).refuse(record.file.filename, why)
            AuditLog(session).append(
                at, "system", f"release.{FileState.QUARANTINED}", record.file.filename, why
            )
            bump_generation(session)

        await self._db.write(work, room=Room.BELOW_FLOOR)
        if not is_right:
            _log.error("release contradicts the log", filename=record.file.filename, why=why)
        return is_right


def _is_asked_about(file: ModuleFile, policy: Policy) -> bool:
    """Whether a public route of any tenant leads to where a file came from, and asks the log."""
    for of_tenant in policy.tenants.values():
        tenant = of_tenant.tenant.name
        try:
            route = route_for(of_tenant.routes, policy.private_names, tenant, file.module)
        except DeniedError:  # no route, or its name is private
            continue
        is_asking = not route.private and route.log is not LogPolicy.OFF
        if is_asking and any(u.origin_id == file.origin_id for u in route.upstreams):
            return True
    return False
