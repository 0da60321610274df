"""What all commands print, and how they end.

Results go to stdout: JSON with `--json`, else text or a table, without colour codes unless stdout
is a terminal and NO_COLOR is unset (https://no-color.org). Complaints go to stderr. A command ends
with a code of `Exit`; click itself ends wrong usage with 2.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from app.core.digest import Digest
from app.core.errors import BadInputError, MoorageError, SettingsError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    Shown = str | Table | tuple[str | Table, ...]

_T = TypeVar("_T")

# Without a terminal nothing may be cut or wrapped: each row is one line for grep and awk.
_UNLIMITED_COLUMNS = 10_000


class Exit(IntEnum):
    """How a command ended."""

    DONE = 0
    FAILED = 1
    BAD_USAGE = 2
    INTERRUPTED = 130
    TERMINATED = 143


def emit(data: _T, as_json: bool, render: "Callable[[_T], Shown]") -> None:
    """Print data on stdout: as JSON, or what render makes of it.

    Render returns a text, a `table`, or several of them, which are printed below each other:
    `emit(files, as_json, lambda files: (table(("file", "size"), rows(files)), "2 files"))`
    """
    try:
        if as_json:
            print(as_json_text(data))
        else:
            shown = render(data)
            for part in shown if isinstance(shown, tuple) else (shown,):
                _print(part)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader is gone (`moorage … | head`); that is its good right. What is still buffered
        # must go somewhere, or the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print(part: "str | Table") -> None:
    if isinstance(part, str):
        print(part)
        return
    stream = sys.stdout
    if stream.isatty():
        console(stream).print(part)
        return
    with (plain := console(stream)).capture() as captured:
        plain.print(part)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def as_json_text(data: Any) -> str:
    """Return data as indented JSON.

    Dataclasses become objects, times ISO 8601, digests and paths text, sets sorted lists.

    Raises:
        TypeError: data holds something that has no JSON form.
    """
    return json.dumps(data, indent=2, default=_json_form)


def _json_form(value: Any) -> Any:
    if isinstance(value, Digest | PurePath):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> "Table":
    """Return a table; numbers are aligned right, and control characters in cells escaped."""
    from rich.table import Table
    from rich.text import Text

    kept = [tuple(row) for row in rows]
    result = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place, column in enumerate(columns):
        is_numeric = bool(kept) and all(isinstance(row[place], int | float) for row in kept)
        result.add_column(
            column, justify="right" if is_numeric else "left", no_wrap=not sys.stdout.isatty()
        )
    for row in kept:
        result.add_row(*(Text(one_line("" if cell is None else str(cell))) for cell in row))
    return result


def console(stream: TextIO) -> "Console":
    """Return a rich console on stream: colours on a terminal only, and never with NO_COLOR."""
    from rich.console import Console

    is_terminal = stream.isatty()
    return Console(
        file=stream,
        force_terminal=is_terminal,  # not FORCE_COLOR's choice: pipes must stay free of codes
        no_color=bool(os.environ.get("NO_COLOR")),
        width=None if is_terminal else _UNLIMITED_COLUMNS,
        highlight=False,
        markup=False,
    )


def colours_are_wanted(stream: TextIO) -> bool:
    """Whether a stream is a terminal whose user has not refused colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR")


def one_line(text: str) -> str:
    r"""Return text with what isn't printable escaped: a newline becomes "\n"."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def complain(message: str) -> None:
    """Print "moorage: <line>" on stderr for every line of message."""
    for line in message.splitlines() or [""]:
        print(f"moorage: {one_line(line)}", file=sys.stderr)


def agreed(question: str) -> bool:
    """Whether the person at the terminal says yes."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def exit_for(error: MoorageError) -> Exit:
    """Return how a command ends that failed so: what the user can put right is bad usage."""
    is_usage = isinstance(error, SettingsError | BadInputError)
    return Exit.BAD_USAGE if is_usage else Exit.FAILED
