"""The table of all settings, read from the models.

`sources.py`, `config show` and the documentation know settings by this table. `python -m
app.settings` prints it as docs/settings.md.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.settings.model import Settings
from app.settings.values import Form, Secret

PREFIX = "MOORAGE_"

_INTRODUCTION = """\
# Settings

<!-- Written by `python -m app.settings > docs/settings.md`; a test compares. -->

A setting comes from the first of these that has it:

1. the environment: `MOORAGE_PORT=8081`. Lists and tables are JSON:
   `MOORAGE_NETWORK__ALLOW='["10.0.0.0/8"]'`; a table's own variables add to it.
2. a file named in the environment: `MOORAGE_DATABASE_URL_FILE=/run/secrets/database`. One final
   newline is dropped. The file of a secret must be readable by its owner alone, or belong to root
   and a group of the service, which may only read it. A setting and its `_FILE` together are an
   error.
3. the TOML file named by `MOORAGE_CONFIG`, where `__` is a dot:
   `releases.select.minors = 3`.
4. the default.

An unknown or malformed setting stops the start; the message names every problem.
`moorage config check` tells without starting, `moorage config show` tells what holds and why.

| setting | default | accepted | meaning |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        path: names from the outermost: ("releases", "select", "minors").
        default: as the model has it, not yet canonical.
        meaning: one or two sentences, with the unit.
        form: of a right value, as the end of a sentence.
        is_list: in the environment its value is JSON.
        is_secret: its value is never shown.
    """

    path: tuple[str, ...]
    default: Any
    meaning: str
    form: str
    is_list: bool
    is_secret: bool

    @property
    def name(self) -> str:
        """The name in TOML: "releases.select.minors"."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The name in the environment: "MOORAGE_RELEASES__SELECT__MINORS"."""
        return variable(self.path)


def variable(path: tuple[str, ...]) -> str:
    """Return the environment's name of a setting or a table: "MOORAGE_RELEASES__SELECT"."""
    return PREFIX + "__".join(path).upper()


@cache
def all_settings() -> tuple[Setting, ...]:
    """Return every setting, in the order of the models; a table is not a setting."""
    return tuple(_settings_of(Settings, ()))


@cache
def all_tables() -> frozenset[tuple[str, ...]]:
    """Return the path of every table, such as ("releases",) and ("releases", "select")."""
    return frozenset(
        setting.path[:length]
        for setting in all_settings()
        for length in range(1, len(setting.path))
    )


def _settings_of(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _settings_of(annotation, (*path, name))
        else:
            yield Setting(
                path=(*path, name),
                default=field.default,
                meaning=field.description or "",
                form=_form(field),
                is_list=get_origin(annotation) is tuple,
                is_secret=any(isinstance(mark, Secret) for mark in field.metadata),
            )


def _form(field: FieldInfo) -> str:
    for mark in field.metadata:
        if isinstance(mark, Form):
            return mark.text
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(get_args(field.annotation))
    low = next(mark.ge for mark in field.metadata if isinstance(mark, Ge))
    high = next(mark.le for mark in field.metadata if isinstance(mark, Le))
    return f"a {'whole number' if field.annotation is int else 'number'} from {low} to {high}"


def written(value: Any) -> str | None:
    """Return a value as TOML has it: '["zip", "msi"]', 'true', '"info"'; None stays None."""
    if value is None:
        return None
    if isinstance(value, PurePath):
        value = str(value) if value.is_absolute() else f"./{value}"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {written(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(str(written(one)) for one in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def markdown() -> str:
    """Return docs/settings.md: the sources of settings, and a row for each setting."""
    return _INTRODUCTION + "".join(_row(setting) for setting in all_settings())


def _row(setting: Setting) -> str:
    default = written(setting.default)
    shown = "none" if default is None else f"`{default.strip(chr(34))}`"
    cells = (f"`{setting.variable}`", shown, setting.form, setting.meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
