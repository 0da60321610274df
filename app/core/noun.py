"""What the nouns of the control plane are made of: frozen models that check what they are told.

A noun (tenant, rule, route …) is one class: the body of a request, a part of the `apply` document,
what services pass around, and what an answer shows. A `Recorded…` subclass adds an id, a revision
and the time. This is the only file of core that imports pydantic.

Two kinds of refusal. A wrong *shape* (no such field, too long, no number) is pydantic's own error.
Wrong *content* (a malformed pattern, a bad host) has a line written for the person who reads it:
`refuse` marks it with the type CONTENT; `checked` and the admin API show its line.

Not here: checks that need the clock, the database or other nouns; they are the services'.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SecretStr,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from app.core.errors import BadInputError

__all__ = [
    "CONTENT",
    "AfterValidator",
    "Field",
    "Noun",
    "Recorded",
    "SecretStr",
    "StrictBool",
    "StrictInt",
    "Text",
    "ValidationInfo",
    "Words",
    "checked",
    "field_validator",
    "line",
    "model_validator",
    "passes",
    "refuse",
]

CONTENT = "content"
"""The type that pydantic's errors have where the content is wrong, not the shape."""

N = TypeVar("N", bound="Noun")
T = TypeVar("T")


class Noun(BaseModel):
    """A frozen value with its defaults and checks; unknown fields are refused."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        from_attributes=True,
        # An answer has every field; only a request may leave one out.
        json_schema_serialization_defaults_required=True,
    )

    def says(self, other: "Noun") -> bool:
        """Whether each field of another noun has the same value here.

        What recording adds does not count: a recorded rule says a rule of the same words.
        """
        fields = set(type(other).model_fields) - set(Recorded.model_fields)
        return self.model_dump(include=fields) == other.model_dump(include=fields)


class Recorded(Noun):
    """What recording adds to a noun.

    Attributes:
        id: given by the database, and never again to another; 0 before that.
        revision: grows by one with each change; what an ETag shows.
        created_at: UTC.
    """

    id: int
    revision: int
    created_at: datetime

    @classmethod
    def first(cls, noun: Noun, at: datetime, **more: Any) -> Self:
        """Return a noun as it is recorded for the first time, before it has an id.

        Args:
            noun: what is recorded.
            at: UTC.
            **more: the fields that the noun lacks: whose rule it is.
        """
        words = {name: value for name, value in noun if name in cls.model_fields}
        return cls(**words, id=0, revision=1, created_at=at, **more)

    def succeeding(self, before: Self | None) -> Self:
        """Return this noun as the next revision of `before`.

        If `before` is None, return it unchanged.
        """
        if before is None:
            return self
        return self.model_copy(
            update={
                "id": before.id,
                "revision": before.revision + 1,
                "created_at": before.created_at,
            }
        )


def refuse(reason: str) -> PydanticCustomError:
    """Return the error for a validator to raise where content is wrong."""
    return PydanticCustomError(CONTENT, "{reason}", {"reason": reason})


def passes(check: Callable[[T], None]) -> Callable[[T], T]:
    """Return a check that raises BadInputError in the form that `AfterValidator` takes."""

    def validate(value: T) -> T:
        try:
            check(value)
        except BadInputError as error:
            raise refuse(str(error)) from error
        return value

    return validate


def line(what: str, max_chars: int) -> tuple[Any, AfterValidator]:
    """Return what makes a text one printable line: unpack it into `Annotated`.

    Args:
        what: how a refusal calls the line: "title".
        max_chars: how long it may be.
    """

    def check(text: str) -> None:
        if not text.isprintable():
            raise BadInputError(f"the {what} has a control character or a line break")

    return Field(max_length=max_chars), AfterValidator(passes(check))


class Text:
    """Marks a field whose value is written as a text, in JSON and in the database.

    Args:
        kind: the type of the value, as `isinstance` takes it.
        parse: makes it of the text; raises BadInputError.
        max_chars: how long the text may be.
        write: makes the text of the value.
    """

    def __init__(
        self,
        kind: Any,
        parse: Callable[[str], Any],
        *,
        max_chars: int,
        write: Callable[[Any], str] = str,
    ) -> None:
        self._kind = kind
        self._parse = parse
        self._max_chars = max_chars
        self._write = write

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads and writes the field."""

        def validate(value: object, text_of: core_schema.ValidatorFunctionWrapHandler) -> object:
            if isinstance(value, self._kind):
                return value
            try:
                return self._parse(text_of(value))
            except BadInputError as error:
                raise refuse(str(error)) from error

        return core_schema.no_info_wrap_validator_function(
            validate,
            core_schema.str_schema(max_length=self._max_chars),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self._write, return_schema=core_schema.str_schema()
            ),
        )


class Words:
    """Marks a set of words: it is written as a list, and shown in alphabetical order.

    Args:
        max_words: how many the list may have.
        max_chars: how long each may be.
    """

    def __init__(self, *, max_words: int, max_chars: int) -> None:
        self._max_words = max_words
        self._max_chars = max_chars

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Return how pydantic reads and writes the field."""
        words = core_schema.tuple_variable_schema(
            core_schema.str_schema(max_length=self._max_chars), max_length=self._max_words
        )
        return core_schema.no_info_after_validator_function(
            frozenset,
            words,
            serialization=core_schema.plain_serializer_function_ser_schema(
                sorted, return_schema=core_schema.list_schema(core_schema.str_schema())
            ),
        )


def checked(kind: type[N], values: Mapping[str, Any]) -> N:
    """Return the noun that values make up.

    Raises:
        BadInputError: they don't; the message has the first reason, and where it stands.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == CONTENT:
            raise BadInputError(first["msg"]) from error
        where = ".".join(map(str, first["loc"]))
        raise BadInputError(f"{where}: {first['msg']}") from error
