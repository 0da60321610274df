"""Whether the key is that of a database's sealed secrets; a start proves it before it seals any.

The proof is a canary, a known text that was sealed under the key. Where one host alone uses the
database there is none at first, and any secret that the key opens is the proof.
"""

import asyncio
from datetime import datetime

from app.core.errors import UnfitDatabaseError
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.installation import first_key_canary, replace_key_canary
from app.db.sealed import SealedTable
from app.services.rotation import place
from app.services.secrets import CANARY_PLACE, KeySource, SecretBox

_CANARY = "moorage"
_WAY_OUT = (
    "put back the key that sealed them (a backup needs that of its time); if it is lost, run "
    "`moorage migrate --new-secrets-key` and enter the secrets again"
)


async def require_key(db: Database, source: KeySource, *, is_shared: bool) -> None:
    """Return if the key is that of the database's secrets; where nothing is sealed, make one.

    Args:
        db: has the secrets.
        source: has the key.
        is_shared: whether several hosts can use the database: the first one's key is that of all,
            and a canary says so before there is any secret.

    Raises:
        UnfitDatabaseError: the key is lost, or another one; nothing was made or sealed.
        StorageError: the key's file can't be read or made.
    """
    # Read first: another process may make the key and seal with it meanwhile.
    secrets = await db.read(lambda s: SealedTable(s).all())
    canary = [secret for secret in secrets if secret.kind == "canary"]
    if not source.is_made():
        if secrets:
            raise UnfitDatabaseError(
                f"keys/secrets.key is missing in MOORAGE_DATA_DIR, and the database has "
                f"{_counted(len(secrets) - len(canary))} sealed under it: {_WAY_OUT}"
            )
        await asyncio.to_thread(source.make)
    box = SecretBox(source=source)
    proofs = canary or secrets
    is_own = not proofs or any(box.opens(one.sealed, place(one)) for one in proofs)
    if is_own and is_shared and not canary:
        sealed = box.seal(_CANARY, CANARY_PLACE)
        is_own = box.opens(await db.write(lambda s: first_key_canary(s, sealed)), CANARY_PLACE)
    if is_own:
        return
    if is_shared:
        raise UnfitDatabaseError(
            "MOORAGE_SECRETS_KEY is not the key of this database's secrets: give every replica the "
            f"key that the first one had, or {_WAY_OUT}"
        )
    raise UnfitDatabaseError(
        "the key (keys/secrets.key in MOORAGE_DATA_DIR, or MOORAGE_SECRETS_KEY) opens none of the "
        f"{_counted(len(secrets) - len(canary))} in the database: {_WAY_OUT}"
    )


async def accept_key(db: Database, source: KeySource, now: datetime) -> None:
    """Say that the database's key is this one from now on, by an operator's word.

    What was sealed under another key stays, and is not opened by this one.
    """
    await asyncio.to_thread(source.make)
    sealed = SecretBox(source=source).seal(_CANARY, CANARY_PLACE)

    def accept(session: Session) -> None:
        replace_key_canary(session, sealed)
        AuditLog(session).append(now, "cli", "secrets.accept", "secrets", "the key is another one")

    await db.write(accept)


def _counted(number: int) -> str:
    return f"{number} secret" + "s" * (number != 1)
