"""Mirroring a selection: the plan with its reasons, and the downloads.

A second run downloads nothing twice, because `Ingestion.ensure` returns at once for a served file.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from app import logs
from app.core.errors import (
    BadInputError,
    MoorageError,
    OverloadedError,
    StorageError,
    UpstreamError,
)
from app.core.gorelease import ReleaseIndex, SkippedEntries, Support
from app.core.job import Job, JobProgress, Watch
from app.core.releasefile import FileRecord
from app.core.selection import Selection, select, select_named, unmatched_pins
from app.db.channels import ChannelTable
from app.db.engine import Database
from app.services.releases.catalog import Catalog, CatalogReader
from app.services.releases.index import ReleaseIndexReader
from app.services.releases.ingestion import Ingestion
from app.services.releases.policy import Progress, Report, silent

_CURRENT = 8  # names of files in a job's progress
_log = logs.get("sync")


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of the selection.

    Attributes:
        support: whether Go's team still supports the release.
        reason: why the file was selected, for people.
        refusal: why the file can't be mirrored, or None.
    """

    record: FileRecord
    support: Support
    reason: str
    refusal: str | None

    @property
    def to_fetch(self) -> bool:
        """Whether the file's bytes must be downloaded."""
        return self.refusal is None and (not self.record.has_bytes or self.record.damaged)


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The plan of a sync.

    Attributes:
        unmatched_pins: pins that match no release in the index.
        skipped: what of the index is not understood.
    """

    files: tuple[PlannedFile, ...]
    unmatched_pins: tuple[str, ...]
    skipped: tuple[SkippedEntries, ...]

    @property
    def fetch_bytes(self) -> int:
        """Number of bytes to download."""
        return sum(p.record.file.size_bytes for p in self.files if p.to_fetch)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a sync.

    Attributes:
        fetched: names of files that are served now and were not before.
        present: names of files that were served before.
        failed: (name, reason) of files that could not be mirrored.
        index_error: why the index could not be read and the old one was used; "" if it was read.
    """

    fetched: tuple[str, ...]
    present: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    unmatched_pins: tuple[str, ...]
    index_error: str = ""


class ReleaseSync:
    """Plans and mirrors the selection."""

    def __init__(
        self,
        db: Database,
        reader: ReleaseIndexReader,
        catalog: CatalogReader,
        ingestion: Ingestion,
        selection: Selection,
    ) -> None:
        self._db = db
        self._reader = reader
        self._catalog = catalog
        self._ingestion = ingestion
        self._selection = selection

    async def plan(
        self, names: Sequence[str] = (), *, refresh: bool = True
    ) -> tuple[SyncPlan, str]:
        """Return the plan, and why the index could not be read anew ("" if it was).

        Args:
            names: releases and files, as `select_named` takes them; without them the selection,
                with the releases that channels name.
            refresh: False plans by the index as it was last read.

        Raises:
            UnknownError: the index has nothing of a name.
            UpstreamError: the index was never read and can't be now.
        """
        error = ""
        if refresh:
            try:
                await self._reader.refresh()
            except (UpstreamError, OverloadedError, StorageError) as trouble:
                if (await self._reader.status()).read_at is None:
                    raise
                error = str(trouble)
        skipped: tuple[SkippedEntries, ...] = ()
        try:
            skipped = await self._reader.skipped()
        except (StorageError, UpstreamError) as trouble:
            error = error or str(trouble)
        pins = await self._db.read(lambda s: ChannelTable(s).pinned())
        selection = replace(self._selection, channel_pins=pins)
        catalog = await self._catalog.current(fresh=True)
        return self._make_plan(catalog, selection, skipped, names), error

    def _make_plan(
        self,
        catalog: Catalog,
        selection: Selection,
        skipped: tuple[SkippedEntries, ...],
        names: Sequence[str],
    ) -> SyncPlan:
        index = ReleaseIndex(catalog.all_releases)
        try:
            chosen = select_named(index, selection, names) if names else select(index, selection)
        except BadInputError as error:
            raise AssertionError("settings let a malformed pin through") from error
        files = []
        for choice in chosen:
            record = catalog.records[choice.file.filename]
            refusal = self._ingestion.policy.refusal(record)
            files.append(
                PlannedFile(record, catalog.support(record.file.version), choice.reason, refusal)
            )
        unmatched = () if names else tuple(unmatched_pins(index, selection))
        return SyncPlan(tuple(files), unmatched, skipped)

    async def sync(
        self, names: Sequence[str] = (), *, actor: str = "system", report: Report = silent
    ) -> SyncResult:
        """Mirror the selection, or what is named; a file that fails doesn't stop the others.

        Args:
            names: as in `plan`.
            actor: for the audit rows.
            report: is called with the progress of each file, first with the phase "wait".

        Raises:
            UnknownError: the index has nothing of a name.
            UpstreamError: the index was never read and can't be now.
        """
        plan, index_error = await self.plan(names)
        present = tuple(
            p.record.file.filename
            for p in plan.files
            if self._ingestion.policy.serves(p.record) and not p.record.damaged
        )
        failed = [(p.record.file.filename, p.refusal) for p in plan.files if p.refusal is not None]
        fetched: list[str] = []
        # A selection may have more files than the queue of ingestions accepts: take turns.
        policy = self._ingestion.policy
        turns = asyncio.Semaphore(max(1, min(policy.parallel, policy.max_queue)))

        async def mirror_file(filename: str, size_bytes: int) -> None:
            # A client may have begun the file's ingestion, which then reports to nobody here.
            try:
                async with turns:
                    await self._ingestion.ensure(filename, forced=True, report=report, actor=actor)
                fetched.append(filename)
                report(Progress(filename, "done", size_bytes, size_bytes))
            except MoorageError as error:
                failed.append((filename, str(error)))
                report(Progress(filename, "failed", 0, size_bytes))

        async with asyncio.TaskGroup() as group:
            for planned in plan.files:
                file = planned.record.file
                if planned.refusal is None and file.filename not in present:
                    report(Progress(file.filename, "wait", 0, file.size_bytes))
                    group.create_task(mirror_file(file.filename, file.size_bytes))
        if not names:
            chosen = frozenset(p.record.file.filename for p in plan.files)
            await self._ingestion.judge_again(actor, skip=chosen)
        _log.info("sync done", fetched=len(fetched), present=len(present), failed=len(failed))
        return SyncResult(
            tuple(sorted(fetched)), present, tuple(sorted(failed)), plan.unmatched_pins, index_error
        )


class _Tally:
    """Adds up the progress of all files."""

    def __init__(self) -> None:
        self._files: dict[str, Progress] = {}

    def add(self, progress: Progress) -> None:
        """Take the progress of one file."""
        before = self._files.get(progress.filename)
        if before is not None and not progress.total_bytes:
            progress = replace(progress, total_bytes=before.total_bytes)
        self._files[progress.filename] = progress

    def progress(self) -> JobProgress:
        """Return how far all files are."""
        files = self._files.values()
        current = (f.filename for f in files if f.phase in ("fetch", "verify"))
        return JobProgress(
            files=len(files),
            files_done=sum(f.phase == "done" for f in files),
            files_failed=sum(f.phase == "failed" for f in files),
            total_bytes=sum(f.total_bytes for f in files),
            done_bytes=sum(f.done_bytes for f in files),
            current=tuple(sorted(current)[:_CURRENT]),
        )


async def run_sync(sync: ReleaseSync, job: Job, watch: Watch) -> dict[str, object]:
    """Mirror the selection, or what the job names; return a report for JSON."""
    tally = _Tally()
    watch(tally.progress)
    return sync_report(await sync.sync(job.names, actor=job.actor, report=tally.add))


def sync_report(result: SyncResult) -> dict[str, object]:
    """Return the result of a sync in types of JSON."""
    return {
        "fetched": list(result.fetched),
        "present": list(result.present),
        "failed": [{"filename": name, "reason": reason} for name, reason in result.failed],
        "unmatched_pins": list(result.unmatched_pins),
        "index_error": result.index_error,
    }
