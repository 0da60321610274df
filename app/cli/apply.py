"""`moorage apply`: one file for tenants, credentials, rules, routes and owned prefixes.

The file has no secret. It says where each is, and the secret is read here, on the caller's machine:

    [tenants.acme.credentials.artifactory]
    username = "moorage"                # for Basic; without it, the secret is a Bearer token
    secret_file = "artifactory.secret"  # below the folder of this file; or secret_env = "VARIABLE"
"""

import datetime
import os
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.api import WrongFieldsError
from app.cli.credential import read_secret
from app.cli.output import colours_are_wanted, emit, one_line
from app.cli.session import Json, ServerUrl, ask
from app.core.errors import BadInputError
from app.core.timeouts import CONNECT_S, METADATA_S, ZIP_S

_SIGNS = {"create": ("+", "green"), "remove": ("-", "red"), "update": ("~", "yellow")}
_IN_THE_NAME = {"pattern", "effect", "versions"}
# An upstream is shown as its URL and the values that differ from these.
_USUAL: dict[str, object] = {
    "credential": None,
    "on_absent": "next",
    "redirect_to": [],
    "connect_s": CONNECT_S,
    "metadata_s": METADATA_S,
    "zip_s": ZIP_S,
    "host_keys": "",
    "vanity": False,
    "ca_sha256": "",
}


def apply(
    file: Annotated[Path, typer.Option("-f", "--file", help="A TOML file; - reads stdin.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Change nothing; show what would be.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the tenants that the file does not name.")
    ] = False,
    server_url: ServerUrl = None,
    as_json: Json = False,
) -> None:
    """Make tenants, credentials, rules, routes and owned prefixes match a file.

    Its credentials name a secret_file or a secret_env; the secret goes along.
    """
    try:
        document = _with_secrets(_read(file), file.parent)
        body = {"document": document, "dry_run": dry_run, "prune": prune}
    except BadInputError as error:
        raise BadInputError(f"{file}: {error}") from error
    try:
        result = ask(server_url, "POST", "/apply", body)
    except WrongFieldsError as error:
        raise BadInputError(f"{file}: {error.below('document')}") from error
    emit(result, as_json, lambda r: "\n".join(_lines(r)))


def _read(file: Path) -> Any:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        return _plain(tomllib.loads(text))
    except OSError as error:
        raise BadInputError(str(error.strerror)) from error
    except UnicodeDecodeError as error:
        raise BadInputError("it is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"it is not TOML: {error}") from error
    except RecursionError as error:
        raise BadInputError("it is nested too deeply") from error


def _with_secrets(document: Any, folder: Path) -> Any:
    """Return a document whose credentials have their secrets; what is malformed stays as it is.

    Args:
        document: as the file has it.
        folder: where a relative secret_file is.

    Raises:
        BadInputError: a secret can't be read; the message says whose.
    """
    tenants = document.get("tenants")
    for name, part in tenants.items() if isinstance(tenants, dict) else ():
        credentials: Any = part.get("credentials") if isinstance(part, dict) else None
        for credential, value in credentials.items() if isinstance(credentials, dict) else ():
            if isinstance(value, dict):
                try:
                    credentials[credential] = _with_secret(value, folder)
                except BadInputError as error:
                    place = f"tenants.{name}.credentials.{credential}"
                    raise BadInputError(f"{place}: {error}") from error
    return document


def _with_secret(credential: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a credential with its secret in the place of the reference."""
    if "secret" in credential:
        raise BadInputError("a file holds no secret; say where it is by secret_file or secret_env")
    file, variable = credential.get("secret_file"), credential.get("secret_env")
    if isinstance(file, str) and variable is None:
        secret = read_secret(folder / file)
    elif isinstance(variable, str) and file is None:
        secret = os.environ.get(variable, "")
        if not secret:
            raise BadInputError(f"the environment has no {variable}")
    else:
        raise BadInputError("either secret_file or secret_env says where the secret is")
    kind = "basic" if credential.get("username") else "bearer"
    rest = {key: v for key, v in credential.items() if key not in ("secret_file", "secret_env")}
    return {"kind": kind, **rest, "secret": secret}


def _plain(value: Any) -> Any:
    """Return TOML's values as JSON has them: times become text."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return value


def _lines(result: dict[str, Any]) -> Iterator[str]:
    changes = result["changes"]
    for change in changes:
        sign, colour = _SIGNS[change["action"]]
        yield _painted(one_line(f"{sign} {change['object']}"), colour)
        for line in _facts(change):
            yield "    " + one_line(line)
    if not changes:
        yield "nothing to change"
        return
    counts = [(a, sum(c["action"] == a for c in changes)) for a in ("create", "update", "remove")]
    summary = ", ".join(f"{count} {action}d" for action, count in counts if count)
    yield f"{'would be ' if result['dry_run'] else ''}{summary}"


def _facts(change: dict[str, Any]) -> Iterator[str]:
    before, after = change["before"], change["after"]
    if before is not None and after is not None:
        for name, value in after.items():
            if before[name] != value:
                yield f"{name}: {_shown(before[name])} → {_shown(value)}"
        return
    for name, value in (after or {}).items():
        if name not in _IN_THE_NAME and _shown(value) != "none" and value is not False:
            yield f"{name}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        if "url" in value:
            return _upstream(value)
        return ", ".join(f"{k} {v}" for k, v in value.items() if v is not None) or "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    return "none" if value in (None, "") else str(value)


def _upstream(value: dict[str, Any]) -> str:
    more = [f"{k}={_shown(v)}" for k, v in value.items() if k != "url" and v != _USUAL.get(k)]
    return str(value["url"]) + (f" ({' '.join(more)})" if more else "")


def _painted(text: str, colour: str) -> str:
    return typer.style(text, fg=colour) if colours_are_wanted(sys.stdout) else text
