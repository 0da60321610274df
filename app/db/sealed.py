"""Every column that holds a sealed secret, for what concerns all of them: a new key."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.db.credentials import CredentialRow
from app.db.fleetkeys import SIGNERS, FleetKeyRow
from app.db.installation import InstallationRow
from app.db.tenantlogs import TenantLogRow
from app.db.tenants import TenantRow
from app.db.webhooks import WebhookRow


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A sealed secret and where it stands.

    Attributes:
        kind: "credential", "log", "fleet", "webhook" or "canary".
        row_id: of its row.
        names: what its place is made of: tenant and name, or the row's own name.
    """

    kind: str
    row_id: int | str
    names: tuple[str, ...]
    sealed: bytes = field(repr=False)


_COLUMNS: dict[str, Any] = {
    "credential": CredentialRow.sealed,
    "log": TenantLogRow.seed,
    "fleet": FleetKeyRow.seed,
    "webhook": WebhookRow.secret,
    "canary": InstallationRow.key_canary,
}


class SealedTable:
    """The repository of sealed secrets."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[SealedSecret]:
        """Return every sealed secret that is of use: no retired log's, no former fleet key's."""
        signers = select(FleetKeyRow.id).order_by(FleetKeyRow.id.desc()).limit(SIGNERS)
        queries: dict[str, Any] = {
            "credential": select(
                CredentialRow.id, CredentialRow.sealed, TenantRow.name, CredentialRow.name
            ).join(TenantRow, TenantRow.id == CredentialRow.tenant_id),
            "log": select(TenantLogRow.id, TenantLogRow.seed, TenantLogRow.name).where(
                TenantLogRow.retired.is_(False)
            ),
            "fleet": select(FleetKeyRow.id, FleetKeyRow.seed, FleetKeyRow.vkey).where(
                FleetKeyRow.id.in_(signers)
            ),
            "webhook": select(WebhookRow.id, WebhookRow.secret, WebhookRow.id),
            "canary": select(InstallationRow.id, InstallationRow.key_canary).where(
                InstallationRow.key_canary.is_not(None)
            ),
        }
        return [
            SealedSecret(kind, row[0], tuple(row[2:]), row[1])
            for kind, query in queries.items()
            for row in self._session.execute(query)
        ]

    def replace(self, secret: SealedSecret, sealed: bytes) -> bool:
        """Replace a sealed secret; return False if it was changed or removed meanwhile."""
        column = _COLUMNS[secret.kind]
        row = column.class_
        statement = (
            update(row)
            .where(row.id == secret.row_id, column == secret.sealed)
            .values({column.key: sealed})
        )
        result: Any = self._session.execute(
            statement, execution_options={"synchronize_session": False}
        )
        return bool(result.rowcount)
