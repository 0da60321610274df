"""Machines become nodes: the tokens for that, and enrolling.

A node's own token has the scope `node`: its check-ins, its reports, and its channel's files. It is
kept with the node, and no other route knows it.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.errors import BadInputError, UnauthenticatedError, UnknownError
from app.core.fleetmessages import Enrolment
from app.core.fleetnode import DEFAULT_GROUP, Node
from app.core.principal import Principal
from app.core.rolloutplan import check_group
from app.core.token import make_token, token_hash
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.enroltokens import EnrolToken, EnrolTokenTable
from app.db.generation import FLEET, bump_generation
from app.db.nodes import NodeTable
from app.services.authorization import require_admin, secret_hash
from app.services.changes import denial_room, locked
from app.services.clock import Now
from app.services.fleet.channels import channel_named
from app.services.fleet.manifests import Manifests
from app.services.fleet.progress import next_generation

MAX_USES = 100_000
MAX_HOURS = 24 * 366


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A new node, its secret, and what its machine needs to know."""

    node: Node
    token: str
    vkey: str


class EnrolmentService:
    """Use cases about machines that become nodes."""

    def __init__(self, db: Database, manifests: Manifests, now: Now) -> None:
        self._db = db
        self._manifests = manifests
        self._now = now

    async def create_token(
        self,
        who: Principal,
        channel: str,
        *,
        group: str = DEFAULT_GROUP,
        uses: int = 1,
        hours: int = 24,
    ) -> tuple[EnrolToken, str]:
        """Return a token by which machines enrol, and its secret, which is shown this once.

        Args:
            who: a platform admin.
            channel: what the nodes follow.
            group: of the nodes.
            uses: how many machines may enrol with it.
            hours: how long it is valid.

        Raises:
            DeniedError: who is no platform admin.
            BadInputError: group, uses or hours can't be.
            UnknownError: there is no such channel.
        """
        require_admin(who, None)
        check_group(group)
        if not 1 <= uses <= MAX_USES or not 1 <= hours <= MAX_HOURS:
            raise BadInputError(f"a token has 1 to {MAX_USES} uses, within 1 to {MAX_HOURS} hours")
        at, secret = self._now(), make_token(secrets.token_bytes(32))
        token = EnrolToken(
            id=secrets.token_hex(4),
            channel=channel,
            group=group,
            uses_left=uses,
            created_at=at,
            expires_at=at + timedelta(hours=hours),
        )

        def work(session: Session) -> None:
            channel_named(session, channel)
            EnrolTokenTable(session).add(token, token_hash(secret))
            detail = f"{uses} uses within {hours} h; channel {channel}, group {group}"
            AuditLog(session).append(
                at, who.actor, "enroll-token.create", f"enrol:{token.id}", detail
            )

        await self._db.write(locked(work))
        return token, secret

    async def tokens(self, who: Principal) -> list[EnrolToken]:
        """Return the tokens by which machines may enrol, oldest first.

        Raises:
            DeniedError: who is no platform admin.
        """
        require_admin(who, None)
        return await self._db.read(lambda s: EnrolTokenTable(s).all())

    async def remove_token(self, token_id: str, who: Principal) -> None:
        """Remove a token by which machines enrol; nodes that used it stay.

        Raises:
            DeniedError: who is no platform admin.
            UnknownError: there is none of this id.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> None:
            if not token_id.isprintable() or not EnrolTokenTable(session).remove(token_id):
                raise UnknownError(f"no enrolment token has the id {token_id[:40]!a}")
            AuditLog(session).append(at, who.actor, "enroll-token.remove", f"enrol:{token_id}")

        await self._db.write(locked(work), room=denial_room(who))

    async def enrol(self, enrolment: Enrolment) -> Enrolled:
        """Return a new node, whose machine presented a token for that.

        Raises:
            UnauthenticatedError: the token is malformed, unknown, expired or used up.
        """
        sha256_hex = secret_hash(enrolment.token)
        at, secret = self._now(), make_token(secrets.token_bytes(32))
        # Whoever reaches the port may ask: a wrong token must not take the lock of all changes.
        await self._db.read(lambda s: _valid_token(s, sha256_hex, at))

        def work(session: Session) -> Node:
            token = _valid_token(session, sha256_hex, at)
            channel_named(session, token.channel)
            node = Node(
                id=secrets.token_hex(8),
                name=enrolment.name,
                channel=token.channel,
                group=token.group,
                enrolled_at=at,
                facts=enrolment.facts,
            )
            EnrolTokenTable(session).use(token.id)
            NodeTable(session).add(node, token_hash(secret), next_generation(session))
            detail = f"{node.name}: channel {node.channel}, group {node.group}"
            AuditLog(session).append(
                at, f"enrol:{token.id}", "node.enrol", f"node:{node.id}", detail
            )
            bump_generation(session, [FLEET])
            return node

        node = await self._db.write(locked(work))
        return Enrolled(node, secret, (await self._manifests.key()).vkey)


def _valid_token(session: Session, sha256_hex: str, at: datetime) -> EnrolToken:
    """Return the token by which a machine enrols.

    Raises:
        UnauthenticatedError: it is unknown, expired or used up.
    """
    token = EnrolTokenTable(session).by_secret(sha256_hex)
    if token is None or token.uses_left < 1 or token.expires_at <= at:
        raise UnauthenticatedError(
            "this enrolment token is unknown, expired or used up; "
            "`moorage node enroll-token` makes another"
        )
    return token
