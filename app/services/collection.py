"""`moorage gc`: what is collected, as a plan, as a run of this process, and as a job."""

from app.core.job import Job, Watch
from app.services.garbage import Garbage, GarbagePlan

GC = "gc"
_SHOWN = 1000
"""How many digests a report lists of each kind; the counts are of all."""


class Collection:
    """Collects garbage. A plan and a run report in the same form: a dry run is the run."""

    def __init__(self, garbage: Garbage) -> None:
        self._garbage = garbage

    async def plan(self) -> dict[str, object]:
        """Return what a run would do now, in types of JSON."""
        return _report(await self._garbage.plan(), dry_run=True)

    async def run(self, actor: str, watch: Watch | None = None) -> dict[str, object]:
        """Collect; return what was done, in types of JSON."""
        plan = await self._garbage.plan()
        return _report(await self._garbage.run(plan, actor, watch), dry_run=False)

    async def run_job(self, job: Job, watch: Watch) -> dict[str, object]:
        """Collect as a job."""
        return await self.run(job.actor, watch)


def _report(plan: GarbagePlan, *, dry_run: bool) -> dict[str, object]:
    kinds = {"condemned": plan.condemn, "deleted": plan.delete, "waiting": plan.waiting}
    return {
        "dry_run": dry_run,
        **{
            name: {
                "blobs": len(blobs),
                "bytes": sum(size for _, size in blobs),
                "digests": [digest.hex for digest, _ in blobs[:_SHOWN]],
            }
            for name, blobs in kinds.items()
        },
    }
