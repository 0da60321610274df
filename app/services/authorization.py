"""The one choke point: who is it, and may it do that? Every Go-facing route of a tenant asks here.

A prepared answer was authorised when it was prepared, and is kept under the credential and the path
that were authorised, for one policy generation and no longer than token and rules last.
"""

from dataclasses import dataclass
from datetime import datetime

from app.core.acl import Decision, ModuleAccess
from app.core.errors import DeniedError, UnauthenticatedError
from app.core.principal import ANONYMOUS, Principal, Scope
from app.core.token import looks_like_token, token_hash
from app.db.tokens import RecordedToken
from app.services.policy import Policy, TenantPolicy


def principal_of(token: RecordedToken) -> Principal:
    """Return whom a token stands for."""
    scopes = frozenset(Scope(s) for s in token.scopes)
    return Principal(f"token:{token.id}", scopes, token.tenant, token.id)


def secret_hash(presented: str | None) -> str:
    """Return the hash by which the token of a secret is known.

    Raises:
        UnauthenticatedError: none, or it is malformed.
    """
    if presented is None:
        raise UnauthenticatedError("this needs a token: send `Authorization: Bearer <token>`")
    if not looks_like_token(presented):
        raise UnauthenticatedError("that is not a Moorage token")
    return token_hash(presented)


def valid_token(token: RecordedToken | None, now: datetime) -> RecordedToken:
    """Return a token that is accepted now.

    Raises:
        UnauthenticatedError: there is none, it expired or it was revoked.
    """
    if token is None or token.revoked_at is not None:
        raise UnauthenticatedError("this token is unknown or revoked")
    if token.expires_at is not None and token.expires_at <= now:
        raise UnauthenticatedError(f"this token expired at {token.expires_at.isoformat()}")
    return token


def token_of(policy: Policy, presented: str | None, now: datetime) -> RecordedToken:
    """Return the token that was presented.

    Raises:
        UnauthenticatedError: none, malformed, unknown, expired or revoked.
    """
    return valid_token(policy.tokens.get(secret_hash(presented)), now)


def token_wanted(tenant: str) -> UnauthenticatedError:
    """Return the refusal of a stranger, who is not told whether there is a tenant of that name."""
    return UnauthenticatedError(
        f"tenant {tenant[:80]} does not exist, or needs a token: give the token as the password in "
        ".netrc or by GOAUTH"
    )


def authenticate(
    policy: Policy, of_tenant: TenantPolicy, presented: str | None, now: datetime
) -> tuple[Principal, RecordedToken | None]:
    """Return who asks something of a tenant, and the valid token that was presented, if any.

    Where reading is open to everybody, a password that is no token of ours counts as none:
    setup-go sends GitHub's own to whatever host it downloads from.

    Raises:
        UnauthenticatedError: the tenant wants a token and none, or no valid one, was presented.
    """
    tenant = of_tenant.tenant
    if presented is None or (tenant.anonymous_read and not looks_like_token(presented)):
        if tenant.anonymous_read:
            return ANONYMOUS, None
        raise token_wanted(tenant.name)
    token = token_of(policy, presented, now)
    if not tenant.enabled and token.tenant == tenant.name:
        raise UnauthenticatedError(f"tenant {tenant.name} is switched off, and its tokens with it")
    if tenant.anonymous_read and token.tenant not in (None, tenant.name):
        return ANONYMOUS, token  # it means nothing here, and here nothing is needed
    return principal_of(token), token


@dataclass(frozen=True, slots=True)
class Permission:
    """What a principal may do with one module of a tenant, version by version.

    Attributes:
        refusal: why it may do nothing at all; None where the module's rules decide.
        access: those rules; None for the tenant's root.
    """

    refusal: Decision | None
    access: ModuleAccess | None

    @property
    def instead(self) -> str:
        """The release that a channel has as its current one; "" where no channel decides."""
        offer = None if self.access is None else self.access.toolchains
        return "" if offer is None else offer.current

    def decide(self, version: str | None) -> Decision:
        """Return the decision about a canonical version; None asks for the module as a whole."""
        if self.refusal is not None:
            return self.refusal
        return (
            Decision(allowed=True, by="token")
            if self.access is None
            else self.access.decide(version)
        )


def permission(
    principal: Principal,
    of_tenant: TenantPolicy,
    module: str | None,
    now: datetime,
) -> Permission:
    """Return what principal may do with a module of a tenant, version by version.

    Args:
        principal: who asks.
        of_tenant: of the tenant.
        module: plain path; None for the tenant's root.
        now: UTC; rules expire.
    """
    refusal = _refusal(principal, of_tenant)
    access = None if module is None else of_tenant.access.to(module, now)
    return Permission(refusal, access)


def _refusal(principal: Principal, of_tenant: TenantPolicy) -> Decision | None:
    tenant = of_tenant.tenant
    if not tenant.enabled:
        return Decision(
            allowed=False, by="tenant", reason=f"tenant {tenant.name} is switched off; ask an admin"
        )
    if principal.tenant not in (None, tenant.name):
        return Decision(
            allowed=False, by="token", reason=f"this token is not one for tenant {tenant.name}"
        )
    if not tenant.anonymous_read and not principal.has(Scope.READ):
        reason = f"this token lacks the scope `{Scope.READ}` for {tenant.name}"
        return Decision(allowed=False, by="token", reason=reason)
    return None


def require_publisher(who: Principal) -> None:
    """Return if who may publish own releases: with the platform's scope `publish`, or an admin.

    Raises:
        DeniedError: who may not.
    """
    if who.tenant is not None or not who.has(Scope.PUBLISH):
        raise DeniedError("this needs a platform token with the scope `publish` or `admin`")


def require_admin(principal: Principal, tenant: str | None) -> None:
    """Return for whoever may change a tenant; None means the whole platform.

    Raises:
        DeniedError: the token lacks the scope, or is for another tenant.
    """
    if not principal.has(Scope.ADMIN):
        raise DeniedError("this needs a token with the scope `admin`")
    if principal.tenant is None or (tenant is not None and principal.tenant == tenant):
        return
    if tenant is None:
        raise DeniedError(f"this needs a platform token; yours is for tenant {principal.tenant}")
    raise DeniedError(f"your token is for tenant {principal.tenant}, not for {tenant}")
