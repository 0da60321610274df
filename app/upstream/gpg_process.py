"""One run of the gpg program: started, waited for, killed in time. The only user of gnupg.

Of python-gnupg the process plumbing is used, never `.valid` or `.status`: they call a SHA-1
signature valid, and a release whose subkey has expired since invalid. What to think of a transcript
is `app/core/signature.py`.
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
]
_STATUS = "[GNUPG:] "
# It warns of every exit code but 0, and of a missing gpg with a traceback; we judge and tell.
logging.getLogger("gnupg").setLevel(logging.CRITICAL)


class Transcript:
    """What one run of gpg said, uninterpreted; stands in for python-gnupg's result classes.

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
        """Ignore python-gnupg's idea of a status line.

        It also breaks lines at U+0085 and other marks, so that a user ID could pose as one.
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


class GpgProgram(gnupg.GPG):  # type: ignore[misc]  # python-gnupg has no annotations
    """python-gnupg with deadlines, and with results kept raw."""

    result_map: ClassVar[dict[str, Any]] = dict(gnupg.GPG.result_map, verify=Transcript)

    def __init__(self, binary: str, home: Path, timeout_s: Callable[[], float]) -> None:
        self._timeout_s = timeout_s  # before the base class, which runs gpg for its version
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
            NotYetError: missing, out of time, or ended otherwise than with 0, 1 or 2.
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
        # A session of its own, so that whatever gpg may start dies with it: a child that holds
        # the pipes open would hang us.
        command = self.make_args(args, passphrase)
        return Popen(
            command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=self.env, start_new_session=True
        )

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
        if expired.is_set():
            raise TimeoutError


@contextmanager
def answering(binary: str, timeout_s: float) -> Iterator[None]:
    """Turn what python-gnupg raises where gpg is missing or broken into our own error."""
    try:
        yield
    except TimeoutError as error:
        raise NotYetError(f"{binary} did not answer within {timeout_s:g} s") from error
    except (OSError, ValueError) as error:
        raise NotYetError(f"{binary} can't be run: {error}") from error


def _kill(process: Popen[bytes]) -> None:
    """Kill the process and all that it started, unless it has ended and was waited for."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
