"""`moorage config`: are the settings valid, what holds, and where does each value come from."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import typer

from app.cli.output import complain, emit, exit_for
from app.cli.session import Anywhere, Json
from app.core.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from app.settings import LoadedSettings, Origin

SECRET = "••••••"  # noqa: S105 — shown instead of one

config = typer.Typer(
    name="config", help="Check and show the settings.", no_args_is_help=True, add_completion=False
)


@config.command()
def check(_anywhere: Anywhere = None, as_json: Json = False) -> None:
    """Say whether `moorage serve` would start with these settings, and what they come from.

    Looks at the settings, and at the files, folders, addresses and packages that they name; not
    into the database, which `moorage doctor` does. Ends with 2 if something is wrong.
    """
    loaded = _loaded(as_json=as_json)
    from app.wiring import prerequisites

    settings = loaded.settings
    errors = [*prerequisites.unmet(settings), *prerequisites.unusable_keyring(settings)]
    if errors:
        _refuse("\n".join(map(str, errors)), as_json=as_json)
        raise typer.Exit(exit_for(SettingsError("")))
    notes = prerequisites.warnings(settings)
    for note in notes:
        complain(f"warning: {note}")
    sources = _sources(loaded.origins.values())
    emit({"valid": True, "warnings": notes, "sources": sources}, as_json, _valid_text)


@config.command()
def show(_anywhere: Anywhere = None, as_json: Json = False) -> None:
    """Print every setting as it holds, and where its value comes from; secrets are hidden."""
    loaded = _loaded(as_json=False)
    emit({"settings": _effective(loaded)}, as_json, _toml_like)


def _loaded(*, as_json: bool) -> "LoadedSettings":
    from app.settings import load

    try:
        return load()
    except SettingsError as error:
        _refuse(str(error), as_json=as_json)
        raise typer.Exit(exit_for(error)) from None


def _refuse(problems: str, *, as_json: bool) -> None:
    complain(problems)
    if as_json:
        emit({"valid": False, "problems": problems.splitlines()}, True, str)


def _sources(origins: "Iterable[Origin]") -> list[dict[str, Any]]:
    """Return each source with the number of settings it gave; the environment is one."""
    counts = Counter(
        (origin.source, origin.where if origin.source == "file" else None) for origin in origins
    )
    order = ("env", "file", "default")
    return [
        {"source": source, "path": path, "settings": count}
        for (source, path), count in sorted(counts.items(), key=lambda one: order.index(one[0][0]))
    ]


def _valid_text(result: dict[str, Any]) -> str:
    names = {"env": "environment", "default": "defaults"}
    return "\n".join(
        [
            "settings are valid",
            *(
                f"  {names.get(one['source'], one['path'])}: {one['settings']}"
                for one in result["sources"]
            ),
        ]
    )


def _effective(loaded: "LoadedSettings") -> list[dict[str, Any]]:
    from app.settings.reference import all_settings

    values = loaded.settings.model_dump(mode="json")
    rows = []
    for setting in all_settings():
        value: Any = values
        for name in setting.path:
            value = value[name]
        origin = loaded.origins[setting.name]
        rows.append(
            {
                "name": setting.name,
                "variable": setting.variable,
                "value": SECRET if setting.is_secret and value is not None else value,
                "source": origin.source,
                "from": origin.where,
                "meaning": setting.meaning,
            }
        )
    return rows


def _toml_like(result: dict[str, Any]) -> str:
    """Return TOML with a comment behind each value: `port = 8081  # env MOORAGE_PORT`."""
    lines: dict[str, list[str]] = {}
    for row in result["settings"]:
        section = row["name"].rpartition(".")[0]
        lines.setdefault(section, [f"[{section}]"] if section else []).append(_toml_line(row))
    return "\n\n".join("\n".join(block) for block in lines.values())


def _toml_line(row: dict[str, Any]) -> str:
    from app.settings.reference import written

    key = row["name"].rpartition(".")[2]
    value = written(row["value"])
    origin = f"# {row['source']}" + (f" {row['from']}" if row["from"] else "")
    return f"{key} = {value}  {origin}" if value is not None else f"# {key} is not set  {origin}"
