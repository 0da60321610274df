"""Who makes a request, and what the request's token allows."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a token allows; `admin` includes the other scopes."""

    READ = "read"
    PUBLISH = "publish"
    AUDIT = "audit"  # read the tiles of records, which name every module
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        actor: the name in audit rows: "token:1f2e3d4c", "cli", "anonymous".
        scopes: what the principal may do.
        tenant: the only tenant in which the scopes hold; None means everywhere.
        token: the token's id; "" without a token.
    """

    actor: str
    scopes: frozenset[Scope] = frozenset()
    tenant: str | None = None
    token: str = ""

    def has(self, scope: Scope) -> bool:
        """Whether the principal has the scope; an admin has every scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def is_platform_admin(self) -> bool:
        """Whether the principal may change everything."""
        return self.tenant is None and Scope.ADMIN in self.scopes


ANONYMOUS = Principal("anonymous")
OPERATOR = Principal("cli", frozenset({Scope.ADMIN}))
"""The principal of the command line without `--server`: whoever can read the data directory."""
