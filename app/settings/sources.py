"""Where values come from: the environment, files that it names, one TOML file.

Checked here: names are known, JSON and TOML can be read. Every problem is collected, none raised.
Types and ranges are checked by the models. No problem repeats a value: the value could be a secret,
pasted into the wrong place.
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
# Commands that work on a server read the first three; a channel's `env`, install.sh and the hooks
# of nodes have the others. They are no settings of the service.
OF_OTHERS = (
    "MOORAGE_SERVER",
    "MOORAGE_TOKEN",
    "MOORAGE_TOKEN_FILE",
    "MOORAGE_CHANNEL",
    "MOORAGE_REVISION",
    "MOORAGE_BIN",
    "MOORAGE_NODE_SHA256",
    "MOORAGE_PREVIOUS",
    "MOORAGE_ROOT",
    "MOORAGE_VERSION",
)
_FILE = "_FILE"

# Kubernetes sets these variables in every pod, for a Service named "moorage"
# (enableServiceLinks).
_OF_A_SERVICE = re.compile(r"MOORAGE_(SERVICE_(HOST|PORT)|PORT_[0-9]+_(TCP|UDP))(_\w+)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Origin:
    """The place that a value came from.

    Attributes:
        source: "default", "env", or "file": a file named by `…_FILE`, or the TOML file.
        where: the variable, the file's path, or None for a default.
    """

    source: Literal["default", "env", "file"]
    where: str | None = None


@dataclass(frozen=True, slots=True)
class RawValue:
    """A value before it is checked; `name` is the setting's name as the source writes it."""

    name: str
    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Problem:
    """A setting, what is wrong with it, and what would be right."""

    name: str
    text: str

    def __str__(self) -> str:
        line = f"{self.name}: {self.text}"
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


@dataclass(slots=True)
class SourceValues:
    """The values of all sources; a later source replaces the value of an earlier one.

    Attributes:
        values: by the setting's path.
        problems: one for each value that could not be used.
        failed: paths of settings and tables whose value could not be used.
    """

    values: dict[tuple[str, ...], RawValue] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    failed: set[tuple[str, ...]] = field(default_factory=set)

    def refuse(self, path: tuple[str, ...] | None, name: str, text: str) -> None:
        """Add a problem; path is None if the name is no setting."""
        self.problems.append(Problem(name, text))
        if path is not None:
            self.failed.add(path)


def collect(environ: Mapping[str, str]) -> SourceValues:
    """Return the values of the environment and of the files that it names."""
    collected = SourceValues()
    if CONFIG in environ:
        _take_toml(environ[CONFIG], collected)
    ours = {name: text for name, text in sorted(environ.items()) if name.startswith(PREFIX)}
    for name in (CONFIG, *OF_OTHERS):
        ours.pop(name, None)
    settings = {setting.variable: setting for setting in all_settings()}
    for name, path in [(name, path) for name, path in ours.items() if name not in settings]:
        if (stem := name.removesuffix(_FILE)) != name and stem in settings:
            _take_file(settings[stem], name, path, collected, is_twice=stem in ours)
    for path_of_table in sorted(all_tables(), key=len):
        if (name := variable(path_of_table)) in ours:
            _take_json_table(path_of_table, name, ours[name], collected)
    for name, text in ours.items():
        _take_variable(settings, name, text, collected)
    return collected


def _take_variable(
    settings: Mapping[str, Setting], name: str, text: str, collected: SourceValues
) -> None:
    tables = {variable(path) for path in all_tables()}
    if _OF_A_SERVICE.fullmatch(name) or (name == "MOORAGE_PORT" and text.startswith("tcp://")):
        collected.refuse(
            None,
            name,
            "it comes from Kubernetes, for a Service named moorage;"
            " set enableServiceLinks: false in the pod's spec",
        )
    elif name in settings:
        _take_text(settings[name], RawValue(name, text, Origin("env", name)), collected)
    elif name not in tables and name.removesuffix(_FILE) not in settings:
        collected.refuse(None, name, "unknown setting" + _hint_variable(name))


def _take_file(
    setting: Setting, name: str, path: str, collected: SourceValues, *, is_twice: bool
) -> None:
    if is_twice:
        collected.refuse(setting.path, name, f"{setting.variable} is set too; unset one of the two")
        return
    try:
        files.not_empty(path)
        text = files.read_text(Path(path))
        if setting.is_secret:
            files.refuse_unless_private(Path(path))
    except ValueError as error:
        collected.refuse(setting.path, name, str(error))
        return
    _take_text(setting, RawValue(name, text.removesuffix("\n"), Origin("file", path)), collected)


def _take_text(setting: Setting, raw: RawValue, collected: SourceValues) -> None:
    """Take a value in text form; the text of a list is JSON."""
    if setting.is_list:
        try:
            raw = RawValue(raw.name, _json(raw.value), raw.origin)
        except ValueError as error:
            collected.refuse(setting.path, raw.name, f"{error}; give {setting.form}")
            return
    collected.values[setting.path] = raw


def _take_json_table(path: tuple[str, ...], name: str, text: str, collected: SourceValues) -> None:
    try:
        table = _json(text)
    except ValueError as error:
        collected.refuse(path, name, f"{error}; give a JSON object")
        return
    _take_table(table, path, name, Origin("env", name), collected)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON (at character {error.pos + 1})") from None
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON that can be used") from None


def _take_toml(path: str, collected: SourceValues) -> None:
    try:
        files.not_empty(path)
        table = tomllib.loads(files.read_text(Path(path)))
    except tomllib.TOMLDecodeError as error:
        collected.refuse((), CONFIG, f"{path} is not TOML: {error}")
    except RecursionError:
        collected.refuse((), CONFIG, f"{path} is nested too deeply")
    except ValueError as error:
        collected.refuse((), CONFIG, f"{error}; give the path of a TOML file")
    else:
        _take_table(table, (), "", Origin("file", path), collected)
        _refuse_open_secrets(Path(path), collected)


def _refuse_open_secrets(path: Path, collected: SourceValues) -> None:
    """Add a problem for each secret in a TOML file that other users can read."""
    for setting in all_settings():
        if setting.is_secret and setting.path in collected.values:
            try:
                files.refuse_unless_private(path)
            except ValueError as error:
                collected.refuse(setting.path, setting.name, str(error))


def _take_table(
    table: Any, path: tuple[str, ...], name: str, origin: Origin, collected: SourceValues
) -> None:
    """Take every value of a table; name is the table's name as the source writes it."""
    if not isinstance(table, dict):
        collected.refuse(path, name, "it is not a table of settings")
        return
    settings = {setting.path for setting in all_settings()}
    for key, value in table.items():
        child, child_name = (*path, key), f"{name}.{key}".removeprefix(".")
        if child in settings:
            collected.values[child] = RawValue(child_name, value, origin)
        elif child in all_tables():
            _take_table(value, child, child_name, origin, collected)
        else:
            collected.refuse(None, child_name, "unknown setting" + _hint(".".join(child)))


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
    """Yield known names that resemble dotted: first by the whole name, then by the last word."""
    names = [setting.name for setting in all_settings()]
    yield from difflib.get_close_matches(
        dotted, [*names, *(".".join(path) for path in all_tables()), "config"], cutoff=0.75
    )
    by_last_word = {name.rpartition(".")[2]: name for name in names}
    last_word = dotted.rpartition(".")[2]
    for word in difflib.get_close_matches(last_word, by_last_word, cutoff=0.75):
        yield by_last_word[word]
