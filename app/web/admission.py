"""Who is let in to `/goproxy/…`: the tenant, the token, the rate, and the streams at once.

What a caller may do with a module is decided by `services/authorization`; what is answered, by
`services/modules` and `services/sumdb`.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from cachetools import LRUCache

from app.core.errors import (
    DeniedError,
    MoorageError,
    RateLimitedError,
    UnauthenticatedError,
    UnknownError,
)
from app.core.goproxy import decode_path
from app.core.token import looks_like_token
from app.services.authorization import (
    authenticate,
    principal_of,
    secret_hash,
    token_of,
    token_wanted,
)
from app.services.clock import Now
from app.services.modules.caller import Caller
from app.services.policy import Policy, PolicyReader, TenantPolicy
from app.services.slots import Buckets, FairSemaphore
from app.web.credentials import presented_token
from app.web.limits import WrongTokens
from app.web.responses import Header
from app.web.streaming import Scope
from app.web.tenancy import PREFIX, Gateways, TenantPath, client_block, parse_tenant_path

_MAX_TENANTS = 4096


@dataclass(frozen=True, slots=True)
class TenantDefaults:
    """Limits of every tenant that has none of its own.

    Attributes:
        streams: zips sent to one tenant at once.
        stream_wait_s: seconds that a zip waits for its turn.
        rate: requests a second of one tenant that are not answered from memory.
    """

    streams: int
    stream_wait_s: float
    rate: int


class Admission:
    """Admits requests of tenants in one process."""

    def __init__(
        self,
        policies: PolicyReader,
        gateways: Gateways,
        defaults: TenantDefaults,
        wrong_tokens: WrongTokens,
        now: Now,
    ) -> None:
        self._policies = policies
        self._gateways = gateways
        self._defaults = defaults
        self._wrong_tokens = wrong_tokens
        self._now = now
        self._rates = Buckets(time.monotonic)
        self._streams: LRUCache[tuple[str, int], FairSemaphore] = LRUCache(_MAX_TENANTS)

    async def admit(
        self, scope: Scope, peer: str, client: str, *, is_counted: bool = True
    ) -> tuple[Caller, TenantPath]:
        """Return who asks, and what of the tenant is asked for.

        Args:
            scope: of the request.
            peer: the address that the connection came from.
            client: the address of the client, behind a gateway or not.
            is_counted: whether the request counts for the tenant's rate; False for a second look.

        Raises:
            BadInputError: the path is malformed; path and gateway name different tenants.
            UnauthenticatedError: the tenant needs a token, and there is none, or no valid one.
            DeniedError: there is no such tenant, and the token is another one's.
            UnknownError: there is no such tenant.
            RateLimitedError: too many requests of this tenant, or wrong tokens from this client.
        """
        policy, now = await self._policies.current(), self._now()
        headers: list[Header] = scope["headers"]
        path = decode_path(scope["raw_path"])
        whole = path if path.startswith(PREFIX) else path + b"/"
        to = parse_tenant_path(whole, headers, peer, self._gateways, policy.hosts)
        try:
            if _is_unknown(policy, to.tenant, presented_token(headers)):
                # Another process may have made the tenant or the token a moment ago.
                policy = await self._policies.looked_up()
            of_tenant, caller = _authenticate(policy, to.tenant, headers, now, client)
        except UnauthenticatedError:
            if any(name == b"authorization" for name, _ in headers):
                self._wrong_tokens.count(client)
            raise
        if is_counted:
            self._count_request(of_tenant)
        return caller, to

    async def tenant_of(self, scope: Scope, peer: str) -> str:
        """Return the name of the tenant that a refused request is for; "" for no existing one."""
        policy = await self._policies.current()
        path = decode_path(scope["raw_path"])
        to = parse_tenant_path(path + b"/", scope["headers"], peer, self._gateways, policy.hosts)
        return to.tenant if to.tenant in policy.tenants else ""

    def _count_request(self, of_tenant: TenantPolicy) -> None:
        tenant = of_tenant.tenant
        wait_s = self._rates.take(tenant.name, tenant.limits.rate or self._defaults.rate)
        if wait_s:
            raise RateLimitedError(
                f"tenant {tenant.name} sends more requests than it may; try again",
                retry_after_s=max(1, round(wait_s)),
            )

    @asynccontextmanager
    async def stream(self, tenant: str, client: str) -> AsyncIterator[None]:
        """Return a context for a body that is streamed to a tenant; wait for a turn.

        Args:
            tenant: whose streams are counted.
            client: the address that asks; the addresses of a tenant share its streams.

        Raises:
            RateLimitedError: no turn came in time.
        """
        of_tenant = (await self._policies.current()).tenants.get(tenant)
        most = (of_tenant.tenant.limits.streams if of_tenant else None) or self._defaults.streams
        turns = self._streams.setdefault((tenant, most), FairSemaphore(most))
        block = client_block(client)
        try:
            await turns.acquire(block, self._defaults.stream_wait_s)
        except TimeoutError as error:
            raise RateLimitedError(
                f"tenant {tenant} has as many downloads under way as it may; try again"
            ) from error
        try:
            yield
        finally:
            turns.release(block)


def _is_unknown(policy: Policy, tenant: str, presented: str | None) -> bool:
    """Whether a policy lacks the tenant or the token of a request."""
    if tenant not in policy.tenants:
        return True
    if presented is None or not looks_like_token(presented):
        return False
    return secret_hash(presented) not in policy.tokens


def _authenticate(
    policy: Policy, name: str, headers: list[Header], now: datetime, client: str
) -> tuple[TenantPolicy, Caller]:
    presented = presented_token(headers)
    of_tenant = policy.tenants.get(name)
    if of_tenant is None:
        raise _no_such_tenant(policy, name, presented, now)
    principal, token = authenticate(policy, of_tenant, presented, now)
    caller = Caller(
        policy,
        of_tenant,
        principal,
        now,
        fetch=_wants_fetch(headers),
        token=token,
        client=client_block(client),
    )
    return of_tenant, caller


def _wants_fetch(headers: list[Header]) -> bool:
    return not any(
        name == b"disable-module-fetch" and value.strip().lower() == b"true"
        for name, value in headers
    )


def _no_such_tenant(
    policy: Policy, name: str, presented: str | None, now: datetime
) -> MoorageError:
    """Return the refusal for a tenant that does not exist: strangers are not told that."""
    if presented is None or not looks_like_token(presented):
        return token_wanted(name)
    principal = principal_of(token_of(policy, presented, now))
    if principal.tenant is not None:
        return DeniedError(f"this token is not one for tenant {name}")
    return UnknownError(f"there is no tenant {name[:80]}; see `moorage tenant list`")
