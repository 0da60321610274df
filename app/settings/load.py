"""From the environment to valid settings, or to one error that names every problem."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.core.errors import SettingsError
from app.settings.model import CONTRADICTION, Settings
from app.settings.reference import Setting, all_settings
from app.settings.sources import Origin, Problem, RawValue, SourceValues, collect

_RawValues = Mapping[tuple[str, ...], RawValue]


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The settings, and the origin of each value by the setting's dotted name."""

    settings: Settings
    origins: Mapping[str, Origin]


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment; None stands for the process's own.

    `load_settings({"MOORAGE_PORT": "8081"}).port` is 8081, and everything else the default.

    Raises:
        SettingsError: a setting is unknown, malformed or contradicts another. The message has a
            line for every problem and no value: "<name as written>: <what is wrong>; <what would
            be right>".
    """
    return load(environ).settings


def load(environ: Mapping[str, str] | None = None) -> LoadedSettings:
    """Return the settings, as `load_settings` does, and the origin of each.

    Raises:
        SettingsError: as in `load_settings`.
    """
    collected = collect(os.environ if environ is None else environ)
    settings, problems = _build(collected)
    problems = [*collected.problems, *problems]
    if settings is None or problems:
        raise SettingsError("\n".join(str(problem) for problem in problems))
    origins = {
        setting.name: collected.values[setting.path].origin
        if setting.path in collected.values
        else Origin("default")
        for setting in all_settings()
    }
    return LoadedSettings(settings, origins)


def _build(collected: SourceValues) -> tuple[Settings | None, list[Problem]]:
    """Return the settings, or all problems: malformed values, and contradictions between settings.

    pydantic checks for contradictions only if every value is valid. So a second round leaves the
    malformed values out, and finds the contradictions among the others.
    """
    raw = collected.values
    settings, errors = _try(raw)
    malformed = [error for error in errors if error["type"] != CONTRADICTION]
    failed = collected.failed | {_setting_of(error).path for error in malformed}
    if malformed:
        _, errors = _try({path: one for path, one in raw.items() if path not in failed})
    clashes = [
        error
        for error in errors
        if error["type"] == CONTRADICTION and not _involved(error) & _below(failed)
    ]
    return settings, [_problem(error, raw) for error in [*malformed, *clashes]]


def _try(raw: _RawValues) -> tuple[Settings | None, list[ErrorDetails]]:
    try:
        return Settings(**_tree(raw)), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _tree(raw: _RawValues) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, one in raw.items():
        table = root
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = one.value
    return root


def _below(paths: set[tuple[str, ...]]) -> set[str]:
    """Return the names of the settings at paths, or in a table at one of them."""
    return {
        setting.name
        for setting in all_settings()
        if any(setting.path[: len(path)] == path for path in paths)
    }


def _involved(clash: ErrorDetails) -> set[str]:
    return {_setting_of(clash).name, *clash["ctx"]["others"]}


def _setting_of(error: ErrorDetails) -> Setting:
    """Return the setting of an error; the error's loc may end with a place in a list."""
    return next(
        setting for setting in all_settings() if error["loc"][: len(setting.path)] == setting.path
    )


def _problem(error: ErrorDetails, raw: _RawValues) -> Problem:
    setting = _setting_of(error)
    name = raw[setting.path].name if setting.path in raw else setting.variable
    place = [index for index in error["loc"] if isinstance(index, int)]
    entry = f"entry {place[0] + 1}: " if place else ""
    if error["type"] == CONTRADICTION:
        return Problem(name, entry + error["msg"])
    wrong = "its value is not accepted"
    if error["type"] == "value_error":
        wrong = str(error["ctx"]["error"])
    return Problem(name, f"{entry}{wrong}; give {setting.form}")
