"""Moorage: a private Go toolchain mirror and module proxy.

Folders are layers and imports point down only: cli, server, main, wiring, then worker and web,
services, then db, storage and upstream, then settings, logs and metrics, and core at the bottom.
"""

from datetime import UTC, datetime

__version__ = "0.1.0"
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""No later than the release of this version: a clock that says an earlier time is wrong."""
