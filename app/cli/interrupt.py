"""Ctrl-C and SIGTERM end a command alike: what it does is cancelled, and cleans up behind itself.

`serve` puts its own handlers in the place of these as soon as it serves.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

import typer

from app.cli.output import Exit, complain

NOTHING_HALF_DONE = "nothing is left half done"
_ended_by: list[int] = []


def take_signals() -> None:
    """Have SIGTERM do what Ctrl-C does, from here on."""
    signal.signal(signal.SIGTERM, _interrupt)


def exit_code() -> Exit:
    """Return with which code an interrupted command ends: 143 after SIGTERM, else 130."""
    return Exit.TERMINATED if signal.SIGTERM in _ended_by else Exit.INTERRUPTED


@contextlib.contextmanager
def interruptible(afterwards: str = NOTHING_HALF_DONE) -> Iterator[None]:
    """Return a context in which Ctrl-C and SIGTERM end the program.

    Args:
        afterwards: what is left, and how it goes on.
    """
    try:
        yield
    except KeyboardInterrupt:
        complain(f"interrupted; {afterwards}")
        raise typer.Exit(exit_code()) from None


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ended_by.append(number)
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if callable(on_ctrl_c):  # an event loop's cancels its task
        on_ctrl_c(signal.SIGINT, frame)
    else:  # a shell has its background commands ignore Ctrl-C
        raise KeyboardInterrupt
