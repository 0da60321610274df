"""Moorage: a private Go toolchain mirror and module proxy.

Folders are layers and imports point down only: cli, server, main, wiring, then worker and web,
services, then db, storage and upstream, then settings, logs and metrics, and core at the bottom.
"""

__version__ = "0.1.0"
