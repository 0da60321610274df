"""Which part of an SQLite database's disk a change may use.

Not here: how much is free (`app/storage/freespace.py`), and the file that keeps a reserve
(`app/storage/reserve.py`).
"""

from enum import StrEnum
from typing import Protocol


class Disk(Protocol):
    """The disk of an SQLite database. The methods block."""

    def require(self, size_bytes: int) -> None:
        """Return if size_bytes more fit above the floor.

        Raises:
            StorageFullError: they do not fit.
        """

    def has_share(self) -> bool:
        """Return whether more than half of the reserve is left."""

    def let_go(self) -> bool:
        """Give a part of the reserve back to the disk; return False if nothing is left."""


class Room(StrEnum):
    """Which part of the disk a transaction may use. Everything else stays free for the next kind.

    ABOVE_FLOOR: whatever a request causes to be stored.
    BELOW_FLOOR: upkeep of rows that exist: leases, marks, removals. It may use the floor.
    TENANT_RESERVE: revoking and denying by a tenant's admin. They may use half of the reserve.
    RESERVE: the same by the platform's admins. They may use all of it: a tenant's admin must not
        keep them from revoking that admin's token.
    """

    ABOVE_FLOOR = "above floor"
    BELOW_FLOOR = "below floor"
    TENANT_RESERVE = "tenant reserve"
    RESERVE = "reserve"

    @property
    def is_of_denials(self) -> bool:
        """Whether the change revokes or denies."""
        return self in (Room.TENANT_RESERVE, Room.RESERVE)

    def is_held_to_floor(self, disk: Disk) -> bool:
        """Return whether the change has to fit above the floor."""
        if self is Room.TENANT_RESERVE:
            return not disk.has_share()
        return self is Room.ABOVE_FLOOR

    def may_use_reserve(self, disk: Disk) -> bool:
        """Return whether the next part of the reserve may be given back for the change."""
        return self is Room.RESERVE or (self is Room.TENANT_RESERVE and disk.has_share())
