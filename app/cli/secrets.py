"""`moorage secrets`: the key that seals secrets in the database."""

from typing import Any

import typer

from app.cli.output import complain, emit
from app.cli.progress import busy
from app.cli.session import Here, Json, local

secrets = typer.Typer(
    name="secrets", help="The key that seals secrets in the database.", no_args_is_help=True
)


@secrets.callback()
def _group() -> None:
    """Keep `rotate` a command of its own, although it is the only one."""


@secrets.command()
def rotate(_here: Here = None, as_json: Json = False) -> None:
    """Seal every secret under a new key, while the service runs; both keys are read meanwhile.

    Killed at any point, it goes on when it is run again.
    """
    complain("takes half a minute: changes under the old key have to end")
    with busy("sealing"):
        rotated = local(lambda services: services.upkeep.rotation.rotate("cli"))
    result = {
        "sealed": rotated.sealed,
        "secrets": rotated.secrets,
        "is_old_key_needed": rotated.is_old_key_needed,
    }
    emit(result, as_json, _rotated)


def _rotated(result: dict[str, Any]) -> str:
    text = f"{result['secrets']} secrets are sealed under the new key"
    if result["is_old_key_needed"]:
        return f"{text}; now remove MOORAGE_SECRETS_KEY_BEFORE and restart every process"
    return f"{text}; copy keys/secrets.key to its safe place"
