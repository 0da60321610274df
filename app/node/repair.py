"""What differs in a snapshot becomes what its tree says; nothing else is touched.

Each file is replaced by a rename, so that a compiler which runs meanwhile keeps the file that it
has open. A run that is killed leaves some files mended and the rest as they were.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Callable

from .durable import sync_below
from .errors import RefusedError, disk_error
from .layout import Layout, remove
from .offer import Offer
from .snapshot import Record, read_tree
from .transfer import Seconds, staging, transfer
from .tree import FOLDER, LINK, Tree
from .verify import FULL, Drift, missing_content, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .fetch import Servers

ServersMaker = Callable[[], "Servers"]


def repair(
    layout: Layout,
    record: Record,
    make_servers: ServersMaker,
    offer: Offer,
    seconds: Seconds,
    *,
    form: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Drift:
    """Mend a snapshot and return how it had differed.

    Args:
        layout: of the root; the caller has its lock.
        record: of the snapshot.
        make_servers: called if content has to be fetched; modes and extra files need no network.
        offer: where the snapshot's archive is.
        seconds: of the stages.
        form: "auto", "zst" or "tar.gz".
        progress: called with (bytes done, bytes of all files).

    Raises:
        NetworkError: the archive can't be fetched.
        RefusedError: the archive is not what the record says, or the snapshot still differs.
        DiskError: the file system refused.
    """
    drift = verify(layout, record, FULL)
    if not drift:
        return drift
    tree, folder = read_tree(layout, record), layout.snapshot(record.version)
    try:
        if "mode" in drift.changed.values():
            # Modes first: what is below an unreadable folder shows only afterwards.
            _set_modes(
                folder, tree, {path for path, what in drift.changed.items() if what == "mode"}
            )
            drift = _both(drift, verify(layout, record, FULL))
        needed = missing_content(drift, tree)
        _remove_extra(folder, drift)
        if any(tree.entries[path].kind != FOLDER for path in needed):
            with staging(layout) as fresh, contextlib.closing(make_servers()) as servers:
                transfer(
                    servers, offer, tree, fresh, seconds,
                    form=offer.form_at(servers, form), only=needed, progress=progress,
                )  # fmt: skip
                _place(folder, tree, needed, fresh)
        else:
            _place(folder, tree, needed, None)
        _set_modes(folder, tree, needed)
        sync_below(folder)
    except OSError as error:
        raise disk_error(error, "mend") from error
    left = verify(layout, record, FULL)
    if left:
        raise RefusedError(f"{folder} still differs in {len(left)} places after the repair")
    return drift


def _remove_extra(folder: Path, drift: Drift) -> None:
    gone: set[str] = set()
    for path in drift.extra:  # sorted: a folder before what is in it
        if posixpath.dirname(path) in gone:
            gone.add(path)
            continue
        with _writable(folder, path):
            remove(folder / path)
        gone.add(path)


def _place(folder: Path, tree: Tree, needed: frozenset[str], fresh: Path | None) -> None:
    """Put what is missing or wrong in its place, folders first."""
    for entry in sorted((tree.entries[path] for path in needed), key=lambda one: one.path):
        target = folder / entry.path
        with _writable(folder, entry.path):
            if entry.kind == FOLDER:
                _make_folder(target)
                continue
            if target.is_dir() and not target.is_symlink():
                remove(target)
            if fresh is not None:
                (fresh / entry.path).replace(target)


def _make_folder(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        target.unlink()
    target.mkdir(exist_ok=True)


def _set_modes(folder: Path, tree: Tree, paths: Iterable[str]) -> None:
    """Set modes, those of folders before those of what is in them."""
    for path in sorted(paths):
        if tree.entries[path].kind != LINK:
            (folder / path).chmod(tree.entries[path].mode)


def _both(first: Drift, second: Drift) -> Drift:
    """Return what either of two checks saw; the content that the second one saw counts."""
    return Drift(
        missing=second.missing,
        changed=dict(sorted({**first.changed, **second.changed}.items())),
        extra=second.extra,
        hashed=first.hashed + second.hashed,
    )


@contextlib.contextmanager
def _writable(folder: Path, path: str) -> Iterator[None]:
    """Let the owner change what is in a read-only folder for a moment."""
    parent = folder / posixpath.dirname(path)
    if os.access(parent, os.W_OK | os.X_OK):
        yield
        return
    mode = parent.stat().st_mode & 0o7777
    parent.chmod(mode | 0o700)
    try:
        yield
    finally:
        parent.chmod(mode)
