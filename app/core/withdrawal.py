"""Taking back what was published: retired, or gone for good. The names stay taken in either case.

Not here: the state of published modules (`published`), which have it per version.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.core.errors import BadInputError, GoneError

REASON_CHARS = 300


class WithdrawalState(StrEnum):
    """What is answered about a release that was taken back."""

    RETIRED = "retired"  # in no list, and nothing chooses it; who names a file of it gets the file
    GONE = "gone"  # 410 for everything; its bytes are removed


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """An own release that was taken back.

    Attributes:
        release: "go1.25.9-corp1".
        reason: one line for people; "" for none.
        at: when the state changed last, UTC.
    """

    release: str
    state: WithdrawalState
    reason: str
    at: datetime

    @property
    def is_gone(self) -> bool:
        """Whether nothing of the release is served any more."""
        return self.state is WithdrawalState.GONE

    def __str__(self) -> str:
        """Say what happened: "go1.25.9-corp1 was retired on 2026-11-28: loses data"."""
        what = "withdrawn" if self.is_gone else "retired"
        why = f": {self.reason}" if self.reason else ""
        return f"{self.release} was {what} on {self.at:%Y-%m-%d}{why}"


def check_reason(reason: str) -> None:
    """Return if a reason is one line of printable text, "" included.

    Raises:
        BadInputError: it is not.
    """
    if not reason.isprintable() or len(reason) > REASON_CHARS:
        raise BadInputError(f"a reason is one line of at most {REASON_CHARS} characters")


def gone(withdrawal: Withdrawal) -> GoneError:
    """Return the error of whatever belongs to a release that is gone."""
    return GoneError(f"{withdrawal}; use another release")
