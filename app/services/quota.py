"""Quotas: how much is stored for a tenant, and refusing more.

A module file counts for the tenant for which it was fetched or published, and for no other one that
uses it, too. A process counts what it stores itself at once, and asks the database what others
store every few seconds: so a quota may be exceeded by what is under way.
"""

import time
from dataclasses import dataclass

from app.core.errors import QuotaError
from app.core.size import human_bytes
from app.db.engine import Database
from app.db.usedspace import UsedSpace
from app.services.clock import Monotonic

_FRESH_S = 5.0


@dataclass(slots=True)
class _Known:
    """What is stored for a tenant, and when the database said so."""

    size_bytes: int
    at: float


class Quotas:
    """The quotas of tenants, as one process knows them."""

    def __init__(self, db: Database, monotonic: Monotonic = time.monotonic) -> None:
        self._db = db
        self._monotonic = monotonic
        self._known: dict[str, _Known] = {}

    async def require(self, tenant: str, quota_bytes: int | None, more_bytes: int = 0) -> None:
        """Return if something more may be stored for a tenant.

        Args:
            tenant: the name.
            quota_bytes: its quota; None for no quota.
            more_bytes: the size of what is to be stored, where that is known.

        Raises:
            QuotaError: the quota is used up; the message says whose, and what to do.
        """
        if quota_bytes is None:
            return
        known = self._known.get(tenant)
        if known is None or self._monotonic() - known.at > _FRESH_S:
            size = await self._db.read(lambda s: UsedSpace(s).of_tenant(tenant))
            known = self._known[tenant] = _Known(size, self._monotonic())
        if known.size_bytes + more_bytes >= quota_bytes:
            raise QuotaError(
                f"tenant {tenant} has used its quota: {human_bytes(known.size_bytes)} of "
                f"{human_bytes(quota_bytes)} are stored for it; what is stored is served on. An "
                f"admin looks with `moorage tenant storage {tenant}`, and raises the quota with "
                f"`moorage tenant update {tenant} --quota-bytes N`, or lets `moorage gc` make space"
            )

    def count(self, tenant: str, size_bytes: int) -> None:
        """Count what this process has stored for a tenant."""
        if tenant in self._known:
            self._known[tenant].size_bytes += size_bytes
