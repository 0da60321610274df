"""Writing the credentials that upstreams want; secrets go in and never come out."""

from app.core.credential import RecordedCredential, SecretCredential
from app.core.errors import ConflictError, UnknownError
from app.core.principal import Principal
from app.db.credentials import CredentialTable
from app.db.engine import Database, Session
from app.db.routes import RouteTable
from app.services.authorization import require_admin
from app.services.changes import check_revision, locked, record, tenant_named
from app.services.clock import Now
from app.services.secrets import SecretBox, place_of
from app.services.tenants.checks import check_credential


class CredentialService:
    """Use cases about credentials for upstreams."""

    def __init__(self, db: Database, box: SecretBox, now: Now) -> None:
        self._db = db
        self._box = box
        self._now = now

    async def page(
        self,
        tenant: str,
        who: Principal,
        *,
        after: str | None = None,
        limit: int | None = None,
    ) -> list[RecordedCredential]:
        """Return credentials of a tenant, by name.

        Args:
            tenant: whose.
            who: an admin of it.
            after: the last name of the page before; None begins the list.
            limit: how many at most; None takes all.
        """
        require_admin(who, tenant)
        return await self._db.read(
            lambda s: CredentialTable(s).page(tenant_named(s, tenant).id, after=after, limit=limit)
        )

    async def put(
        self,
        tenant: str,
        name: str,
        credential: SecretCredential,
        who: Principal,
        *,
        revision: int | None = None,
    ) -> RecordedCredential:
        """Return a new credential, or one that has another secret now.

        Content is kept under the credential and not under its secret: what was stored stays
        reachable when the secret is changed.

        Raises:
            BadInputError: it can't be sent as a header.
            UnknownError: there is no such tenant.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)
        check_credential(name, credential)
        sealed = self._box.seal(credential.secret.get_secret_value(), place_of(tenant, name))

        def work(session: Session) -> RecordedCredential:
            of_tenant, at = tenant_named(session, tenant), self._now()
            table = CredentialTable(session)
            before = table.get(of_tenant.id, name)
            check_revision(before.revision if before else 0, revision, f"credential {name}")
            after = RecordedCredential.first(
                credential, at, tenant=tenant, name=name, sealed=sealed, changed_at=at
            ).succeeding(before)
            if before is None:
                table.add_all([after], {tenant: of_tenant.id})
            else:
                table.save_all([after])
            detail = f"{credential.kind} {credential.username}".strip()
            record(
                session,
                at,
                who,
                "credential.put",
                f"credential:{tenant}/{name}",
                detail,
                tenant=tenant,
            )
            return after

        return await self._db.write(locked(work))

    async def remove(
        self, tenant: str, name: str, who: Principal, *, revision: int | None = None
    ) -> None:
        """Remove a credential that no route uses.

        Raises:
            UnknownError: the tenant has none of that name.
            ConflictError: a route uses it.
            StaleRevisionError: it was changed since that revision.
        """
        require_admin(who, tenant)

        def work(session: Session) -> None:
            of_tenant, table = tenant_named(session, tenant), CredentialTable(session)
            # PostgreSQL takes no NUL in a text, and the name may be anything.
            credential = table.get(of_tenant.id, name) if name.isprintable() else None
            if credential is None:
                raise UnknownError(
                    f"tenant {tenant} has no credential {name[:80]!a}; "
                    "see `moorage credential list`"
                )
            check_revision(credential.revision, revision, f"credential {name}")
            route_id = RouteTable(session).with_credential(credential.id)
            if route_id is not None:
                raise ConflictError(f"route {route_id} uses the credential {name}; change it first")
            table.remove(credential.id)
            record(
                session,
                self._now(),
                who,
                "credential.remove",
                f"credential:{tenant}/{name}",
                tenant=tenant,
            )

        await self._db.write(locked(work))
