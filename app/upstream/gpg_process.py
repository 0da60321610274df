"""One run of the gpg program, with a deadline. The only user of python-gnupg.

Only python-gnupg's handling of the process is used, never `.valid` or `.status`: they call a SHA-1
signature valid, and a release invalid whose subkey expired after signing. The verdict on a
transcript is in `app/core/signature.py`.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any, ClassVar

import gnupg

from app.core.errors import NotYetError

# No --weak-digest SHA1: Google's own self-signatures are SHA-1, and gpg would drop the key.
_OPTIONS = [
    "--quiet",
    "--no-options",
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-retrieve",
    # The verdict compares the dates of keys and signatures itself. With a clock that is behind, gpg
    # would refuse a key "of the future".
    "--ignore-time-conflict",
    "--ignore-valid-from",
]
_STATUS = "[GNUPG:] "
# python-gnupg logs every exit code but 0, and a traceback for a missing gpg. Our errors say both.
logging.getLogger("gnupg").setLevel(logging.CRITICAL)


class Transcript:
    """The output of one run of gpg, uninterpreted; replaces python-gnupg's result classes.

    Attributes:
        stderr: status lines and messages, Latin-1 as python-gnupg decodes them.
        data: standard output.
        returncode: exit code, 0 to 2.
    """

    def __init__(self, gpg: object = None) -> None:
        self.stderr = ""
        self.data = b""
        self.returncode = -1

    def handle_status(self, key: str, value: str) -> None:
        """Ignore the status lines that python-gnupg reports.

        python-gnupg also breaks lines at U+0085 and other marks: a user ID could look like a
        status line.
        """

    @property
    def status_lines(self) -> tuple[str, ...]:
        """The status lines without "[GNUPG:] "."""
        lines = self.stderr.split("\n")
        return tuple(line.removeprefix(_STATUS) for line in lines if line.startswith(_STATUS))

    @property
    def last_words(self) -> str:
        """The last messages for people, on one printable line of at most 300 characters."""
        lines = [line for line in self.stderr.split("\n") if not line.startswith(_STATUS)]
        text = "; ".join(line.removeprefix("gpg: ") for line in lines if line.strip())
        return "".join(c if c.isprintable() else "?" for c in text)[-300:] or "no message"


class RunningPrograms:
    """The processes of gpg that run now, so that all of them can be ended at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[Popen[bytes]] = set()
        self._ended = False

    def add(self, process: Popen[bytes]) -> None:
        """Take up a process that was just started; after `end` it is killed at once."""
        with self._lock:
            self._processes.add(process)
            if self._ended:
                _kill(process)

    def remove(self, process: Popen[bytes]) -> None:
        """Forget a process that has ended."""
        with self._lock:
            self._processes.discard(process)

    def end(self) -> None:
        """Kill every process that runs, and whatever is added later. May be called twice."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                _kill(process)


class GpgProgram(gnupg.GPG):  # type: ignore[misc]  # python-gnupg has no annotations
    """python-gnupg with deadlines and raw results."""

    result_map: ClassVar[dict[str, Any]] = dict(gnupg.GPG.result_map, verify=Transcript)

    def __init__(
        self, binary: str, home: Path, timeout_s: Callable[[], float], running: RunningPrograms
    ) -> None:
        # Before the base class, which runs gpg for its version.
        self._timeout_s, self._running = timeout_s, running
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LC_ALL": "C",
        }
        super().__init__(binary, gnupghome=str(home), options=_OPTIONS, env=environment)
        if self.version is None:
            raise ValueError("it does not tell its version")

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return ".".join(map(str, self.version))

    def run(self, *args: str) -> Transcript:
        """Run gpg to its end.

        Raises:
            NotYetError: gpg is missing, ran out of time, or ended with another code than 0, 1 or 2.
        """
        transcript = Transcript()
        with answering(self.gpgbinary, self._timeout_s()):
            self._collect_output(self._open_subprocess(list(args)), transcript)
        if transcript.returncode not in (0, 1, 2):
            raise NotYetError(
                f"gpg crashed (exit code {transcript.returncode}): {transcript.last_words}"
            )
        return transcript

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> Popen[bytes]:
        # In a session of its own, the children of gpg are killed with it. A child that holds the
        # pipes open would make us wait for ever.
        command = self.make_args(args, passphrase)
        process = Popen(
            command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self.env, start_new_session=True
        )
        self._running.add(process)
        return process

    def _collect_output(
        self, process: Popen[bytes], result: Any, writer: Any = None, stdin: Any = None
    ) -> None:
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            _kill(process)

        timer = threading.Timer(self._timeout_s(), expire)
        timer.daemon = True
        timer.start()
        try:
            super()._collect_output(process, result, writer, stdin)
        finally:
            timer.cancel()
            _kill(process)
            self._running.remove(process)
        if expired.is_set():
            raise TimeoutError


@contextmanager
def answering(binary: str, timeout_s: float) -> Iterator[None]:
    """Turn the errors of python-gnupg, for a missing or broken gpg, into NotYetError."""
    try:
        yield
    except TimeoutError as error:
        raise NotYetError(f"{binary} did not answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise NotYetError(f"{binary} can't be run: {error}") from error


def _kill(process: Popen[bytes]) -> None:
    """Kill the process and its children, unless the process has ended."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
