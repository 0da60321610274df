"""Bars before their totals are known, and what a list says of a collection that has ended."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from app.cli.job import _far
from app.cli.progress import counted, of_job

BARS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: of_job("sync"),
    "blobs": lambda: of_job("gc"),
    "records": lambda: counted("records"),
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", BARS)
def test_a_bar_without_a_total_shows_no_question_mark(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stderr", terminal)
    with BARS[name]():
        pass
    shown = terminal.getvalue()
    assert ("waiting" in shown or "records" in shown, "/?" in shown) == (True, False), shown


@pytest.mark.parametrize("count", [0, 3])
def test_a_collection_that_has_ended_says_what_it_did(count: int) -> None:
    result = {kind: {"blobs": count} for kind in ("condemned", "deleted", "waiting")}
    progress = {"files": 0, "files_done": 0, "files_failed": 0, "total_bytes": 0, "done_bytes": 0}
    job = {"kind": "gc", "state": "done", "result": result, "progress": progress}
    assert _far(job) == f"{count} condemned, {count} deleted, {count} waiting"
