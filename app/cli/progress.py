"""Progress bars on stderr, when it is a terminal: of files with rate and ETA, and of counts.

A file that has ended well goes from the screen, so that many files fit on it; those that failed
stay.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from app.core.size import human_bytes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress as Bars
    from rich.progress import Task, TaskID

    from app.core.job import JobProgress, Watch
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
def of_job(kind: str) -> "Iterator[Callable[[dict[str, Any] | None], None]]":
    """Return a context whose value takes a job's progress, as the API has it; None is none yet.

    Silent without a terminal.

    Args:
        kind: of the job; see `COUNTED`.
    """
    if not sys.stderr.isatty():
        yield lambda progress: None
        return
    has_bytes = kind not in COUNTED
    with _byte_bars() if has_bytes else _count_bars() as bars:
        task = bars.add_task("waiting", total=None)

        def report(progress: dict[str, Any] | None) -> None:
            if progress is None:
                return
            label, files = progress_label(kind, progress), progress["files"]
            if has_bytes:
                total, done = progress["total_bytes"] or None, progress["done_bytes"]
            else:
                total, done = files or None, progress["files_done"]
            bars.update(task, description=label, total=total, completed=done)

        yield report


COUNTED = {"gc": "blobs"}
"""What jobs of a kind count that fetch no bytes; other jobs fetch files."""


def progress_label(kind: str, progress: dict[str, Any]) -> str:
    """Return how many of its files or blobs a running job has done, in words."""
    if not progress["files"]:
        return "looking at what is stored" if kind in COUNTED else "reading the index"
    failed = f", {progress['files_failed']} failed" if progress["files_failed"] else ""
    what = COUNTED.get(kind, "files")
    return f"{progress['files_done']} of {progress['files']} {what}{failed}"


def _beside_ctrl_c(bars: "RenderableType", terminal: "Console") -> "RenderableType":
    """Return bars that leave room at the end of a line for the "^C" that a terminal writes there.

    Without it the "^C" begins a line of its own, and the one above it stays when the bars go.
    """
    from rich.constrain import Constrain

    return Constrain(bars, max(1, terminal.width - len("^C")))


def _of_bytes(task: "Task") -> str:
    return human_bytes(int(task.completed)) if task.completed else ""


def _of_count(task: "Task") -> str:
    return str(int(task.completed)) if task.completed else ""


@contextlib.contextmanager
def _byte_bars() -> "Iterator[Bars]":
    """Return a context with bars for bytes: how many, rate, and the time that remains."""
    from rich import progress as rich_progress
    from rich.text import Text

    from app.cli.output import console

    class Bytes(rich_progress.DownloadColumn):
        def render(self, task: "Task") -> Text:
            # Without a total, the column's own text is "0/? bytes".
            return super().render(task) if task.total is not None else Text(_of_bytes(task))

    columns = (
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        Bytes(binary_units=True),
        rich_progress.TransferSpeedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    terminal = console(sys.stderr)

    class ByteBars(rich_progress.Progress):
        def get_renderable(self) -> "RenderableType":
            return _beside_ctrl_c(super().get_renderable(), terminal)

    with ByteBars(*columns, console=terminal) as bars:
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
    with _count_bars() as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def watched(what: str) -> "Iterator[Watch]":
    """Return a context whose value watches work as a job is watched; silent without a terminal.

    The work is asked how far it is whenever the bar is drawn.

    Args:
        what: is counted: "blobs".
    """
    if not sys.stderr.isatty():
        yield lambda ask: None
        return
    asked: list[Callable[[], JobProgress]] = []

    def look(bars: "Bars") -> None:
        if asked:
            progress = asked[0]()
            bars.update(task, completed=progress.files_done, total=progress.files)

    with _count_bars(look) as bars:
        task = bars.add_task(what, total=None)
        yield asked.append
        look(bars)


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Return a context that shows how long work takes that counts nothing; see `counted`.

    Args:
        what: is done: "looking at what is stored".
    """
    if not sys.stderr.isatty():
        yield
        return
    with _count_bars(has_counts=False) as bars:
        bars.add_task(what, total=None)
        yield


@contextlib.contextmanager
def _count_bars(
    look: "Callable[[Bars], None] | None" = None, *, has_counts: bool = True
) -> "Iterator[Bars]":
    """Return a context with bars of counts, which are gone at its end.

    Args:
        look: is called before the bars are drawn.
        has_counts: without, only the time that has passed is shown.
    """
    from rich import progress as rich_progress
    from rich.text import Text

    from app.cli.output import console

    class Count(rich_progress.MofNCompleteColumn):
        def render(self, task: "Task") -> Text:
            # Without a total, the column's own text is "0/?".
            return super().render(task) if task.total is not None else Text(_of_count(task))

    terminal = console(sys.stderr)

    class CountBars(rich_progress.Progress):
        def get_renderable(self) -> "RenderableType":
            if look is not None and self.tasks:
                look(self)
            return _beside_ctrl_c(super().get_renderable(), terminal)

    columns: list[rich_progress.ProgressColumn] = [
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        rich_progress.TimeElapsedColumn(),
    ]
    if has_counts:
        columns[2:] = [Count(), rich_progress.TimeRemainingColumn()]
    with CountBars(*columns, console=terminal, transient=True) as bars:
        yield bars
