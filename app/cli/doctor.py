"""`moorage doctor`: is this installation well, and what is to be done?"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Exit, emit, table
from app.cli.session import Json
from app.core.errors import SettingsError

if TYPE_CHECKING:
    from app.cli.output import Shown
    from app.services.doctor import Finding
    from app.settings import Settings


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 for warnings, too.")] = False,
    as_json: Json = False,
) -> None:
    """Look at everything that an operator would look at, and say what to do.

    Changes nothing. Ends with 1 if something is in trouble.
    """
    findings = _looked()
    result = [
        {"about": f.about, "level": str(f.level), "text": f.text, "advice": f.advice}
        for f in findings
    ]
    emit(result, as_json, _shown)
    bad = {"trouble", "warning"} if strict else {"trouble"}
    if any(one["level"] in bad for one in result):
        raise typer.Exit(Exit.FAILED)


def _looked() -> "list[Finding]":
    from app import logs
    from app.services.doctor import Finding, Level
    from app.settings import load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        return [
            Finding("settings", Level.TROUBLE, line, "see docs/settings.md")
            for line in str(error).splitlines()
        ]
    logs.configure("critical", settings.log_format)
    if not settings.data_dir.is_dir():
        text = f"MOORAGE_DATA_DIR: there is no {settings.data_dir.absolute()}"
        advice = "name the directory that the service uses, or start `moorage serve`"
        return [Finding("settings", Level.TROUBLE, text, advice)]
    fine = Finding("settings", Level.OK, "every name and value is right, and none contradict")
    import asyncio

    return [fine, *asyncio.run(_examined(settings))]


async def _examined(settings: "Settings") -> "list[Finding]":
    from app.core.errors import MoorageError
    from app.services.doctor import Doctor, Finding, Level
    from app.tls import certificate_of
    from app.wiring import backup_place, build

    try:
        certificate = certificate_of(settings.tls)
        services = build(settings)
    except MoorageError as error:
        return [Finding("start", Level.TROUBLE, str(error), "the service can't start before")]
    try:
        return await Doctor(
            services,
            None if certificate is None else certificate.expires,
            lambda: None if settings.backup.url is None else backup_place(settings, None),
        ).look()
    finally:
        await services.close()


def _shown(result: list[dict[str, Any]]) -> "Shown":
    rows = [(one["level"], one["about"], one["text"], one["advice"]) for one in result]
    count = {
        level: sum(one["level"] == level for one in result) for level in ("trouble", "warning")
    }
    summary = f"{count['trouble']} in trouble, {count['warning']} warnings, {len(result)} checks"
    return table(("", "ABOUT", "SEEN", "DO"), rows), summary
