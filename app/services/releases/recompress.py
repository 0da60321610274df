"""Compressing an archive anew in a process of its own, behind everybody else for the processor.

It takes a minute or two of one core, and its memory would stay. So

    python -I -m app.services.releases.recompress LEVEL NICENESS

reads the archive from stdin and writes the zstd form to stdout. Its last line on stderr is JSON:
what went through, or why the archive was refused. It ends by itself once nobody reads.
"""

import json
import os
import sys
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.core.digest import Digest
from app.core.errors import BadInputError, StorageError
from app.core.zst import Recompression, ZstSums
from app.services.ownprocess import own_process

_PIECE_BYTES = 1 << 20
_REPORT_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Recompressor:
    """Compresses archives.

    Attributes:
        level: of zstd, 1 to 19.
        niceness: of the process, 0 to 19: how far it stands behind others.
    """

    level: int
    niceness: int

    async def run(self, archive: Path, write: Callable[[bytes], Awaitable[None]]) -> ZstSums:
        """Pass the zstd form of an archive to write; return what went through.

        The process is ended when the caller is cancelled or write fails.

        Raises:
            BadInputError: the archive can't be read.
            StorageError: the process did not do its work.
        """
        try:
            stream = archive.open("rb")
        except OSError as error:
            raise StorageError(f"an archive can't be read back: {error.strerror}") from error
        with stream:
            arguments = str(self.level), str(self.niceness)
            async with own_process(__name__, *arguments, stdin=stream) as process:
                report = await _pump(process, write)
        return _sums_of(report, process.returncode)


async def _pump(process: Process, write: Callable[[bytes], Awaitable[None]]) -> bytes:
    """Pass on all that the process writes; return the start of its report."""
    if process.stdout is None or process.stderr is None:
        raise AssertionError("the process has pipes")
    while piece := await process.stdout.read(_PIECE_BYTES):
        await write(piece)
    report = await process.stderr.read(_REPORT_BYTES)
    await process.wait()
    return report


def _sums_of(report: bytes, code: int | None) -> ZstSums:
    try:
        outcome: dict[str, Any] = json.loads(report)
        if "refused" in outcome:
            raise BadInputError(str(outcome["refused"]))
        return ZstSums(Digest(outcome["archive"]), Digest(outcome["zst"]))
    except (ValueError, KeyError, TypeError) as error:
        # Killed for want of memory, most often: nothing is said then.
        raise StorageError(f"compressing an archive ended early, with exit code {code}") from error


def main() -> None:
    """Compress what stdin has, as this module's docstring says."""
    level, niceness = (int(argument) for argument in sys.argv[1:])
    os.nice(niceness)
    work = Recompression(level)
    outcome: dict[str, str]
    try:
        for piece in work.pieces(sys.stdin.buffer):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        outcome = {"archive": work.sums.archive.hex, "zst": work.sums.zst.hex}
    except BadInputError as error:
        outcome = {"refused": str(error)}
    except BrokenPipeError:  # nobody reads any more
        os._exit(1)
    sys.stderr.write(json.dumps(outcome))
    sys.stderr.flush()


if __name__ == "__main__":
    main()
