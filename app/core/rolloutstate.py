"""The closed sets of words of a rollout."""

from enum import StrEnum


class RolloutState(StrEnum):
    """Where a rollout stands. The last three are final."""

    RUNNING = "running"
    PAUSED = "paused"
    HALTED = "halted"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled-back"
    ABANDONED = "abandoned"

    @property
    def is_final(self) -> bool:
        """Whether nothing changes the state any more."""
        return self in (self.PROMOTED, self.ROLLED_BACK, self.ABANDONED)


class OnHalt(StrEnum):
    """What a rollout does when it halts."""

    HOLD = "hold"  # wait for a decision
    ROLLBACK = "rollback"  # go back to the content of the revision before


class RolloutAction(StrEnum):
    """What an operator does to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    HALT = "halt"
    ABANDON = "abandon"
    ROLL_BACK = "roll-back"


class Outcome(StrEnum):
    """What became of a node's latest grant of a rollout."""

    OUT = "out"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"  # what it brings is not offered any more
