"""A checked archive becomes files in a staging folder, each of them checked against the tree.

The tree decides: names, types, modes, sizes and sums come from there, and the tar only brings
content for names that the tree has. Folders are made first, links last, and files with O_EXCL and
O_NOFOLLOW: nothing is ever written through a link, or twice.

Large files are hashed and written by a thread of their own, beside the small ones.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .errors import RefusedError, disk_error
from .handover import AbandonedError, Handover
from .snapshot import Stamp, stamp_of
from .tarstream import SMALL_BYTES, Member, members
from .tree import FILE, FOLDER, LINK, Entry, Tree

if TYPE_CHECKING:
    from .decompress import TarBytes

_TOP = "go/"
_WAITING = 16
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SLACK_BYTES = 32 << 20
_BLOCK_BYTES = 4096


@dataclass
class Unpacked:
    """What was made.

    Attributes:
        stamps: of each file, for `verify`.
        hashed_s, written_s: seconds spent, of both threads together.
    """

    stamps: dict[str, Stamp] = field(default_factory=dict)
    hashed_s: float = 0.0
    written_s: float = 0.0


def check_space(folder: Path, tree: Tree) -> None:
    """Accept a file system that has room for a tree.

    Raises:
        DiskError: too few bytes or inodes are free.
    """
    count = len(tree.entries)
    # Half a block of each file is wasted on average; a whole one is on the safe side.
    needed = tree.size_bytes + count * _BLOCK_BYTES + _SLACK_BYTES
    try:
        system = os.statvfs(folder)
    except OSError as error:
        raise disk_error(error, "look at") from error
    free = system.f_bavail * system.f_frsize
    if free < needed:
        raise disk_error(
            OSError(
                0, f"it needs {needed >> 20} MiB, and only {free >> 20} MiB are free", str(folder)
            ),
            "unpack into",
        )
    if system.f_files and system.f_favail < count:
        raise disk_error(
            OSError(0, f"it needs {count} inodes, and {system.f_favail} are free", str(folder)),
            "unpack into",
        )


def unpack(
    source: TarBytes,
    tree: Tree,
    folder: Path,
    *,
    only: frozenset[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Unpacked:
    """Make the tree's files below an empty folder, from the bytes of the tar.

    Args:
        source: read to its end.
        tree: the authority.
        folder: exists and is empty.
        only: paths to make; None for all. Their folders are made as well.
        progress: called with the bytes of each member.

    Raises:
        RefusedError: the tar is not what the tree says.
        DiskError: the file system refused.
    """
    done = Unpacked()
    chosen = [entry for entry in tree.entries.values() if only is None or entry.path in only]
    try:
        _make_folders(chosen, tree, folder)
        _make_files(source, tree, str(folder), only, done, progress)
        for entry in chosen:
            if entry.kind == LINK:
                (folder / entry.path).symlink_to(entry.target)
        # Deepest first: a folder may be read-only for its owner.
        for entry in reversed(chosen):
            if entry.kind == FOLDER:
                (folder / entry.path).chmod(entry.mode)
    except OSError as error:
        raise disk_error(error, "write") from error
    missing = [one.path for one in chosen if one.kind == FILE and one.path not in done.stamps]
    if missing:
        raise RefusedError(
            f"the archive lacks {len(missing)} files of its tree, such as {missing[0][:80]!a}"
        )
    return done


def _make_folders(chosen: list[Entry], tree: Tree, folder: Path) -> None:
    paths: set[str] = set()
    for entry in chosen:
        path = entry.path if entry.kind == FOLDER else posixpath.dirname(entry.path)
        while path and path not in paths:
            paths.add(path)
            path = posixpath.dirname(path)
    for path in sorted(paths):
        (folder / path).mkdir(0o755)


def _make_files(
    source: TarBytes,
    tree: Tree,
    folder: str,
    only: frozenset[str] | None,
    done: Unpacked,
    progress: Callable[[int], None] | None,
) -> None:
    entries, stamps, clock = tree.entries, done.stamps, time.perf_counter
    with _LargeFiles(folder, done) as large:
        for member in members(source):
            entry = _entry_of(member, entries)
            if entry is None or entry.kind != FILE:
                continue
            path = entry.path
            if path in stamps or path in large.paths:
                raise RefusedError(f"the archive has {path[:80]!a} twice")
            if only is not None and path not in only:
                continue
            if member.size > SMALL_BYTES:
                large.add(entry, member)
            else:
                (view,) = member.content
                started = clock()
                digest = hashlib.sha256(view).digest()
                hashed = clock()
                if digest != entry.sha256:
                    raise _differs(path)
                stamps[path] = _write_small(f"{folder}/{path}", view, entry.mode)
                done.hashed_s += hashed - started
                done.written_s += clock() - hashed
            if progress is not None:
                progress(member.size)


def _entry_of(member: Member, entries: dict[str, Entry]) -> Entry | None:
    """Return the tree's entry of a member; None for the top folder."""
    if member.path == "go" and member.kind == FOLDER:
        return None
    entry = entries.get(member.path[len(_TOP) :]) if member.path.startswith(_TOP) else None
    if entry is None:
        raise RefusedError(f"the archive has {member.path[:80]!a}, which its tree does not have")
    if entry[1] != member.kind or entry.size != member.size or entry.target != member.target:
        raise _differs(entry.path)
    return entry


def _differs(path: str) -> RefusedError:
    return RefusedError(f"the archive's {path[:80]!a} is not the one of its tree")


def _write_small(path: str, view: memoryview, mode: int) -> Stamp:
    descriptor = os.open(path, _FLAGS, mode)
    try:
        _write_all(descriptor, view)
        return _finished(descriptor, mode)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, view: memoryview) -> None:
    while view:
        view = view[os.write(descriptor, view) :]


def _finished(descriptor: int, mode: int) -> Stamp:
    """Return the file's stamp, after the umask's effect on its mode is undone."""
    status = os.fstat(descriptor)
    if status.st_mode & 0o7777 != mode:
        os.fchmod(descriptor, mode)
        status = os.fstat(descriptor)
    return stamp_of(status)


class _LargeFiles:
    """The thread for large files."""

    def __init__(self, folder: str, done: Unpacked) -> None:
        self._folder = folder
        self._done = done
        # Entry: begin this file. bytes: its next part.
        self._work: Handover[Entry | bytes] = Handover(_WAITING)
        self._thread = threading.Thread(target=self._run, name="large files", daemon=True)
        self._failure: BaseException | None = None
        self._hashed_s = self._written_s = 0.0
        self._stamps: dict[str, Stamp] = {}
        self.paths: set[str] = set()

    def __enter__(self) -> _LargeFiles:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self._work.abandon()
        self._work.end()
        self._thread.join()
        self._done.hashed_s += self._hashed_s
        self._done.written_s += self._written_s
        self._done.stamps.update(self._stamps)
        if kind is None and self._failure is not None:
            raise self._failure

    def add(self, entry: Entry, member: Member) -> None:
        """Hand over a file; the views of its content end with this call, so each is copied."""
        self.paths.add(entry.path)
        try:
            self._work.put(entry)
            for view in member.content:
                self._work.put(bytes(view))
        except AbandonedError:
            raise (self._failure or AssertionError("only a failure abandons")) from None

    def _run(self) -> None:
        try:
            item = self._work.get()
            while item is not None:
                assert isinstance(item, Entry)  # noqa: S101 - by the order of `add`
                item = self._file(item)
        except BaseException as error:  # the other thread raises it
            self._failure = error
            self._work.abandon()

    def _file(self, entry: Entry) -> Entry | bytes | None:
        """Make one file; return the item after its parts."""
        clock = time.perf_counter
        sums = hashlib.sha256()
        descriptor = os.open(f"{self._folder}/{entry.path}", _FLAGS, entry.mode)
        try:
            item = self._work.get()
            while isinstance(item, bytes):
                started = clock()
                sums.update(item)
                hashed = clock()
                _write_all(descriptor, memoryview(item))
                self._hashed_s += hashed - started
                self._written_s += clock() - hashed
                item = self._work.get()
            if sums.digest() != entry.sha256:
                raise _differs(entry.path)
            self._stamps[entry.path] = _finished(descriptor, entry.mode)
        finally:
            os.close(descriptor)
        return item
