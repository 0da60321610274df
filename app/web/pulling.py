"""Who may pull container images, and for whom a channel is a tag.

An open mirror gives every release to everybody, as `/dl/` does; channels that are limited to
tenants want a token of one of these. A closed mirror wants a token for everything.
"""

from collections.abc import Collection
from dataclasses import dataclass

from app.core.errors import DeniedError, UnauthenticatedError
from app.core.principal import Scope
from app.core.token import looks_like_token
from app.services.authorization import principal_of, secret_hash, token_of
from app.services.clock import Now
from app.services.fleet.offered import ChannelReader, OfferedChannel
from app.services.policy import PolicyReader
from app.web.credentials import presented_token
from app.web.limits import WrongTokens
from app.web.responses import Header

ANONYMOUS_TOKEN = "anonymous"  # noqa: S105 (what everybody gets)


@dataclass(frozen=True, slots=True)
class Puller:
    """Who pulls.

    Attributes:
        is_anonymous: no token of ours was presented.
        tenant: of the token; None for a platform admin's.
    """

    is_anonymous: bool = True
    tenant: str | None = None

    @property
    def key(self) -> bytes:
        """What the keys of answers to this puller begin with; no path begins so."""
        return f"{self.tenant or '*'}:".encode()


class PullingDoor:
    """Says who may pull what.

    Args:
        channels: whose names are tags.
        policies: have the tokens.
        wrong_tokens: counts wrong tokens by address.
        now: the wall clock.
        is_open: whether everybody may pull releases.
    """

    def __init__(
        self,
        channels: ChannelReader,
        policies: PolicyReader,
        wrong_tokens: WrongTokens,
        now: Now,
        *,
        is_open: bool,
    ) -> None:
        self._channels = channels
        self._policies = policies
        self._wrong_tokens = wrong_tokens
        self._now = now
        self.is_open = is_open

    @property
    def changed_at(self) -> int:
        """The generation at which any channel changed last."""
        return self._channels.changed_at

    @property
    def admits_since(self) -> int:
        """The generation of the last change of tenants or tokens: who may enter is judged anew."""
        return self._policies.changed_at

    async def enter(self, headers: list[Header], client: str) -> Puller:
        """Return who pulls.

        Args:
            headers: of the request, with lower-case names.
            client: the address that asks.

        Raises:
            UnauthenticatedError: the token is not valid, or the mirror is closed and there is none.
            DeniedError: the token does not allow reading.
            BadInputError: more than one Authorization header.
            RateLimitedError: there were too many wrong tokens from this address.
        """
        presented = presented_token(headers)
        is_ours = presented is not None and looks_like_token(presented)
        if self.is_open and not is_ours:
            return Puller()  # a password for another place means nothing here
        if presented is None or presented == ANONYMOUS_TOKEN:
            raise UnauthenticatedError(
                "this registry wants a token: log in as the user moorage, with the token as the "
                "password"
            )
        try:
            return await self._puller(presented)
        except UnauthenticatedError:
            self._wrong_tokens.count(client)
            raise

    async def _puller(self, presented: str) -> Puller:
        policy = await self._policies.current()
        if secret_hash(presented) not in policy.tokens:
            policy = await self._policies.looked_up()  # perhaps it was made a moment ago
        principal = principal_of(token_of(policy, presented, self._now()))
        if not principal.has(Scope.READ):
            raise DeniedError("this token is not one that reads")
        tenant = principal.tenant
        if tenant is not None and not policy.tenants[tenant].tenant.enabled:
            raise DeniedError(f"tenant {tenant} is switched off, and its tokens with it")
        return Puller(is_anonymous=False, tenant=tenant)

    async def token(self, headers: list[Header], client: str) -> str:
        """Return the Bearer token for a client: its own, or one that everybody gets.

        Raises:
            MoorageError: as `enter`.
        """
        puller = await self.enter(headers, client)
        if puller.is_anonymous:
            return ANONYMOUS_TOKEN
        return presented_token(headers) or ANONYMOUS_TOKEN

    async def ping(self, puller: Puller, headers: list[Header]) -> None:
        """Return if a client needs no token for anything, or has presented one.

        Clients ask for a token only if the answer to their first request wants one.

        Raises:
            UnauthenticatedError: a channel is limited to tenants, and nothing was presented.
        """
        if not puller.is_anonymous or presented_token(headers) == ANONYMOUS_TOKEN:
            return
        offered = (await self._channels.current()).by_name.values()
        if any(one.channel.tenants is not None for one in offered):
            raise UnauthenticatedError("ask for a token; everybody gets one")

    async def release_of(self, tag: str, puller: Puller) -> tuple[str | None, bool]:
        """Return the release that a channel is at, and whether everybody may know that.

        Raises:
            UnauthenticatedError: the channel is limited, and no token was presented.
            DeniedError: the token is not one of a tenant that may follow the channel.
        """
        offered = (await self._channels.current()).by_name.get(tag)
        if offered is None:
            return None, True
        is_public = offered.channel.tenants is None
        if not _may_follow(offered, puller):
            if puller.is_anonymous:
                raise UnauthenticatedError(f"channel {tag} is for some tenants only: log in first")
            raise DeniedError(f"this token is not one that reads channel {tag}")
        return None if offered.current is None else offered.current.revision.current, is_public

    async def channels(self, versions: Collection[str], puller: Puller) -> tuple[list[str], bool]:
        """Return the channels that are tags for a puller, and whether everybody sees the same.

        Args:
            versions: releases that have images.
            puller: who asks.
        """
        by_name = (await self._channels.current()).by_name
        names = [
            name
            for name, one in by_name.items()
            if one.current is not None
            and one.current.revision.current in versions
            and _may_follow(one, puller)
        ]
        is_public = all(one.channel.tenants is None for one in by_name.values())
        return names, is_public


def _may_follow(offered: OfferedChannel, puller: Puller) -> bool:
    if offered.channel.tenants is None:
        return True
    if puller.is_anonymous:
        return False
    return puller.tenant is None or offered.channel.admits(puller.tenant)
