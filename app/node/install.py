"""A release onto the machine, and into use. Each step says what a kill right there leaves.

Everything here runs under the root's lock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable

from .decompress import TAR_GZ
from .durable import sync_folder
from .errors import RefusedError, SmokeTestError, UsageError, disk_error
from .goversion import this_platform
from .hooks import AFTER, BEFORE, run_hooks
from .layout import Layout
from .repair import ServersMaker, repair
from .smoke import FULL as SMOKE_FULL
from .smoke import NONE as SMOKE_NONE
from .smoke import smoke_test
from .snapshot import (
    Record,
    prune,
    read_record,
    read_tree,
    switch,
    write_record,
    write_snapshot_files,
    write_stamps,
)
from .transfer import Seconds, describe_form, staging, transfer
from .tree import parse_tree
from .verify import DEFAULT, verify

if TYPE_CHECKING:
    from pathlib import Path

    from .offer import Offer

INSTALLED, SWITCHED, UNCHANGED = "installed", "switched", "unchanged"


def _nobody(event: str, stage: str, reason: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Wishes:
    """How a release is brought in.

    Attributes:
        form: "auto", "zst" or "tar.gz".
        smoke: "full", "version" or "none".
        keep: count of snapshots that stay.
        gpg: keyring that must have signed the `.tar.gz`; None for no such check.
        progress: called with (bytes done, bytes of all) while a release is unpacked.
        tell: called with event, stage and reason for each event of a report.
    """

    form: str = "auto"
    smoke: str = SMOKE_FULL
    keep: int = 3
    gpg: Path | None = None
    progress: Callable[[int, int], None] | None = None
    tell: Callable[[str, str, str], None] = _nobody


@dataclass(frozen=True)
class Installation:
    """What an installation did.

    Attributes:
        version: that is current now.
        previous: that was current before; None for none.
        result: INSTALLED, SWITCHED (it was on the disk already) or UNCHANGED.
        form: that was fetched, for people; "" for nothing.
        repaired: count of paths that had to be mended.
        pruned: versions that were removed.
    """

    version: str
    previous: str | None
    result: str
    form: str = ""
    repaired: int = 0
    pruned: tuple[str, ...] = ()


def install(
    layout: Layout, make_servers: ServersMaker, offer: Offer, seconds: Seconds, wishes: Wishes
) -> Installation:
    """Bring a release in, test it, and make it current.

    Raises:
        NodeError: a step failed; what was current before still is.
    """
    previous = layout.current_version()
    record = _known(layout, make_servers, offer)
    form, repaired = "", 0
    if record is None:
        record, form = _bring(layout, make_servers, offer, seconds, wishes)
    elif verify(layout, record, DEFAULT):
        drift = repair(layout, record, make_servers, offer, seconds, form=wishes.form)
        repaired = len(drift)
        wishes.tell("repaired", "repaired", f"{repaired} paths")
    elif record.is_good and previous == record.version:
        return Installation(record.version, previous, UNCHANGED)
    put_into_use(layout, record, seconds, wishes)
    return Installation(
        version=record.version,
        previous=previous,
        result=INSTALLED if form else SWITCHED,
        form=describe_form(form) if form else "",
        repaired=repaired,
        pruned=tuple(prune(layout, keep=wishes.keep)),
    )


def _known(layout: Layout, make_servers: ServersMaker, offer: Offer) -> Record | None:
    """Return the record of the snapshot that the offer is about; None if there is none.

    A damaged record or tree of a snapshot that was made here is written anew, as the offer says.
    A record of the same tree takes over what a manifest says: who signed it, and what the `.zst` is
    now.
    """
    try:
        record = read_record(layout, offer.version)
        if record is None or record.tree != offer.file.tree:
            return None
        read_tree(layout, record)
    except RefusedError:
        servers = make_servers()
        try:
            raw = offer.small_file(servers, ".tree", offer.file.tree)
        finally:
            servers.close()
        parse_tree(raw)
        record = _record_of(offer)
        write_snapshot_files(layout, record, raw)
        return record
    if not offer.key:
        return record
    signed = replace(
        _record_of(offer),
        installed_at=record.installed_at,
        current_at=record.current_at,
        is_good=record.is_good,
    )
    if signed != record:
        write_record(layout, signed)
    return signed


def _bring(
    layout: Layout,
    make_servers: ServersMaker,
    offer: Offer,
    seconds: Seconds,
    wishes: Wishes,
) -> tuple[Record, str]:
    """Make the snapshot and return its record, and the form that was fetched.

    Until the rename at the end nobody sees anything of it.
    """
    final = layout.snapshot(offer.version)
    if final.exists() or final.is_symlink():
        raise UsageError(
            f"{final} exists, and is not the {offer.version} of this channel: move it away"
        )
    servers = make_servers()
    try:
        raw = offer.small_file(servers, ".tree", offer.file.tree)
        form = offer.form_at(servers, TAR_GZ if wishes.gpg else wishes.form)
        with staging(layout) as folder:
            unpacked = transfer(
                servers,
                offer,
                raw,
                folder,
                seconds,
                form=form,
                gpg=wishes.gpg,
                progress=wishes.progress,
            )
            # Crash: a staging folder, which the next run removes.
            for event in ("downloaded", "verified", "unpacked"):
                wishes.tell(event, event, "")
            record = _record_of(offer)
            write_snapshot_files(layout, record, raw)
            # Crash: a record without a snapshot, which the next run removes.
            try:
                write_stamps(layout, offer.version, unpacked.stamps)
                folder.rename(final)
                # Crash: a complete snapshot, not yet tested. The next run tests it.
                sync_folder(layout.root)
            except OSError as error:
                raise disk_error(error, "rename") from error
    finally:
        servers.close()
    return record, form


def _record_of(offer: Offer) -> Record:
    file = offer.file
    return Record(
        version=offer.version,
        filename=file.filename,
        platform=offer.platform,
        tree=file.tree,
        chunks=file.chunks,
        zst_chunks=file.zst.chunks if file.zst else "",
        size=file.size,
        zst_size=file.zst.size if file.zst else 0,
        channel=offer.channel,
        revision=offer.revision,
        key=offer.key,
        installed_at=int(time.time()),
    )


def put_into_use(layout: Layout, record: Record, seconds: Seconds, wishes: Wishes) -> None:
    """Test a complete snapshot and make it current.

    Raises:
        SmokeTestError: the smoke test or a hook failed; the release before is current.
        DiskError: the file system refused; the release before is current.
    """
    previous = layout.current_version()
    level = wishes.smoke if record.platform == this_platform() else SMOKE_NONE
    try:
        with seconds.of("smoke"):
            smoke_test(layout, record.version, level)
            run_hooks(layout, BEFORE, record.version, previous)
    except SmokeTestError:
        _mark_bad(layout, record)
        raise
    wishes.tell("tested", "tested", level)
    switched = switch(layout, record, now=time.time())
    # Crash: the new release is current, and nobody was told yet: the next check-in says so.
    try:
        run_hooks(layout, AFTER, record.version, previous)
    except SmokeTestError as error:
        _take_back(layout, switched, previous)
        wishes.tell("rolled-back", "switched", str(error))
        raise
    wishes.tell("switched", "switched", "")


def _mark_bad(layout: Layout, record: Record) -> None:
    # A snapshot that is current already stays what it is: it worked before.
    if layout.current_version() != record.version and record.is_good:
        write_record(layout, replace(record, is_good=False))


def _take_back(layout: Layout, record: Record, previous: str | None) -> None:
    write_record(layout, replace(record, is_good=False))
    before = read_record(layout, previous) if previous else None
    if before is not None and previous != record.version:
        switch(layout, before, now=time.time())
        return
    try:
        if previous is None:
            layout.current.unlink()
    except OSError as error:
        raise disk_error(error, "switch back") from error
