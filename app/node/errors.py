"""What can go wrong on a node, by the reaction of whoever started the program.

    NodeError            exit code 1: failed, the old release is in place
      NetworkError       no server gave the answer; trying again may help
      RefusedError       what a server gave, or what is on the disk, is not what was promised
      DiskError          the file system refused
    UsageError           exit code 2
    DriftError           exit code 3: a snapshot is no longer its tree
    NotNowError          exit code 4: nothing is allowed now

Each message is one whole line for the person who reads it.
"""

from __future__ import annotations

import errno

DONE, FAILED, USAGE, DRIFT, NOT_NOW = 0, 1, 2, 3, 4


class NodeError(Exception):
    """The command failed.

    Attributes:
        stage: what failed, in the words of a report: "downloaded", "verified", "tested", ….
        trace: trace id under which the server knows the failure; "" if it does not.
    """

    exit_code = FAILED
    stage = "verified"
    trace = ""


class NetworkError(NodeError):
    """No server gave the answer.

    Attributes:
        status: the HTTP status of the last answer; 0 without an answer.
        retry_after_s: seconds after which the server, too busy now, wants to be asked again; 0 if
            it named none.
    """

    stage = "downloaded"

    def __init__(self, message: str, status: int = 0, retry_after_s: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class RefusedError(NodeError):
    """Something is not what was promised: a signature, a sum, a name."""


class SmokeTestError(NodeError):
    """The smoke test or a hook failed."""

    stage = "tested"


class DiskError(NodeError):
    """The file system refused."""

    stage = "unpacked"


class UsageError(NodeError):
    """The command line, or what the machine is set up for, makes no sense."""

    exit_code = USAGE


class DriftError(NodeError):
    """A snapshot is no longer its tree."""

    exit_code = DRIFT
    stage = "drift"


class NotNowError(NodeError):
    """Nothing is allowed now: the server holds this node, or another run is at work."""

    exit_code = NOT_NOW


_HINTS = {
    errno.ENOSPC: "the disk is full (bytes or inodes)",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied; run as the owner of the root, or as root",
    errno.EPERM: "not permitted; run as the owner of the root, or as root",
    errno.EIO: "the disk reports an error",
}


def disk_error(error: OSError, doing: str) -> DiskError:
    """Return the line for a failed file operation: "can't write /opt/go/…: the disk is full"."""
    reason = _HINTS.get(error.errno or 0) or error.strerror or str(error)
    where = f" {error.filename}" if error.filename else ""
    return DiskError(f"can't {doing}{where}: {reason}")
