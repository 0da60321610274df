"""One run at a time changes a root. The kernel frees the lock when its holder dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from .errors import NotNowError, disk_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layout import Layout


@contextlib.contextmanager
def locked(layout: Layout) -> Iterator[None]:
    """Hold the root's lock, and remove what a killed run left.

    Inside, the umask is 022: what the root's owner installs, other users may read and run.

    Raises:
        NotNowError: another run holds the lock.
        DiskError: the root can't be written.
    """
    umask = os.umask(0o022)
    try:
        yield from _held(layout)
    finally:
        os.umask(umask)


def _held(layout: Layout) -> Iterator[None]:
    layout.make()
    try:
        descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise disk_error(error, "write") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NotNowError(f"another moorage-node works on {layout.root}") from error
        layout.clean()
        yield
    finally:
        os.close(descriptor)
