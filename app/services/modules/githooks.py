"""Messages of git hosts about pushes: who may send them, and what a push makes stale.

The secret of a tenant's hook is its credential `git-hook`: set, rotated and removed like any other.
"""

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from hashlib import sha256

from app import logs
from app.core.errors import ConflictError, UnauthenticatedError
from app.core.githook import CREDENTIAL, Push, path_secret, verified_push
from app.db.engine import Database
from app.db.githooks import GitHookTable
from app.services.clock import Now
from app.services.policy import PolicyReader
from app.services.secrets import SecretBox, place_of

REMEMBERED = timedelta(days=90)
"""For how long a message is not taken again."""

_NOBODY = "0" * 64  # compared in the place of a secret that is not there
_log = logs.get("githooks")
NotePush = Callable[[str, str, str], Awaitable[int]]


class GitHooks:
    """The hooks of all tenants.

    Args:
        note_push: makes stale what tenants know of a repository: (tenant, repository, actor).
    """

    def __init__(
        self, db: Database, box: SecretBox, policies: PolicyReader, note_push: NotePush, now: Now
    ) -> None:
        self._db = db
        self._box = box
        self._policies = policies
        self._note_push = note_push
        self._now = now

    async def secret_of(self, tenant: str, presented: str) -> str:
        """Return the secret of a tenant's hook, for a request that came to its URL.

        Raises:
            UnauthenticatedError: there is no such tenant, no hook, or the URL is another one. All
                of them look the same.
            StorageError: the secret can't be opened with the present key.
        """
        of_tenant = (await self._policies.current()).tenants.get(tenant)
        hooks = () if of_tenant is None else of_tenant.credentials.values()
        recorded = next((one for one in hooks if one.name == CREDENTIAL), None)
        secret = _NOBODY
        if recorded is not None:
            secret = self._box.open(recorded.sealed, place_of(recorded.tenant, recorded.name))
        is_right = hmac.compare_digest(path_secret(secret), presented)
        if recorded is None or not is_right:
            raise UnauthenticatedError("there is no such hook; see `moorage hook create`")
        return secret

    async def receive(
        self, tenant: str, secret: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Push, int]:
        """Take a message; return it, and how many upstreams may have the repository.

        Raises:
            UnauthenticatedError: its signature is missing or wrong.
            BadInputError: it is malformed.
            ConflictError: it was taken before.
        """
        push = await asyncio.to_thread(verified_push, headers, body, secret)
        if not push.repository:
            return push, 0
        of_tenant = (await self._policies.current()).tenants[tenant].tenant
        at, digest = self._now(), sha256(body).hexdigest()
        is_new = await self._db.write(
            lambda s: GitHookTable(s).add(of_tenant.id, digest, at, at - REMEMBERED)
        )
        if not is_new:
            raise ConflictError("this message was taken before; a push is told once")
        count = await self._note_push(tenant, push.repository, f"hook:{tenant}")
        await self._policies.looked_up()  # this process notices at once, others within a second
        _log.info(
            "push", tenant=tenant, host=push.host, repository=push.repository, upstreams=count
        )
        return push, count
