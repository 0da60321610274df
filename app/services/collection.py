"""`moorage gc`: what is let go and collected, as a plan, as a run of this process, and as a job."""

from app.core.job import Job, Watch
from app.core.releasefile import FileRecord
from app.core.retention import StoredZip
from app.services.garbage import Garbage, GarbagePlan
from app.services.releases.retention import ReleaseRetention
from app.services.retention import Retention

GC = "gc"
_SHOWN = 1000
"""How many names a report lists of each kind; the counts are of all."""


class Collection:
    """Lets go by the rules of retention, then collects garbage.

    A plan and a run report in the same form: a dry run is the run. What a run lets go becomes
    garbage, which the next run condemns.
    """

    def __init__(self, retention: Retention, releases: ReleaseRetention, garbage: Garbage) -> None:
        self._retention = retention
        self._releases = releases
        self._garbage = garbage

    async def plan(self) -> dict[str, object]:
        """Return what a run would do now, in types of JSON."""
        zips, files = await self._retention.plan(), await self._releases.plan()
        return _report(await self._garbage.plan(), zips, files, dry_run=True)

    async def run(self, actor: str, watch: Watch | None = None) -> dict[str, object]:
        """Let go and collect; return what was done, in types of JSON."""
        zips, files = await self._retention.plan(), await self._releases.plan()
        garbage = await self._garbage.plan()
        await self._retention.run(zips, actor)
        await self._releases.run(files, actor)
        done = await self._garbage.run(garbage, actor, watch)
        return _report(done, zips, files, dry_run=False)

    async def run_job(self, job: Job, watch: Watch) -> dict[str, object]:
        """Collect as a job."""
        return await self.run(job.actor, watch)


def _report(
    plan: GarbagePlan,
    zips: list[tuple[StoredZip, str]],
    files: list[FileRecord],
    *,
    dry_run: bool,
) -> dict[str, object]:
    kinds = {"condemned": plan.condemn, "deleted": plan.delete, "waiting": plan.waiting}
    return {
        "dry_run": dry_run,
        "let_go": {
            "zips": len(zips),
            "bytes": sum(one.size_bytes for one, _ in zips),
            "names": [{"name": one.name, "reason": reason} for one, reason in zips[:_SHOWN]],
        },
        "let_go_releases": {
            "files": len(files),
            "bytes": sum(record.file.size_bytes for record in files),
            "names": [record.file.filename for record in files[:_SHOWN]],
        },
        **{
            name: {
                "blobs": len(blobs),
                "bytes": sum(size for _, size in blobs),
                "digests": [digest.hex for digest, _ in blobs[:_SHOWN]],
            }
            for name, blobs in kinds.items()
        },
    }
