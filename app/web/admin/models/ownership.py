"""Prefixes of module paths that belong to one tenant."""

from app.core.acl import Owner as OwnershipIn
from app.core.acl import RecordedOwnership as OwnershipOut

__all__ = ["OwnershipIn", "OwnershipOut"]
