"""`/dl/channels/<channel>/`: who may see a channel, and the texts that only channels have.

Files and lists are those of `/dl/`, restricted to the channel's revision: `downloads` has them.
"""

import re
from enum import StrEnum
from html import escape

from app.core.channel import Revision
from app.core.errors import DeniedError, MoorageError, UnauthenticatedError, UnknownError
from app.core.fleetnode import Node
from app.core.principal import Scope
from app.core.tenantname import is_plain_name
from app.core.token import looks_like_token, token_hash
from app.db.channels import SignedRevision
from app.services.authorization import principal_of, secret_hash, token_of
from app.services.clock import Now
from app.services.fleet.checkins import CheckIns
from app.services.fleet.offered import ChannelReader, OfferedChannel
from app.services.policy import PolicyReader
from app.web.credentials import presented_token
from app.web.limits import WrongTokens
from app.web.responses import LISTING, TEXT, Answer, Header, body_answer

CURRENT = "current"
MANIFEST = "manifest"
ENV = "env"
TEXTS = (CURRENT, MANIFEST, ENV)

_PATH = re.compile(rb"(/(?:dl|go))/+channels(?:/+([^/]*)(/.*)?)?", re.DOTALL)


def split_path(path: bytes) -> tuple[str, bytes] | None:
    """Return a channel's name, and the path of the same thing below `/dl/`.

    `/dl/channels/stable/go1.27.1.src.tar.gz` gives ("stable", b"/dl/go1.27.1.src.tar.gz"). The path
    is empty where the slash behind the name is missing. None is a path that is not below
    `/dl/channels`.

    Args:
        path: percent-decoded.

    Raises:
        UnknownError: no channel can have the name.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    root, name, rest = match.groups()
    text = (name or b"").decode("ascii", "backslashreplace")
    if not is_plain_name(text):
        raise UnknownError(f"there is no channel {text[:80]!a}: it is /dl/channels/<channel>/")
    return text, root + rest if rest else b""


def text_of(name: str, signed: SignedRevision) -> Answer:
    """Return one of `TEXTS`."""
    revision = signed.revision
    if name == MANIFEST:
        return body_answer(signed.manifest, TEXT, LISTING)
    if name == CURRENT:
        return body_answer(f"{revision.current}\n".encode(), TEXT, LISTING)
    return body_answer(_env(revision).encode(), TEXT, LISTING)


def _env(revision: Revision) -> str:
    """Return lines that a shell, docker, systemd and GitHub Actions take; no value needs quotes."""
    return (
        f"MOORAGE_CHANNEL={revision.channel}\n"
        f"MOORAGE_REVISION={revision.revision}\n"
        f"GO_VERSION={revision.current.removeprefix('go')}\n"
        f"GOTOOLCHAIN={revision.current}\n"
    )


def introduction(revision: Revision) -> str:
    """Return HTML that says what a channel is at."""
    reason = f" ({escape(revision.reason)})" if revision.reason else ""
    return (
        f"<p>Channel <strong>{escape(revision.channel)}</strong> is at revision "
        f"{revision.revision}: <strong>{escape(revision.current)}</strong>{reason}. For programs: "
        '<a href="current">current</a>, <a href="env">env</a>, and the signed '
        '<a href="manifest">manifest</a>.</p>'
    )


class Audience(StrEnum):
    """Who sees the same of a channel as the client."""

    EVERYBODY = "everybody"
    TENANTS = "tenants"  # those that may follow a limited channel
    NODES = "nodes"  # the channel's own, which may get a candidate


class ChannelDoor:
    """Says who may see which channel."""

    def __init__(
        self,
        channels: ChannelReader,
        policies: PolicyReader,
        wrong_tokens: WrongTokens,
        nodes: CheckIns,
        now: Now,
    ) -> None:
        self._channels = channels
        self._nodes = nodes
        self._policies = policies
        self._wrong_tokens = wrong_tokens
        self._now = now

    @property
    def changed_at(self) -> int:
        """The generation at which any channel changed last."""
        return self._channels.changed_at

    @property
    def admits_since(self) -> int:
        """The generation of the last change of tenants, tokens or nodes, so of who may enter."""
        return max(self._policies.changed_at, self._nodes.tokens_since)

    async def enter(
        self, name: str, headers: list[Header], client: str
    ) -> tuple[OfferedChannel, Audience]:
        """Return a channel that the client may see, as the client sees it, and who else does.

        Args:
            name: the channel's.
            headers: of the request, with lower-case names.
            client: the address that asks.

        Raises:
            UnknownError: there is no such channel.
            UnauthenticatedError: the channel is limited, and no valid token was presented.
            DeniedError: the token is not one of a tenant that may follow the channel.
            RateLimitedError: there were too many wrong tokens from this address.
        """
        offered = (await self._channels.current()).by_name.get(name)
        if offered is None:
            raise UnknownError(f"there is no channel {name}; ask an admin for the right name")
        is_public = offered.channel.tenants is None
        if is_public and not any(header == b"authorization" for header, _ in headers):
            return offered, Audience.EVERYBODY
        node = await self._node(headers)
        if node is not None and node.channel == name:
            return offered.for_nodes(), Audience.NODES
        if is_public:
            return offered, Audience.EVERYBODY
        if node is not None:
            raise DeniedError(f"this is the token of a node that follows channel {node.channel}")
        try:
            await self._check_token(offered, presented_token(headers))
        except UnauthenticatedError:
            if any(header == b"authorization" for header, _ in headers):
                self._wrong_tokens.count(client)
            raise
        return offered, Audience.TENANTS

    async def _node(self, headers: list[Header]) -> Node | None:
        """Return the node whose token was presented; None for every other token."""
        try:
            presented = presented_token(headers)
        except MoorageError:  # to a public channel, a token that can't be read is none
            return None
        if presented is None or not looks_like_token(presented):
            return None
        policy = await self._policies.current()
        if token_hash(presented) in policy.tokens:
            return None
        try:
            return await self._nodes.node_of(presented)
        except UnauthenticatedError:
            return None

    async def _check_token(self, offered: OfferedChannel, presented: str | None) -> None:
        name = offered.channel.name
        if presented is None:
            raise UnauthenticatedError(
                f"channel {name} is for some tenants only: send `Authorization: Bearer <token>`"
            )
        policy = await self._policies.current()
        if secret_hash(presented) not in policy.tokens:
            policy = await self._policies.looked_up()  # perhaps it was made a moment ago
        principal = principal_of(token_of(policy, presented, self._now()))
        is_admitted = principal.tenant is None or (
            offered.channel.admits(principal.tenant)
            and policy.tenants[principal.tenant].tenant.enabled
        )
        if not is_admitted or not principal.has(Scope.READ):
            raise DeniedError(f"this token is not one that reads channel {name}")


def current_of(offered: OfferedChannel) -> SignedRevision:
    """Return what a channel offers to everybody who may see it.

    Raises:
        UnknownError: the channel has no revision yet.
    """
    if offered.current is None:
        name = offered.channel.name
        raise UnknownError(
            f"channel {name} has no revision yet; "
            f"an admin makes one with `moorage channel set {name} VERSION`"
        )
    return offered.current
