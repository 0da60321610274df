"""Where values come from: the environment, files that it names, one TOML file.

Nothing is checked here except that names are known and that JSON and TOML can be read; every
problem is collected, none raised. Types and ranges are the models'. No value is ever repeated in
a problem: it could be a secret, pasted into the wrong place.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from app.settings import files
from app.settings.reference import PREFIX, Setting, all_settings, all_tables, variable

CONFIG = "MOORAGE_CONFIG"
# Read by commands that work on a server; they are no settings of the service.
OF_COMMANDS = ("MOORAGE_SERVER", "MOORAGE_TOKEN", "MOORAGE_TOKEN_FILE")
_FILE = "_FILE"

# Kubernetes gives every pod such variables for a Service named "moorage" (enableServiceLinks).
_OF_A_SERVICE = re.compile(r"MOORAGE_(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP))(_\w+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        source: "default", "env", or "file" (one named by `…_FILE`, or the TOML file).
        where: the variable, the file's path, or None for a default.
    """

    source: Literal["default", "env", "file"]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class GivenValue:
    """One value as somebody gave it; `name` is that of the setting as it was written."""

    name: str
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a setting, and what would be right."""

    name: str
    text: str

    def __str__(self) -> str:
        line = f"{self.name}: {self.text}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


@dataclass(slots=True)
class Collected:
    """All that was given, later sources over earlier ones.

    Attributes:
        given: by the setting's path.
        problems: what could not be taken.
        failed: paths, of settings and tables, whose value could not be taken.
    """

    given: dict[tuple[str, ...], GivenValue] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    failed: set[tuple[str, ...]] = field(default_factory=set)

    def refuse(self, path: tuple[str, ...] | None, name: str, text: str) -> None:
        """Note a problem; path is None where no setting is meant."""
        self.problems.append(Problem(name, text))
        if path is not None:
            self.failed.add(path)


def collect(environ: Mapping[str, str]) -> Collected:
    """Return what the environment, and the files that it names, say about settings."""
    found = Collected()
    if CONFIG in environ:
        _take_toml(environ[CONFIG], found)
    ours = {name: text for name, text in sorted(environ.items()) if name.startswith(PREFIX)}
    for name in (CONFIG, *OF_COMMANDS):
        ours.pop(name, None)
    settings = {setting.variable: setting for setting in all_settings()}
    for name, path in [(name, path) for name, path in ours.items() if name not in settings]:
        if (stem := name.removesuffix(_FILE)) != name and stem in settings:
            _take_file(settings[stem], name, path, stem in ours, found)
    for path_of_table in sorted(all_tables(), key=len):
        if (name := variable(path_of_table)) in ours:
            _take_json_table(path_of_table, name, ours[name], found)
    for name, text in ours.items():
        _take_variable(settings, name, text, found)
    return found


def _take_variable(settings: Mapping[str, Setting], name: str, text: str, found: Collected) -> None:
    tables = {variable(path) for path in all_tables()}
    if _OF_A_SERVICE.fullmatch(name) or (name == "MOORAGE_PORT" and text.startswith("tcp://")):
        found.refuse(
            None,
            name,
            "it comes from Kubernetes, for a Service named moorage;"
            " set enableServiceLinks: false in the pod's spec",
        )
    elif name in settings:
        _take_text(settings[name], GivenValue(name, text, Origin("env", name)), found)
    elif name not in tables and name.removesuffix(_FILE) not in settings:
        found.refuse(None, name, "unknown setting" + _hint_variable(name))


def _take_file(setting: Setting, name: str, path: str, is_twice: bool, found: Collected) -> None:
    if is_twice:
        found.refuse(setting.path, name, f"{setting.variable} is set too; unset one of the two")
        return
    try:
        files.not_empty(path)
        text = files.read_text(Path(path))
        if setting.is_secret:
            files.refuse_unless_private(Path(path))
    except ValueError as error:
        found.refuse(setting.path, name, str(error))
        return
    _take_text(setting, GivenValue(name, text.removesuffix("\n"), Origin("file", path)), found)


def _take_text(setting: Setting, given: GivenValue, found: Collected) -> None:
    """Take a value that was given as text, which for a list is JSON."""
    if setting.is_list:
        try:
            given = GivenValue(given.name, _json(given.value), given.origin)
        except ValueError as error:
            found.refuse(setting.path, given.name, f"{error}; give {setting.form}")
            return
    found.given[setting.path] = given


def _take_json_table(path: tuple[str, ...], name: str, text: str, found: Collected) -> None:
    try:
        table = _json(text)
    except ValueError as error:
        found.refuse(path, name, f"{error}; give a JSON object")
        return
    _take_table(table, path, name, Origin("env", name), found)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (at character {error.pos + 1})") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON that can be used") from None


def _take_toml(path: str, found: Collected) -> None:
    try:
        files.not_empty(path)
        table = tomllib.loads(files.read_text(Path(path)))
    except tomllib.TOMLDecodeError as error:
        found.refuse((), CONFIG, f"{path} is not TOML: {error}")
    except RecursionError:
        found.refuse((), CONFIG, f"{path} is nested too deeply")
    except ValueError as error:
        found.refuse((), CONFIG, f"{error}; give the path of a TOML file")
    else:
        _take_table(table, (), "", Origin("file", path), found)
        _refuse_open_secrets(Path(path), found)


def _refuse_open_secrets(path: Path, found: Collected) -> None:
    """Note a problem for each secret that the TOML file holds while others can read the file."""
    for setting in all_settings():
        if setting.is_secret and setting.path in found.given:
            try:
                files.refuse_unless_private(path)
            except ValueError as error:
                found.refuse(setting.path, setting.name, str(error))


def _take_table(
    table: Any, path: tuple[str, ...], name: str, origin: Origin, found: Collected
) -> None:
    """Take every value of a table; name is how whoever wrote it names the table itself."""
    if not isinstance(table, dict):
        found.refuse(path, name, "it is not a table of settings")
        return
    settings = {setting.path for setting in all_settings()}
    for key, value in table.items():
        child, child_name = (*path, key), f"{name}.{key}".removeprefix(".")
        if child in settings:
            found.given[child] = GivenValue(child_name, value, origin)
        elif child in all_tables():
            _take_table(value, child, child_name, origin, found)
        else:
            found.refuse(None, child_name, "unknown setting" + _hint(".".join(child)))


def _hint_variable(name: str) -> str:
    stem, suffix = name, ""
    if name.endswith(_FILE):
        stem, suffix = name.removesuffix(_FILE), _FILE
    dotted = stem.removeprefix(PREFIX).lower().replace("__", ".")
    for match in _alike(dotted):
        return f"; did you mean {variable(tuple(match.split('.')))}{suffix}?"
    return ""


def _hint(dotted: str) -> str:
    for match in _alike(dotted):
        return f"; did you mean {match}?"
    return ""


def _alike(dotted: str) -> Iterator[str]:
    """Yield known names that resemble dotted, best first: as a whole, then by the last word."""
    names = [setting.name for setting in all_settings()]
    yield from difflib.get_close_matches(
        dotted, [*names, *(".".join(path) for path in all_tables()), "config"], cutoff=0.75
    )
    by_last_word = {name.rpartition(".")[2]: name for name in names}
    last_word = dotted.rpartition(".")[2]
    for word in difflib.get_close_matches(last_word, by_last_word, cutoff=0.75):
        yield by_last_word[word]
