"""What all models share."""

from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Out(BaseModel):
    """An answer; without defaults, so that nothing is left out by mistake."""

    model_config = ConfigDict(frozen=True)


class In(BaseModel):
    """A request; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Page(Out, Generic[T]):
    """One page of a list; next_cursor is null on the last."""

    items: list[T]
    next_cursor: str | None
