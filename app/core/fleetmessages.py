"""What nodes send: enrolment, check-in, report. Every text, list and number has a bound.

Fields that this program does not know are ignored, so that a newer node program works with an older
server. Not here: HTTP, tokens, and what a message changes (`services/fleet/nodes`).
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from app.core.errors import BadInputError
from app.core.goversion import from_name, is_valid
from app.core.noun import (
    AfterValidator,
    Field,
    Noun,
    StrictBool,
    StrictInt,
    line,
    passes,
    refuse,
)

MAX_BODY_BYTES = 64 * 1024
MAX_INSTALLED = 100
MAX_FACTS = 16
MAX_FACT_CHARS = 200
_RELEASE = re.compile(r"go[0-9A-Za-z.+-]{1,58}")


class Event(StrEnum):
    """What happened to a grant on its node."""

    DOWNLOADED = "downloaded"
    VERIFIED = "verified"
    UNPACKED = "unpacked"
    SWITCHED = "switched"
    TESTED = "tested"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    DRIFT = "drift"
    REPAIRED = "repaired"


class GrantResult(StrEnum):
    """What became of a grant, as the node says."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


def _check_release(name: str) -> None:
    if name and not (_RELEASE.fullmatch(name) and is_valid(from_name(name))):
        raise BadInputError(f"{name[:60]!a} is not a release such as go1.27.1")


def _few_facts(facts: dict[str, str]) -> dict[str, str]:
    if len(facts) > MAX_FACTS:
        raise refuse(f"a node has {MAX_FACTS} facts at most")
    return facts


def _printable(text: str) -> str:
    """Return text as one printable line: what is shown to an admin draws nothing on a terminal."""
    if text.isprintable():
        return text.strip()
    return "".join(c if c.isprintable() else " " for c in text).strip()


_Release = Annotated[str, Field(max_length=60), AfterValidator(passes(_check_release))]
_Id = Annotated[str, Field(max_length=32, pattern=r"^[0-9a-f]*$")]
_Line = Annotated[str, Field(max_length=2000), AfterValidator(_printable)]
_Word = Annotated[str, Field(max_length=100), AfterValidator(_printable)]
_FactName = Annotated[str, Field(max_length=40, pattern=r"^[a-z][a-z0-9_]*$")]
_Fact = Annotated[str, Field(max_length=MAX_FACT_CHARS), AfterValidator(_printable)]
_Facts = Annotated[dict[_FactName, _Fact], AfterValidator(_few_facts)]
_Revision = Annotated[StrictInt, Field(ge=0, le=2**31 - 1)]  # as wide as its column
_Seconds = Annotated[float, Field(ge=0, le=10**7, allow_inf_nan=False)]
NodeName = Annotated[str, *line("name", 100), Field(min_length=1)]


class Message(Noun, extra="ignore"):
    """A message of a node: fields that are not known are ignored."""


class LastResult(Message):
    """What became of the last grant."""

    grant: _Id
    result: GrantResult
    stage: _Word = ""
    reason: _Line = ""


class Declined(Message):
    """A release that was rolled back by hand on a node, and the revision that had brought it."""

    version: _Release
    revision: _Revision


class CheckIn(Message):
    """What is on a node: its question whether to change."""

    node: _Id
    program: _Word = ""
    channel: _Word = ""
    current: _Release | None = None
    installed: Annotated[tuple[_Release, ...], Field(max_length=MAX_INSTALLED)] = ()
    seen_revision: _Revision = 0
    drift: StrictBool = False
    facts: _Facts = Field(default_factory=dict)
    last: LastResult | None = None
    declined: Declined | None = None
    clock: datetime | None = None


class Report(Message):
    """One event of a grant."""

    node: _Id
    grant: _Id | None = None
    event: Event
    stage: _Word = ""
    reason: _Line = ""
    seconds: Annotated[dict[_FactName, _Seconds], Field(max_length=MAX_FACTS)] = Field(
        default_factory=dict
    )
    version: _Release | None = None


class Enrolment(Message):
    """A machine's wish to become a node."""

    token: Annotated[str, Field(max_length=200)]
    name: NodeName
    facts: _Facts = Field(default_factory=dict)
