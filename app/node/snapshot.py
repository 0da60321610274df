"""Installed releases: their records, the switch, and which ones are kept.

A snapshot is a folder whose files are exactly those of its tree. Its record lies beside it, below
`.moorage/snapshots/`, and is durable before the folder gets its name: a folder without a record
was not made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from .durable import read_json, replace_file, replace_link, sync_folder, write_json
from .errors import RefusedError, UsageError, disk_error
from .goversion import is_version
from .layout import STAGING, Layout, remove
from .tree import Tree, parse_tree

if TYPE_CHECKING:
    from pathlib import Path

KEPT = 3

# What tells that a file was touched: size, mode, mtime and ctime in ns, inode.
Stamp = tuple[int, int, int, int, int]


def stamp_of(status: os.stat_result) -> Stamp:
    """Return a file's stamp: while it stays the same, so does the content."""
    return (
        status.st_size,
        status.st_mode & 0o7777,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
    )


@dataclass(frozen=True)
class Record:
    """What is known of a snapshot.

    Attributes:
        version: "go1.23.1".
        filename: of the archive it came from.
        platform: "linux-amd64".
        tree: hex SHA-256 of its tree.
        chunks: hex SHA-256 of the sums of the archive, for repairs.
        zst_chunks: the same of the `.zst`; "" where there was none.
        size: bytes of the archive; 0 if unknown.
        zst_size: bytes of the `.zst`; 0 if there was none.
        channel, revision: of the manifest that named it; "" and 0 without a manifest.
        key: id of the key that signed the manifest; "" without one.
        installed_at: seconds since 1970.
        current_at: when it last became current; 0 for never. It grows with each switch: by a
            second where the clock did not, since it says which release was the one before.
        is_good: its smoke test and hooks succeeded.
    """

    version: str
    filename: str
    platform: str
    tree: str
    chunks: str
    zst_chunks: str = ""
    size: int = 0
    zst_size: int = 0
    channel: str = ""
    revision: int = 0
    key: str = ""
    installed_at: int = 0
    current_at: int = 0
    is_good: bool = False


def write_snapshot_files(layout: Layout, record: Record, tree: bytes) -> None:
    """Write tree and record of a snapshot, durably, in this order.

    Raises:
        DiskError: a file can't be written.
    """
    try:
        replace_file(layout.record(record.version, "tree"), tree)
        write_json(layout.record(record.version, "json"), asdict(record))
    except OSError as error:
        raise disk_error(error, "write") from error


def write_record(layout: Layout, record: Record) -> None:
    """Replace a snapshot's record, durably.

    Raises:
        DiskError: the file can't be written.
    """
    try:
        write_json(layout.record(record.version, "json"), asdict(record))
    except OSError as error:
        raise disk_error(error, "write") from error


def read_record(layout: Layout, version: str) -> Record | None:
    """Return a snapshot's record; None if there is no snapshot, or it was not made here.

    Raises:
        RefusedError: the record is damaged.
        DiskError: it can't be read.
    """
    if not layout.snapshot(version).is_dir():
        return None
    try:
        fields = read_json(layout.record(version, "json"))
        return Record(**fields) if fields else None
    except TypeError as error:
        raise RefusedError(
            f"{layout.record(version, 'json')} is of another form; install {version} again"
        ) from error
    except OSError as error:
        raise disk_error(error, "read") from error


def records(layout: Layout) -> list[Record]:
    """Return every snapshot's record: the one that was current last comes first.

    Raises:
        RefusedError: a record is damaged.
        DiskError: the root can't be read.
    """
    try:
        names = [path.name for path in layout.root.iterdir() if is_version(path.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise disk_error(error, "read") from error
    every = [record for record in (read_record(layout, name) for name in names) if record]
    return sorted(every, key=lambda one: (one.current_at, one.installed_at), reverse=True)


def read_tree(layout: Layout, record: Record) -> Tree:
    """Return a snapshot's tree, which is the one of its record.

    Raises:
        RefusedError: the file is missing or was changed.
        DiskError: it can't be read.
    """
    path = layout.record(record.version, "tree")
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raw = b""
    except OSError as error:
        raise disk_error(error, "read") from error
    if hashlib.sha256(raw).hexdigest() != record.tree:
        raise RefusedError(
            f"{path} is not the tree that {record.version} was installed with; "
            f"install {record.version} again"
        )
    return parse_tree(raw)


def write_stamps(layout: Layout, version: str, stamps: dict[str, Stamp]) -> None:
    """Keep the stamps of a full check. Without them the next check hashes: no fsync is needed.

    Raises:
        OSError: the file can't be written.
    """
    path = layout.record(version, "stat")
    temp = path.with_name(f".{path.name}")
    temp.write_text(json.dumps(stamps, separators=(",", ":")))
    temp.replace(path)


def read_stamps(layout: Layout, version: str) -> dict[str, Stamp]:
    """Return the stamps of the last full check; none if they can't be read."""
    try:
        values = json.loads(layout.record(version, "stat").read_bytes())
        return {path: (a, b, c, d, e) for path, (a, b, c, d, e) in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def switch(layout: Layout, record: Record, *, now: float) -> Record:
    """Make a snapshot current, durably, and return its new record.

    Raises:
        DiskError: the link can't be replaced; the old release stays current.
    """
    if layout.current.exists() and not layout.current.is_symlink():
        raise UsageError(f"{layout.current} is no link; it was not made here: move it away")
    # The record first. Crash: it says "was current", and a rollback may choose it, which is right
    # for a snapshot that is good.
    last = max((one.current_at for one in records(layout)), default=0)
    switched = replace(record, current_at=max(int(now), last + 1), is_good=True)
    write_record(layout, switched)
    try:
        replace_link(layout.current, record.version)
    except OSError as error:
        raise disk_error(error, "switch") from error
    return switched


def point_link(layout: Layout, link: Path) -> None:
    """Make a further link, such as /usr/local/go, that leads to `current`.

    Raises:
        UsageError: something else has that name.
        DiskError: the link can't be made.
    """
    if link.exists() and not link.is_symlink():
        raise UsageError(f"{link} is no link: move it away, then it can become one")
    try:
        if not link.is_symlink() or os.readlink(link) != str(layout.current):
            replace_link(link, str(layout.current))
    except OSError as error:
        raise disk_error(error, "link") from error


def prune(layout: Layout, *, keep: int = KEPT) -> list[str]:
    """Remove all snapshots but the newest good ones, and return their names.

    The current snapshot always stays. Snapshots that failed their test go first.

    Raises:
        DiskError: a snapshot can't be removed.
    """
    current = layout.current_version()
    every = records(layout)
    good = [one.version for one in every if one.is_good and one.version != current]
    kept = {current, *good[: max(0, keep - (current is not None))]}
    removed = [one.version for one in every if one.version not in kept]
    for version in removed:
        remove_snapshot(layout, version)
    return removed


def remove_snapshot(layout: Layout, version: str) -> None:
    """Remove a snapshot and its record.

    Raises:
        DiskError: it can't be removed; what is left is removed by the next run.
    """
    try:
        # Renamed first: a half removed folder must not have a release's name.
        aside = layout.root / f"{STAGING}removed-{version}-{time.monotonic_ns()}"
        with contextlib.suppress(FileNotFoundError):
            layout.snapshot(version).rename(aside)
            sync_folder(layout.root)
            # Crash: a record without a snapshot, and a staging folder: the next run removes both.
            remove(aside)
        for kind in ("json", "stat", "tree"):
            layout.record(version, kind).unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(error, "remove") from error
