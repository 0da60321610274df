"""The commit of each served version: the first one counts for ever.

A tag that names another commit later is refused and kept as evidence.
"""

from app import logs, metrics
from app.core.errors import ConflictError
from app.core.gitrefs import GitRefs
from app.core.goproxy import GoproxyRequest, RequestKind
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.gits import GitPin, GitTable
from app.db.moduleconflicts import ModuleConflict, ModuleConflictTable
from app.services.clock import Now
from app.services.modules.gitsources import GitSource
from app.services.modules.troubles import contradicted, first_counts

_log = logs.get("git")


class GitPins:
    """The pins of all git upstreams."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def check(
        self,
        source: GitSource,
        below: str,
        ref: str,
        request: GoproxyRequest,
        commit: str,
    ) -> None:
        """Record the commit of a version with a tag; refuse another one than was recorded.

        Args:
            source: the git upstream.
            below: of the repository, what stands for "{path}".
            ref: the version's tag: "refs/tags/sub/v1.0.0".
            request: for a file of the version.
            commit: to which the version leads now.

        Raises:
            VerificationError: the tag has moved.
        """
        known = await self._db.read(
            lambda s: GitTable(s).pin(source.origin_id, request.module, request.version)
        )
        if known is None:
            pin = GitPin(
                source.origin_id,
                request.module,
                request.version,
                below,
                ref,
                commit,
                self._now(),
            )
            try:
                await self._db.write(lambda s: GitTable(s).add_pin(pin))
            except ConflictError:  # another process was faster
                known = await self._db.read(
                    lambda s: GitTable(s).pin(source.origin_id, request.module, request.version)
                )
        if known is not None and known.commit != commit:
            await self._keep_evidence(known, commit)
            raise contradicted(_moved(known, commit))

    async def alarm_moved(self, source: GitSource, below: str, refs: GitRefs) -> None:
        """Keep evidence of every served version whose tag names another commit now."""
        pins = await self._db.read(lambda s: GitTable(s).pins(source.origin_id, below))
        for pin in pins:
            commit = refs.commit(pin.ref)
            if commit is not None and commit != pin.commit:
                await self._keep_evidence(pin, commit)

    async def _keep_evidence(self, pin: GitPin, commit: str) -> None:
        at, why = self._now(), _moved(pin, commit)
        conflict = ModuleConflict(
            pin.origin_id,
            pin.module,
            pin.version,
            RequestKind.INFO,
            recorded=f"commit {pin.commit}",
            seen=f"commit {commit}",
            detail=why,
            seen_at=at,
        )

        def work(session: Session) -> bool:
            is_new = ModuleConflictTable(session).add(conflict)
            if is_new:
                name = f"{pin.module}@{pin.version}"
                AuditLog(session).append(at, "system", "module.refuse", name, why)
            return is_new

        if await self._db.write(work):
            metrics.count_module_conflict()
            _log.error("tag moved", name=f"{pin.module}@{pin.version}", why=why)


def _moved(pin: GitPin, commit: str) -> str:
    return first_counts(
        f"{pin.module}@{pin.version} is recorded as commit {pin.commit[:12]}, and its tag is at "
        f"{commit[:12]} now"
    )
