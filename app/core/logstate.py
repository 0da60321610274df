"""What a public checksum database has said of stored content."""

from enum import StrEnum


class LogState(StrEnum):
    """Where a stored file stands with the public log."""

    NONE = ""  # no log is about it: an .info
    PRIVATE = "private"  # its name is told to no public log
    OFF = "off"  # its route asks none
    UNVERIFIED = "unverified"  # not asked yet, or it could not be asked
    VERIFIED = "verified"
    REFUSED = "refused"  # the log vouches for other content; it is not served
