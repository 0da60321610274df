"""Tokens: making them, telling whose one is, revoking them."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from app.core.errors import ConflictError, DeniedError, UnauthenticatedError, UnknownError
from app.core.token import looks_like_token, make_token, token_hash
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.tokens import RecordedToken, Tokens
from app.services.clock import Now

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        actor: what audit rows say: "token:1f2e3d4c".
    """

    actor: str
    scope: str


class TokenService:
    """The platform's tokens."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def create(
        self, name: str, *, actor: str, expires_at: datetime | None = None
    ) -> tuple[RecordedToken, str]:
        """Return a new admin token and its secret, which is shown this once and never stored."""
        secret = make_token(secrets.token_bytes(32))
        at = self._now()
        token = RecordedToken(secrets.token_hex(4), name, ADMIN, at, expires_at, None)

        def work(session: Session) -> None:
            Tokens(session).add(token, token_hash(secret))
            AuditLog(session).append(at, actor, "token.create", f"token:{token.id}", name)

        await self._db.write(work)
        return token, secret

    async def create_first(self) -> str | None:
        """Return the secret of the first token, or None if there has been one before."""
        if await self._db.read(lambda s: Tokens(s).all()):
            return None
        _, secret = await self.create("first start", actor="system")
        return secret

    async def all(self) -> list[RecordedToken]:
        """Return every token, revoked ones too."""
        return await self._db.read(lambda s: Tokens(s).all())

    async def revoke(self, token_id: str, *, actor: str) -> None:
        """Revoke a token at once, everywhere.

        Raises:
            UnknownError: there is none with this id.
            ConflictError: it was revoked before.
        """
        at = self._now()

        def work(session: Session) -> None:
            tokens = Tokens(session)
            if all(t.id != token_id for t in tokens.all()):
                raise UnknownError(f"no token has the id {token_id}; see `moorage token list`")
            if not tokens.revoke(token_id, at):
                raise ConflictError(f"token {token_id} is revoked already")
            AuditLog(session).append(at, actor, "token.revoke", f"token:{token_id}")
            bump_generation(session)

        await self._db.write(work)

    async def authenticate(self, presented: str | None) -> Principal:
        """Return whose token was presented.

        Raises:
            UnauthenticatedError: none, malformed, unknown, expired or revoked.
        """
        if presented is None:
            raise UnauthenticatedError("this needs a token: send `Authorization: Bearer <token>`")
        if not looks_like_token(presented):
            raise UnauthenticatedError("that is not a Moorage token")
        hashed = token_hash(presented)
        token = await self._db.read(lambda s: Tokens(s).by_secret(hashed))
        now = self._now()
        if token is None or token.revoked_at is not None:
            raise UnauthenticatedError("this token is unknown or revoked")
        if token.expires_at is not None and token.expires_at <= now:
            raise UnauthenticatedError(f"this token expired at {token.expires_at.isoformat()}")
        return Principal(f"token:{token.id}", token.scope)


def require_admin(principal: Principal) -> None:
    """Return for an admin.

    Raises:
        DeniedError: the token has another scope.
    """
    if principal.scope != ADMIN:
        raise DeniedError("this needs a token with the scope `admin`")
