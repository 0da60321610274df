"""From the server to a staging folder: fetching, checking, decompressing and writing overlap."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from .decompress import ZST, tar_bytes, zstd_way
from .durable import sync_below
from .errors import disk_error
from .gpg import signed_pieces
from .layout import Layout, remove
from .tree import Tree, parse_tree
from .unpack import Unpacked, check_space, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fetch import Servers
    from .offer import Offer


@dataclass
class Seconds:
    """Where the time went, in seconds; stages overlap, so that their sum is more than the whole.

    Attributes:
        stages: "network" (waiting for bytes), "hashing", "decompression", "writing", "durable",
            "smoke", "whole".
    """

    stages: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        self.stages[stage] = round(self.stages.get(stage, 0.0) + seconds, 4)

    @contextlib.contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time of a block to a stage."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter() - started)


@contextlib.contextmanager
def staging(layout: Layout) -> Iterator[Path]:
    """Yield a new staging folder, and remove what is left of it afterwards."""
    folder = layout.new_staging()
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):  # the next run tries again
            if folder.is_dir():
                remove(folder)


def transfer(
    servers: Servers,
    offer: Offer,
    tree: Tree | bytes,
    folder: Path,
    seconds: Seconds,
    *,
    form: str,
    only: frozenset[str] | None = None,
    gpg: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Unpacked:
    """Make the release's files in folder, durably, each of them checked.

    Args:
        servers: for this transfer alone.
        offer: which archive.
        tree: a raw one is parsed while the first pieces of the archive are on their way.
        folder: exists and is empty.
        seconds: of the stages.
        form: of `decompress`.
        only: paths to make; None for all.
        gpg: keys of which one must have signed the `.tar.gz`; nothing is unpacked before.
        progress: called with (bytes done, bytes of all files).

    Raises:
        NetworkError: no server gave the archive.
        RefusedError: something is not what was promised.
        DiskError: the file system refused.
    """
    pieces = offer.pieces(servers, form)
    if gpg is not None:
        signature = servers.get(f"{offer.base}{offer.file.filename}.asc")
        pieces = signed_pieces(pieces, signature, gpg, folder)
    with tar_bytes(pieces, form) as source:
        if isinstance(tree, bytes):
            tree = parse_tree(tree)
        if only is None:
            check_space(folder, tree)
        unpacked = unpack(source, tree, folder, only=only, progress=_sum(progress, tree))
        seconds.add("decompression", source.spent_s)
    with seconds.of("durable"):
        try:
            sync_below(folder)
        except OSError as error:
            raise disk_error(error, "make durable") from error
    seconds.add("network", servers.waited_s)
    seconds.add("hashing", servers.checked_s + unpacked.hashed_s)
    seconds.add("writing", unpacked.written_s)
    return unpacked


def _sum(progress: Callable[[int, int], None] | None, tree: Tree) -> Callable[[int], None] | None:
    """Return what takes the bytes of each member, and calls progress with their sum."""
    if progress is None:
        return None
    call, whole, done = progress, tree.size_bytes, 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        call(done, whole)

    return add


def describe_form(form: str) -> str:
    """Return the form for people and reports: "zst (program)", "tar.gz"."""
    return f"{form} ({zstd_way()})" if form == ZST else form
