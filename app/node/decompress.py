"""The archive's pieces as the bytes of its tar, by whatever this machine has.

    zst      Python 3.14's compression.zstd, else the `zstd` program
    tar.gz   zlib

The pieces are fetched and checked in one thread, decompressed in another (or in the program),
and read in a third: all of it overlaps.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import resource
import shutil
import subprocess
import threading
import time
import zlib
from typing import IO, TYPE_CHECKING, Any, Protocol

from .errors import RefusedError
from .handover import AbandonedError, Handover

if TYPE_CHECKING:
    from collections.abc import Iterator

ZST, TAR_GZ = "zst", "tar.gz"
_BLOCK_BYTES = 1 << 20
_WAITING = 8
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ of Linux


class TarBytes(Protocol):
    """The bytes of a tar.

    Attributes:
        spent_s: seconds of decompression, as far as they can be told.
    """

    spent_s: float

    def read_into(self, view: memoryview) -> int:
        """Fill at least a part of view; return the count of bytes, 0 at the end."""


def zstd_way() -> str | None:
    """Return how this machine can read zstd: "python", "program", or None."""
    if _zstd_module() is not None:
        return "python"
    return "program" if shutil.which("zstd") else None


def _zstd_module() -> Any:
    try:
        return importlib.import_module("compression.zstd")
    except ImportError:
        return None


@contextlib.contextmanager
def tar_bytes(pieces: Iterator[bytes], form: str) -> Iterator[TarBytes]:
    """Yield the bytes of the tar in pieces of a `.zst` or `.tar.gz`.

    Raises:
        Exception: whatever pieces raises, when its place in the bytes is read.
        RefusedError: the bytes can't be decompressed.
    """
    if form == ZST and zstd_way() == "program":
        with _program(pieces) as reader:
            yield reader
    else:
        with _in_process(pieces, form) as reader:
            yield reader


class _ProgramBytes:
    """What the zstd program writes."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self.failure: BaseException | None = None
        self.feeder: threading.Thread | None = None
        self.spent_s = 0.0

    def read_into(self, view: memoryview) -> int:
        count: int = self._output.readinto(view)  # type: ignore[attr-defined]
        if count:
            return count
        before = _children_s()
        status = self._process.wait()
        self.spent_s = _children_s() - before
        if self.feeder is not None:
            self.feeder.join()
        if self.failure is not None:
            raise self.failure
        if status:
            raise RefusedError(f"zstd can't decompress the archive (exit status {status})")
        return 0


def _children_s() -> float:
    """Return the CPU seconds of the children that have ended and were waited for."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


@contextlib.contextmanager
def _program(pieces: Iterator[bytes]) -> Iterator[_ProgramBytes]:
    process = subprocess.Popen(
        ["zstd", "-d", "-c", "-q"],
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    source, output = process.stdin, process.stdout
    if source is None or output is None:
        raise AssertionError("both are pipes")
    with contextlib.suppress(OSError):  # another system, or above the user's limit
        for pipe in (source, output):
            fcntl.fcntl(pipe.fileno(), _SET_PIPE_SIZE, _BLOCK_BYTES)
    reader = _ProgramBytes(process, output)

    def feed() -> None:
        try:
            with source:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[source.write(view) :]
        except BrokenPipeError:
            pass  # the program ended, or was ended: its exit status tells
        except BaseException as error:  # the reader raises it
            reader.failure = error
            process.kill()  # no half file must look whole

    reader.feeder = threading.Thread(target=feed, name="fetch", daemon=True)
    reader.feeder.start()
    try:
        yield reader
    finally:
        process.kill()
        process.wait()
        output.close()
        reader.feeder.join()


class _ProcessBytes:
    """What a thread of this process decompresses."""

    def __init__(self, blocks: Handover[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")
        self.spent_s = 0.0

    def read_into(self, view: memoryview) -> int:
        if not self._rest:
            block = self._blocks.get()
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


@contextlib.contextmanager
def _in_process(pieces: Iterator[bytes], form: str) -> Iterator[_ProcessBytes]:
    fetched: Handover[bytes] = Handover(_WAITING)
    blocks: Handover[bytes] = Handover(_WAITING)
    reader = _ProcessBytes(blocks)

    def fetch() -> None:
        _hand_over(pieces, fetched)

    def decompress() -> None:
        _hand_over(_decompressed(iter(fetched.get, None), form, reader), blocks)
        fetched.abandon()

    threads = [threading.Thread(target=work, daemon=True) for work in (fetch, decompress)]
    for thread in threads:
        thread.start()
    try:
        yield reader
    finally:
        blocks.abandon()
        fetched.abandon()
        for thread in threads:
            thread.join()


def _hand_over(items: Iterator[bytes], target: Handover[bytes]) -> None:
    try:
        for item in items:
            target.put(item)
    except AbandonedError:
        pass
    except BaseException as error:  # the reader raises it
        target.end(error)
    else:
        target.end()


def _decompressed(pieces: Iterator[bytes], form: str, reader: _ProcessBytes) -> Iterator[bytes]:
    """Yield blocks of at most 1 MiB; the archive is one gzip member or zstd frame, and no more."""
    errors: tuple[type[Exception], ...] = (zlib.error, EOFError)
    engine: Any = zlib.decompressobj(31)
    if form == ZST:
        module = _zstd_module()
        engine, errors = module.ZstdDecompressor(), (module.ZstdError, EOFError)
    for piece in pieces:
        rest = piece
        while True:
            started = time.perf_counter()
            try:
                block = engine.decompress(rest, _BLOCK_BYTES)
            except errors as error:
                raise RefusedError(f"the archive can't be decompressed: {error}") from error
            reader.spent_s += time.perf_counter() - started
            if block:
                yield block
            if form == ZST:
                rest = b""
                if engine.eof or engine.needs_input:
                    break
            else:
                rest = engine.unconsumed_tail
                if not rest and (engine.eof or len(block) < _BLOCK_BYTES):
                    break
        if engine.eof and engine.unused_data:
            raise RefusedError("the archive has bytes after its end")
    if not engine.eof:
        raise RefusedError("the archive ends in the middle")
