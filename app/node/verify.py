"""Is a snapshot still exactly its tree?

    quick     names and types
    default   also size, mode and times against the last full check; content where they differ
    full      also the SHA-256 of every file

Links are never followed: a folder that became a link is a change, and what lies behind it is not
looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from .errors import disk_error
from .snapshot import Record, Stamp, read_stamps, read_tree, stamp_of, write_stamps
from .tree import FILE, FOLDER, LINK, Entry, Tree

if TYPE_CHECKING:
    from .layout import Layout

QUICK, DEFAULT, FULL = "quick", "default", "full"
_THREADS = 4
_BLOCK_BYTES = 1 << 20


@dataclass
class Drift:
    """How a snapshot differs from its tree; paths relative to the snapshot, sorted.

    Attributes:
        missing: in the tree, not on the disk.
        changed: path to what differs: "type", "mode", "size", "content" or "target".
        extra: on the disk, not in the tree.
        hashed: count of files whose content was read.
    """

    missing: list[str] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    extra: list[str] = field(default_factory=list)
    hashed: int = 0

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.extra)

    def __len__(self) -> int:
        return len(self.missing) + len(self.changed) + len(self.extra)


def verify(
    layout: Layout,
    record: Record,
    level: str,
    progress: Callable[[int], None] | None = None,
) -> Drift:
    """Return how a snapshot differs from its tree; afterwards the stamps are those of this check.

    Args:
        layout: of the root.
        record: of the snapshot.
        level: QUICK, DEFAULT or FULL.
        progress: called with the bytes of each file that was hashed.

    Raises:
        RefusedError: the snapshot's tree is missing or was changed.
        DiskError: a file can't be read.
    """
    tree = read_tree(layout, record)
    folder = layout.snapshot(record.version)
    stamps = read_stamps(layout, record.version) if level == DEFAULT else {}
    check = _Check(tree, str(folder), level, stamps)
    try:
        check.walk("")
        check.hash(progress)
    except OSError as error:
        raise disk_error(error, "read") from error
    drift = check.result()
    if level != QUICK and check.stamps != stamps:
        _keep_stamps(layout, record.version, check.stamps)
    return drift


def _keep_stamps(layout: Layout, version: str, stamps: dict[str, Stamp]) -> None:
    # On a read-only root the next check hashes again.
    with contextlib.suppress(OSError):
        write_stamps(layout, version, stamps)


class _Check:
    """One verification.

    Attributes:
        stamps: of the files that are right.
    """

    def __init__(self, tree: Tree, folder: str, level: str, stamps: dict[str, Stamp]) -> None:
        self._entries = tree.entries
        self._folder = folder
        self._level = level
        self._known = stamps
        self._drift = Drift()
        self._seen: set[str] = set()
        self._to_hash: list[Entry] = []
        self.stamps: dict[str, Stamp] = {}

    def walk(self, inner: str) -> None:
        """Compare what is in a folder, and below it, with the tree."""
        with os.scandir(f"{self._folder}/{inner}") as listing:
            items = list(listing)
        for item in items:
            path = f"{inner}/{item.name}" if inner else item.name
            entry = self._entries.get(path)
            if entry is None:
                self._extra(path, item)
                continue
            self._seen.add(path)
            kind = _kind_of(item)
            if kind != entry.kind:
                self._drift.changed[path] = "type"
            elif kind == LINK:
                if os.readlink(item.path) != entry.target:
                    self._drift.changed[path] = "target"
            elif kind == FOLDER:
                self.walk_folder(entry, item)
            elif self._level != QUICK:
                self._file(entry, item.stat(follow_symlinks=False))

    def walk_folder(self, entry: Entry, item: os.DirEntry[str]) -> None:
        """Compare a folder that is one."""
        if self._level != QUICK:
            mode = stat.S_IMODE(item.stat(follow_symlinks=False).st_mode)
            if mode != entry.mode:
                self._drift.changed[entry.path] = "mode"
        try:
            self.walk(entry.path)
        except PermissionError:
            # What is in it can't be told from here: not missing, but not checked either.
            self._drift.changed[entry.path] = "mode"
            self._seen.update(path for path in self._entries if path.startswith(f"{entry.path}/"))

    def _extra(self, path: str, item: os.DirEntry[str]) -> None:
        self._drift.extra.append(path)
        if item.is_dir(follow_symlinks=False):
            with os.scandir(item.path) as listing:
                for inner in listing:
                    self._extra(f"{path}/{inner.name}", inner)

    def _file(self, entry: Entry, status: os.stat_result) -> None:
        stamp = stamp_of(status)
        if stamp[0] != entry.size:
            self._drift.changed[entry.path] = "size"
            return
        if stamp[1] != entry.mode:
            self._drift.changed[entry.path] = "mode"
        if self._known.get(entry.path) == stamp:
            self.stamps[entry.path] = stamp
        else:
            self._to_hash.append(entry)

    def hash(self, progress: Callable[[int], None] | None) -> None:
        """Hash the files whose stamps do not vouch for them."""
        if not self._to_hash:
            return
        # Here, because its import takes as long as all the rest of a quick check.
        from concurrent.futures import ThreadPoolExecutor

        # A thread takes a share: one task for each of 15,000 files would cost more than it saves.
        shares = [self._to_hash[number::_THREADS] for number in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as pool:
            for part in pool.map(lambda share: self._hash_share(share, progress), shares):
                self._drift.hashed += part

    def _hash_share(self, share: list[Entry], progress: Callable[[int], None] | None) -> int:
        for entry in share:
            try:
                digest, stamp = _hash_file(f"{self._folder}/{entry.path}")
            except PermissionError:
                self._drift.changed[entry.path] = "mode"
                continue
            if digest != entry.sha256:
                self._drift.changed[entry.path] = "content"
            elif stamp[1] == entry.mode:
                self.stamps[entry.path] = stamp
            if progress is not None:
                progress(entry.size)
        return len(share)

    def result(self) -> Drift:
        """Return the drift, sorted."""
        drift = self._drift
        drift.missing = sorted(self._entries.keys() - self._seen)
        drift.changed = dict(sorted(drift.changed.items()))
        drift.extra.sort()
        return drift


def _kind_of(item: os.DirEntry[str]) -> str:
    if item.is_symlink():
        return LINK
    if item.is_dir(follow_symlinks=False):
        return FOLDER
    return FILE if item.is_file(follow_symlinks=False) else "other"


def _hash_file(path: str) -> tuple[bytes, Stamp]:
    """Return SHA-256 and stamp of one open file; the stamp is taken before the first byte."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        stamp = stamp_of(os.fstat(descriptor))
        sums = hashlib.sha256()
        while block := os.read(descriptor, _BLOCK_BYTES):
            sums.update(block)
        return sums.digest(), stamp
    finally:
        os.close(descriptor)


def missing_content(drift: Drift, tree: Tree) -> frozenset[str]:
    """Return the files, folders and links that have to come from the archive."""
    wrong = {path for path, what in drift.changed.items() if what != "mode"}
    return frozenset(wrong.union(drift.missing) & tree.entries.keys())
