"""Who makes a request, and what its token lets it do."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a token is for; `admin` includes the others."""

    READ = "read"
    PUBLISH = "publish"
    AUDIT = "audit"  # read what names every module: tiles of records
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        actor: what audit rows say: "token:1f2e3d4c", "cli", "anonymous".
        scopes: what it may do.
        tenant: where it may do it; None means everywhere.
        token: the token's id; "" without one.
    """

    actor: str
    scopes: frozenset[Scope] = frozenset()
    tenant: str | None = None
    token: str = ""

    def has(self, scope: Scope) -> bool:
        """Whether it has a scope, by name or because it is an admin."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def is_platform_admin(self) -> bool:
        """Whether it may change everything."""
        return self.tenant is None and Scope.ADMIN in self.scopes


ANONYMOUS = Principal("anonymous")
OPERATOR = Principal("cli", frozenset({Scope.ADMIN}))
"""Whoever can read the data directory."""
