"""What all models share."""

from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

T = TypeVar("T")


class Out(BaseModel):
    """An answer; without defaults, so that nothing is left out by mistake."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    @classmethod
    def of(cls, value: object, **more: Any) -> Self:
        """Return the answer made of a value's attributes of the same names, and of more."""
        same = cls.model_fields.keys() - more.keys()
        return cls.model_validate({name: getattr(value, name) for name in same} | more)


class In(BaseModel):
    """A request; what it does not know is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Page(Out, Generic[T]):
    """One page of a list; next_cursor is null on the last."""

    items: list[T]
    next_cursor: str | None
