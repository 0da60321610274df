"""From the server to a staging folder: fetching, checking, decompressing and writing overlap."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable

from .decompress import ZST, tar_bytes, zstd_way
from .durable import sync_below
from .errors import disk_error
from .layout import Layout, remove
from .unpack import Unpacked, check_space, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .fetch import Servers
    from .offer import Offer
    from .tree import Tree


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
    tree: Tree,
    folder: Path,
    seconds: Seconds,
    *,
    form: str,
    only: frozenset[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Unpacked:
    """Make the release's files in folder, durably, each of them checked.

    Raises:
        NetworkError: no server gave the archive.
        RefusedError: something is not what was promised.
        DiskError: the file system refused.
    """
    if only is None:
        check_space(folder, tree)
    pieces = offer.pieces(servers, form)
    with tar_bytes(pieces, form) as source:
        unpacked = unpack(source, tree, folder, only=only, progress=progress)
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


def describe_form(form: str) -> str:
    """Return the form for people and reports: "zst (program)", "tar.gz"."""
    return f"{form} ({zstd_way()})" if form == ZST else form
