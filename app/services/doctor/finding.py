"""What a check of `moorage doctor` says."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad something is."""

    OK = "ok"
    WARNING = "warning"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        about: "disk".
        text: what was seen.
        advice: what to do; "" if nothing.
    """

    about: str
    level: Level
    text: str
    advice: str = ""


def ok(about: str, text: str) -> Finding:
    """Return that all is well."""
    return Finding(about, Level.OK, text)
