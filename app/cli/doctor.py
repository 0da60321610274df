"""`moorage doctor`: is this installation well, and what is to be done?"""

import contextlib
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.output import Exit, console, emit, one_line
from app.cli.progress import busy
from app.cli.session import Here, Json
from app.core.errors import SettingsError

if TYPE_CHECKING:
    from app.services.doctor import Finding
    from app.settings import Settings


def doctor(
    strict: Annotated[bool, typer.Option("--strict", help="End with 1 for warnings, too.")] = False,
    _here: Here = None,
    as_json: Json = False,
) -> None:
    """Look at everything of this machine's installation that an operator would, and say what to do.

    Changes nothing. Ends with 1 if something is in trouble.
    """
    with busy("examining"):
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
    place = f"data in {settings.data_dir.absolute()}"
    text = f"every name and value is right, and none contradict; {place}"
    fine = Finding("settings", Level.OK, text)
    import asyncio

    return [fine, *asyncio.run(_examined(settings))]


async def _examined(settings: "Settings") -> "list[Finding]":
    from app.core.errors import MoorageError
    from app.services.doctor import Doctor, Finding, Level
    from app.tls import certificate_of
    from app.wiring import backup_place, build, prerequisites

    errors = prerequisites.unmet(settings)
    refusals = [
        Finding("start", Level.TROUBLE, str(error), "the service can't start before")
        for error in errors
    ]
    certificate = None
    with contextlib.suppress(SettingsError):  # a refusal already
        certificate = certificate_of(settings.tls)
    try:
        services = build(settings)
    except MoorageError as error:
        if str(error) in map(str, errors):
            return refusals
        return [*refusals, Finding("start", Level.TROUBLE, str(error), "see docs/settings.md")]
    try:
        findings = await Doctor(
            services,
            None if certificate is None else certificate.expires,
            lambda: None if settings.backup.url is None else backup_place(settings, None),
        ).look()
    finally:
        await services.close()
    return [*refusals, *findings]


def _shown(result: list[dict[str, Any]]) -> str:
    """Return a paragraph for each check, as wide as the terminal; a line in a pipe."""
    width = console(sys.stdout).width
    widest = max(len(_nouns(one)[0]) for one in result)
    lines = []
    for one in result:
        noun, text = _nouns(one)
        head = f"{one['level']:<9}{noun:<{widest}}  "
        if one["advice"] and not sys.stdout.isatty():
            text = f"{text}; do: {one['advice']}"
        lines.append(_wrapped(head, text, width))
        if one["advice"] and sys.stdout.isatty():
            lines.append(_wrapped(" " * len(head), f"do: {one['advice']}", width))
    count = {
        level: sum(one["level"] == level for one in result) for level in ("trouble", "warning")
    }
    lines.append(
        f"{count['trouble']} in trouble, {count['warning']} warnings, {len(result)} checks"
    )
    return "\n".join(lines)


def _nouns(one: dict[str, Any]) -> tuple[str, str]:
    """Return the noun and the text of a finding; about "upstream X" the text begins with X."""
    noun, _, name = one["about"].partition(" ")
    return noun, one_line(f"{name}: {one['text']}" if name else one["text"])


def _wrapped(head: str, text: str, width: int) -> str:
    """Return a text behind its head, with further lines below its beginning."""
    return textwrap.fill(
        text,
        max(width, len(head) + 30),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
