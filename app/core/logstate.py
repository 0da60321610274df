"""What a public checksum database has said of stored content."""

from enum import StrEnum


class LogState(StrEnum):
    """The public log's answer about a stored file, or why the log was not asked."""

    NONE = ""  # no log has records of such a file (an .info)
    PRIVATE = "private"  # the name is private: no public log may learn it
    OFF = "off"  # the route asks no log
    UNVERIFIED = "unverified"  # the log was not asked yet, or did not answer
    VERIFIED = "verified"
    REFUSED = "refused"  # the log has another h1; the file is not served
