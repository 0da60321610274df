"""The rows of module files: recorded once, the first value wins for ever.

What contradicts a row is kept as evidence. Not here: fetching and checking (`files`), and what a
contradiction is (`checks`).
"""

from dataclasses import replace

from app import logs, metrics
from app.core.errors import ConflictError, VerificationError
from app.core.logstate import LogState
from app.core.routing import LogPolicy
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.moduleconflicts import ModuleConflict, ModuleConflictTable
from app.db.modules import ModuleFile, ModuleTable
from app.db.room import Room
from app.services.clock import Now
from app.services.modules.checks import contradiction
from app.services.modules.troubles import contradicted
from app.services.publiclog.checks import LogChecks

_log = logs.get("modules")


class FileRecords:
    """Records checked files, and evidence against others."""

    def __init__(self, db: Database, log_checks: LogChecks, now: Now) -> None:
        self._db = db
        self._log_checks = log_checks
        self._now = now

    async def record(self, *new: ModuleFile, tenant: str) -> ModuleFile:
        """Record checked, durable files of one version in one transaction.

        Return what is recorded of the first file, which may be another's.

        Raises:
            VerificationError: a file contradicts what is recorded; that is kept as evidence.
        """

        def work(session: Session) -> ModuleFile | tuple[ModuleFile, str]:
            first = new[0]
            table = ModuleTable(session)
            recorded = table.files([first.origin_id], first.module, first.version)
            for file in new:
                for other in recorded:
                    if (why := contradiction(other, file)) is not None:
                        return file, why
            first_recorded, *_ = [_record_one(session, recorded, file, tenant) for file in new]
            return first_recorded

        size_bytes = sum(len(file.body or b"") for file in new)
        try:
            outcome = await self._db.write(work, size_bytes=size_bytes)
        except ConflictError:  # another process recorded the file between our query and our row
            outcome = await self._db.write(work, size_bytes=size_bytes)
        if isinstance(outcome, tuple):
            await self.keep_evidence(*outcome)
            raise contradicted(outcome[1])
        return outcome

    async def keep_evidence(self, file: ModuleFile, why: str) -> None:
        """Alarm, and record what was seen, once for each different value."""
        at = self._now()

        def work(session: Session) -> None:
            files = ModuleTable(session).files([file.origin_id], file.module, file.version)
            recorded = " ".join(f"{f.kind}={f.h1}" for f in files if f.h1)
            conflict = ModuleConflict(
                file.origin_id,
                file.module,
                file.version,
                file.kind,
                recorded=recorded,
                seen=_seen(file),
                detail=why,
                seen_at=at,
            )
            if ModuleConflictTable(session).add(conflict):
                AuditLog(session).append(at, "system", "module.refuse", file.name, why)

        await self._db.write(work)
        metrics.count_module_conflict()
        _log.error("module contradiction", name=file.name, why=why)

    async def settle(self, file: ModuleFile, policy: LogPolicy, *, tenant: str = "") -> ModuleFile:
        """Return a stored file, now that the log was asked about it; see `LogChecks.logged_sums`.

        Content that the log does not vouch for is not served any more.

        Args:
            file: as it is stored.
            policy: of the route.
            tenant: the tenant whose slots at the log are used; "" for background work.

        Raises:
            VerificationError: the log vouches for other content.
            UpstreamError: policy requires the log, and it can't be asked.
        """
        logged = await self._log_checks.logged_sums(
            file.module, file.version, policy, tenant=tenant, insist=True
        )
        try:
            state = logged.judge(file)
        except VerificationError as error:
            await self.set_log_state(file, LogState.REFUSED)
            await self.keep_evidence(file, str(error))
            raise
        if state is not file.log_state:
            await self.set_log_state(file, state)
        return replace(file, log_state=state)

    async def why_refused(self, file: ModuleFile) -> str:
        """Return what the log vouches for instead of a quarantined file, with both hashes."""
        evidence = await self._db.read(
            lambda s: ModuleConflictTable(s).of_version([file.origin_id], file.module, file.version)
        )
        details = (e.detail for e in evidence if e.kind is file.kind and e.seen == _seen(file))
        return next(details, "the checksum database vouches for other content")

    async def set_log_state(self, file: ModuleFile, state: LogState) -> None:
        """Record the log's answer about a file; a refusal ends every answer that has it."""
        at = self._now()

        def work(session: Session) -> None:
            if ModuleTable(session).set_log_state(file, state) and state is LogState.REFUSED:
                AuditLog(session).append(at, "system", "module.quarantine", file.name)
                bump_generation(session)

        await self._db.write(work, room=Room.BELOW_FLOOR)


def _record_one(
    session: Session, recorded: list[ModuleFile], file: ModuleFile, tenant: str
) -> ModuleFile:
    """Record a file that contradicts no recorded one; return what is recorded of it."""
    table = ModuleTable(session)
    same = next((other for other in recorded if other.kind is file.kind), None)
    if same is not None and not same.damaged:
        return same
    if file.body is None:
        Blobs(session).record(file.sha256, file.size_bytes, file.stored_at)
    if same is None:
        table.add(file, tenant)
    else:
        table.replace_bytes(file)
        bump_generation(session)
    return file


def _seen(file: ModuleFile) -> str:
    """Return the hashes of a file as evidence has them."""
    return f"{file.kind}={file.h1} sha256={file.sha256}"
