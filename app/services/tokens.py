"""Tokens: making them, telling whose one is, rotating and revoking them."""

import secrets
from dataclasses import replace
from datetime import datetime, timedelta

from app.core.errors import (
    BadInputError,
    ConflictError,
    UnauthenticatedError,
    UnknownError,
)
from app.core.principal import OPERATOR, Principal, Scope
from app.core.token import make_token, token_hash
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import PLATFORM, bump_generation
from app.db.tokens import RecordedToken, Tokens
from app.services.authorization import principal_of, require_admin, secret_hash, valid_token
from app.services.changes import denial_room, locked, tenant_named
from app.services.clock import Now

MAX_NAME_CHARS = 100
MAX_LIFE = timedelta(days=366)
MAX_GRACE = timedelta(days=30)
MAX_ACTIVE = 2
"""Active tokens of one name in one tenant: the old one and the one that takes its place."""


class TokenService:
    """Tokens of the platform and of tenants."""

    def __init__(self, db: Database, now: Now) -> None:
        self._db = db
        self._now = now

    async def create(
        self,
        name: str,
        *,
        who: Principal = OPERATOR,
        tenant: str | None = None,
        scopes: frozenset[Scope] = frozenset({Scope.ADMIN}),
        expires_at: datetime | None = None,
    ) -> tuple[RecordedToken, str]:
        """Return a new token and its secret, which is shown this once and never stored.

        Args:
            name: whose it is, for listings.
            who: an admin of the tenant, or of the platform where tenant is None.
            tenant: where it is valid; None means everywhere.
            scopes: what it is for.
            expires_at: UTC, at most a year ahead; None means never.

        Raises:
            BadInputError: the name, the scopes or the expiry can't be.
            UnknownError: there is no such tenant.
            ConflictError: there are two active tokens of that name.
        """
        require_admin(who, tenant)
        at = self._now()
        _check(name, scopes, expires_at, at)
        token, secret = _new(name, scopes, at, expires_at, tenant)
        await self._db.write(locked(lambda s: self._add(s, token, secret, who)))
        return token, secret

    def _add(self, session: Session, token: RecordedToken, secret: str, who: Principal) -> None:
        tenant_id = tenant_named(session, token.tenant).id if token.tenant else None
        tokens = Tokens(session)
        active = tokens.active(tenant_id, token.name, token.created_at)
        if len(active) >= MAX_ACTIVE:
            raise ConflictError(
                f"{MAX_ACTIVE} tokens named {token.name!r} are active; revoke one, "
                f"{active[0].id} is the oldest"
            )
        tokens.add(token, token_hash(secret), tenant_id)
        scopes = " ".join(sorted(token.scopes))
        detail = f"{token.name}: {scopes} for {token.tenant or 'the platform'}"
        AuditLog(session).append(
            token.created_at, who.actor, "token.create", f"token:{token.id}", detail
        )
        bump_generation(session, [token.tenant or PLATFORM])

    async def create_first(self) -> str | None:
        """Make a first token and return its secret; return None if any token is recorded.

        Of replicas that start at once on an empty database, one makes the token.
        """
        if not await self._db.read(lambda s: Tokens(s).is_empty()):
            return None
        token, secret = _new("first start", frozenset({Scope.ADMIN}), self._now(), None, None)

        def work(session: Session) -> bool:
            if not Tokens(session).is_empty():
                return False
            self._add(session, token, secret, replace(OPERATOR, actor="system"))
            return True

        return secret if await self._db.write(locked(work)) else None

    async def page(
        self,
        who: Principal = OPERATOR,
        *,
        tenant: str | None = None,
        after: tuple[datetime, str] | None = None,
        limit: int | None = None,
    ) -> list[RecordedToken]:
        """Return tokens, revoked ones too, oldest first; all of them, or those of one tenant.

        Args:
            who: an admin of the tenant, or of the platform where tenant is None.
            tenant: whose tokens; None takes all.
            after: time of creation and id of the last token of the page before.
            limit: how many at most; None takes all.

        Raises:
            DeniedError: they are not who's to see.
            UnknownError: there is no such tenant.
        """
        require_admin(who, tenant)

        def work(session: Session) -> list[RecordedToken]:
            tenant_id = None if tenant is None else tenant_named(session, tenant).id
            return Tokens(session).page(tenant_id=tenant_id, after=after, limit=limit)

        return await self._db.read(work)

    async def rotate(
        self,
        token_id: str,
        who: Principal = OPERATOR,
        *,
        tenant: str | None = None,
        grace: timedelta = timedelta(days=1),
    ) -> tuple[RecordedToken, str]:
        """Return a token that takes the place of another, and its secret.

        The new one has the old one's name, scopes and life; the old one is valid until the grace
        has passed.

        Args:
            token_id: of the old one.
            who: an admin of the tenant, or of the platform where tenant is None.
            tenant: whose token it must be; None takes any.
            grace: 0 to 30 days.

        Raises:
            BadInputError: the grace is out of bounds.
            UnknownError: there is none with this id.
            ConflictError: it is not active, or two of its name are.
        """
        require_admin(who, tenant)
        if not timedelta() <= grace <= MAX_GRACE:
            raise BadInputError(f"the grace is 0 to {MAX_GRACE.days} days")
        at = self._now()
        secret = make_token(secrets.token_bytes(32))

        def work(session: Session) -> RecordedToken:
            old = _token(session, token_id, tenant)
            if not old.is_active(at):
                raise ConflictError(f"token {token_id} is not active; create another")
            life = None if old.expires_at is None else old.expires_at - old.created_at
            new = replace(
                old,
                id=secrets.token_hex(4),
                created_at=at,
                expires_at=None if life is None else at + life,
                last_used_on=None,
            )
            self._add(session, new, secret, who)
            ends = at + grace if old.expires_at is None else min(old.expires_at, at + grace)
            Tokens(session).expire(token_id, ends)
            detail = f"by {new.id}; valid until {ends:%Y-%m-%d %H:%M} UTC"
            AuditLog(session).append(at, who.actor, "token.rotate", f"token:{token_id}", detail)
            return new

        return await self._db.write(locked(work)), secret

    async def revoke(
        self, token_id: str, *, who: Principal = OPERATOR, tenant: str | None = None
    ) -> None:
        """Revoke a token at once, everywhere.

        Args:
            token_id: its id.
            who: an admin of the tenant, or of the platform where tenant is None.
            tenant: whose token it must be; None takes any.

        Raises:
            UnknownError: there is none with this id.
            ConflictError: it was revoked before.
        """
        require_admin(who, tenant)
        at = self._now()

        def work(session: Session) -> None:
            token = _token(session, token_id, tenant)
            if not Tokens(session).revoke(token_id, at):
                raise ConflictError(f"token {token_id} is revoked already")
            AuditLog(session).append(at, who.actor, "token.revoke", f"token:{token_id}")
            bump_generation(session, [token.tenant or PLATFORM])

        await self._db.write(locked(work), room=denial_room(who))

    async def authenticate(self, presented: str | None) -> Principal:
        """Return whose token was presented.

        Raises:
            UnauthenticatedError: none, malformed, unknown, expired or revoked; or its tenant is
                switched off.
        """
        sha256_hex = secret_hash(presented)
        # Asked of the database each time: a revoked admin stops at once, everywhere. Only this
        # token is asked for: a policy with many tenants is slow to load, and changes often.
        recorded = await self._db.read(lambda s: Tokens(s).by_secret(sha256_hex))
        token = valid_token(recorded[0] if recorded else None, self._now())
        if recorded and not recorded[1]:
            raise UnauthenticatedError(
                f"tenant {token.tenant} is switched off, and its tokens with it"
            )
        return principal_of(token)


def _new(
    name: str,
    scopes: frozenset[Scope],
    at: datetime,
    expires_at: datetime | None,
    tenant: str | None,
) -> tuple[RecordedToken, str]:
    """Return a token that is not recorded yet, and its secret."""
    token = RecordedToken(
        id=secrets.token_hex(4),
        name=name,
        scopes=frozenset(scopes),
        created_at=at,
        expires_at=expires_at,
        revoked_at=None,
        tenant=tenant,
    )
    return token, make_token(secrets.token_bytes(32))


def _check(name: str, scopes: frozenset[Scope], expires_at: datetime | None, at: datetime) -> None:
    if not name.strip():
        raise BadInputError("a token needs a name, so that somebody knows whose it is")
    if len(name) > MAX_NAME_CHARS:
        raise BadInputError(f"the name has more than {MAX_NAME_CHARS} characters")
    if not name.isprintable():
        raise BadInputError("the name has a control character or a line break")
    if not scopes:
        raise BadInputError("a token needs a scope: read, publish, audit or admin")
    if expires_at is None:
        return
    if expires_at.tzinfo is None:
        raise BadInputError('expires_at needs a zone, as in "2027-01-31T00:00:00Z"')
    if expires_at > at + MAX_LIFE:
        raise BadInputError("a token is valid for a year at most")


def _token(session: Session, token_id: str, tenant: str | None) -> RecordedToken:
    """Return a token; one of another tenant is unknown, so that ids can't be tried out."""
    # PostgreSQL takes no NUL in a text, and the id may be anybody's.
    token = Tokens(session).get(token_id) if token_id.isprintable() else None
    if token is None or tenant not in (None, token.tenant):
        of_tenant = f" of tenant {tenant[:80]!a}" if tenant else ""
        raise UnknownError(
            f"no token{of_tenant} has the id {token_id[:40]}; see `moorage token list`"
        )
    return token
