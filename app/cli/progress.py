"""Progress bars on stderr, when it is a terminal: of files with rate and ETA, and of counts.

A file that has ended well goes from the screen, so that many files fit on it; those that failed
stay.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from app.services.releases.policy import Progress, Report


@contextlib.contextmanager
def downloads() -> "Iterator[Report]":
    """Return a context whose value shows how far each file is, and all of them.

    Silent without a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    with _byte_bars() as bars:
        tasks: dict[str, TaskID] = {}
        files: dict[str, Progress] = {}
        all_files = bars.add_task("all files", total=None, visible=False)

        def report(progress: "Progress") -> None:
            name = progress.filename
            files[name] = progress
            bars.update(
                all_files,
                total=sum(f.total_bytes for f in files.values()),
                completed=sum(f.done_bytes for f in files.values()),
                visible=len(files) > 1,
            )
            if progress.phase == "wait":
                return
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.total_bytes or None)
            label = name if progress.phase == "fetch" else f"{name} ({progress.phase})"
            if progress.phase == "failed":
                bars.update(tasks[name], description=label)
                bars.stop_task(tasks[name])
            else:
                bars.update(tasks[name], description=label, completed=progress.done_bytes)
            if progress.phase == "done":
                bars.refresh()
                bars.update(tasks[name], visible=False)

        yield report


@contextlib.contextmanager
def of_job() -> "Iterator[Callable[[dict[str, Any] | None], None]]":
    """Return a context whose value takes a job's progress, as the API has it; None is none yet.

    Silent without a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    with _byte_bars() as bars:
        task = bars.add_task("waiting", total=None)

        def report(progress: dict[str, Any] | None) -> None:
            if progress is None:
                return
            failed = f", {progress['files_failed']} failed" if progress["files_failed"] else ""
            label = f"{progress['files_done']} of {progress['files']} files{failed}"
            bars.update(
                task,
                description=label if progress["files"] else "reading the index",
                total=progress["total_bytes"] or None,
                completed=progress["done_bytes"],
            )

        yield report


@contextlib.contextmanager
def _byte_bars() -> "Iterator[Bars]":
    """Return a context with bars for bytes: how many, rate, and the time that remains."""
    from rich import progress as rich_progress

    from app.cli.output import console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn(binary_units=True),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=console(sys.stderr)) as bars:
        yield bars


@contextlib.contextmanager
def uploading(name: str, size_bytes: int) -> Iterator[Callable[[int], None]]:
    """Return a context whose value takes how many bytes more were sent.

    Silent without a terminal.
    """
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    with _byte_bars() as bars:
        task = bars.add_task(name, total=size_bytes)
        yield lambda count: bars.update(task, advance=count)


@contextlib.contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """Return a context whose value takes (done, in all); silent without a terminal.

    Args:
        what: is counted: "records".
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress as rich_progress

    from app.cli.output import console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=console(sys.stderr), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
