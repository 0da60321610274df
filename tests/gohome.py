"""A home for real go commands: nothing of the user's, and no process that outlives a command."""

from pathlib import Path


def go_home(folder: Path) -> str:
    """Return `folder` as a value of HOME with which go leaves no process behind.

    Since 1.23 a go command may start a process that outlives it and writes counters below its home:
    a temporary folder could then not be removed. No variable stops it, only this file
    (golang.org/x/telemetry, "Mode").
    """
    mode = folder / ".config" / "go" / "telemetry" / "mode"
    mode.parent.mkdir(parents=True, exist_ok=True)
    mode.write_text("off")
    return str(folder)
