"""The process that the kill tests end: it forks a child for each job, so that starting is cheap.

    python -m tests.node.one_run

Each line of stdin is a job in JSON: `argv` of the node program, and `kill_at`, the number of the
change to a file system at which the child kills itself: 2n before change n, 2n + 1 after it; -1
for never. The answer is the child's exit status, negative for a signal, and how many changes there
were (0 where the child was killed).
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from app.node import cli, decompress, smoke, update  # noqa: F401 - loaded before the fork

CHANGES = (
    "write", "fsync", "rename", "replace", "unlink", "remove", "mkdir", "symlink", "rmdir",
    "chmod", "fchmod", "open",
)  # fmt: skip


class Countdown:
    """Counts changes, and ends the process at one of them."""

    def __init__(self, kill_at: int) -> None:
        self._kill_at = kill_at
        self.changes = 0

    def wrap(self, name: str) -> None:
        original: Callable[..., Any] = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return original(*args, **options)
            number, self.changes = self.changes, self.changes + 1
            if self._kill_at == 2 * number:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return original(*args, **options)
            finally:
                if self._kill_at == 2 * number + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        setattr(os, name, call)


def child(argv: list[str], kill_at: int, pipe: int) -> int:
    countdown = Countdown(kill_at)
    write = os.write
    for name in CHANGES:
        countdown.wrap(name)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    code = cli.main(argv)
    write(pipe, str(countdown.changes).encode())
    return code


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            code = 99
            try:
                code = child(job["argv"], job["kill_at"], writing)
            finally:
                os._exit(code)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            changes = int(pipe.read() or 0)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), changes, flush=True)


if __name__ == "__main__":
    main()
