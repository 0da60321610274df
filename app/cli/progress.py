"""Progress bars on stderr, when it is a terminal: of files with rate and ETA, and of counts."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import TaskID

    from app.services.releases.policy import Progress, Report


@contextlib.contextmanager
def downloads() -> "Iterator[Report]":
    """Return a context whose value shows how far each file is; silent without a terminal."""
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
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
        tasks: dict[str, TaskID] = {}

        def report(progress: "Progress") -> None:
            name = progress.filename
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.total_bytes or None)
            label = name if progress.phase == "fetch" else f"{name} ({progress.phase})"
            if progress.phase == "failed":
                bars.update(tasks[name], description=label)
                bars.stop_task(tasks[name])
            else:
                bars.update(tasks[name], description=label, completed=progress.done_bytes)

        yield report


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
