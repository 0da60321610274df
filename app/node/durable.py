"""fsync and rename: the only writers of state, and what makes a snapshot durable."""

from __future__ import annotations

import ctypes
import json
import os
import secrets
from pathlib import Path
from typing import Any

from .errors import RefusedError


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_below(folder: Path) -> None:
    """Make everything below a folder durable: one syncfs, since 15,000 fsyncs take a minute.

    Raises:
        OSError: the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _syncfs(descriptor):
            # No syncfs on this system. sync() reports no error and, on Linux alone, waits.
            os.sync()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _syncfs(descriptor: int) -> bool:
    try:
        call = ctypes.CDLL(None, use_errno=True).syncfs
    except (OSError, AttributeError):
        return False
    if call(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def replace_file(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Make or replace a small file durably; a reader finds the old one or the new one.

    Raises:
        OSError: the file can't be written; the old one stays.
    """
    temp = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        # Crash: a temporary file that nobody reads; the next run removes it.
        temp.replace(path)
        # Crash: the new file; a power cut may bring the old one back.
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Make or replace a symbolic link durably; a reader finds the old target or the new one.

    Raises:
        OSError: the link can't be made; the old one stays.
    """
    temp = link.with_name(f".{link.name}.{secrets.token_hex(8)}")
    try:
        temp.symlink_to(target)
        # Crash: a temporary link; the next run removes it.
        temp.replace(link)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


def write_json(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write a value as JSON, durably.

    Raises:
        OSError: the file can't be written; the old one stays.
    """
    replace_file(path, json.dumps(value, sort_keys=True, indent=1).encode() + b"\n", mode=mode)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one if there is no file.

    Raises:
        RefusedError: the file holds something else.
        OSError: the file can't be read.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        value = json.loads(raw)
    except ValueError as error:
        raise RefusedError(f"{path} is damaged: it is not JSON; remove it and try again") from error
    if not isinstance(value, dict):
        raise RefusedError(f"{path} is damaged: it is no JSON object; remove it and try again")
    return value
