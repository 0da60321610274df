"""What people and programs see: lines or one JSON object on stdout, the rest on stderr."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, TextIO

_BAR_CHARS = 30
_STEP_S = 0.1


class Output:
    """stdout and stderr of one run.

    Args:
        as_json: one JSON object on stdout instead of lines.
        stdout, stderr: where to.
    """

    def __init__(
        self, *, as_json: bool, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self._as_json = as_json
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._next_at = 0.0
        self._has_bar = False

    def result(self, value: dict[str, Any], lines: list[str]) -> None:
        """Print the result: value for programs, lines for people."""
        self._clear()
        text = json.dumps(value, sort_keys=True) if self._as_json else "\n".join(lines)
        if text:
            self._stdout.write(text + "\n")
            self._stdout.flush()

    def warn(self, line: str) -> None:
        """Print a line about something that does not stop the run."""
        self._clear()
        self._stderr.write(f"moorage-node: {line}\n")

    def progress(self, done: int, whole: int) -> None:
        """Draw a bar on a terminal, at most ten times a second."""
        now = time.monotonic()
        if self._as_json or not self._stderr.isatty() or now < self._next_at:
            return
        self._next_at, self._has_bar = now + _STEP_S, True
        share = min(1.0, done / whole) if whole else 1.0
        bar = ("#" * int(share * _BAR_CHARS)).ljust(_BAR_CHARS)
        self._stderr.write(f"\r[{bar}] {done >> 20:>4} of {whole >> 20} MiB")
        self._stderr.flush()

    def _clear(self) -> None:
        if self._has_bar:
            self._stderr.write("\r\033[K")
            self._has_bar = False
