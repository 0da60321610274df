"""Module files as owners of blobs; see `services/repair.py`."""

from app.core.digest import Digest
from app.core.errors import DeniedError, MoorageError, UnknownError
from app.core.routing import RecordedRoute, RecordedUpstream, route_for
from app.core.tenant import Tenant
from app.db.engine import Database, Session
from app.db.modules import ModuleFile, ModuleTable
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.toolchains import Toolchains
from app.services.policy import Policy, PolicyReader
from app.services.repair import BlobOwner
from app.services.upstreams import Upstreams


class ModuleHealing(BlobOwner):
    """Module zips and large go.mod files, fetched again from where they came."""

    def __init__(
        self,
        db: Database,
        policies: PolicyReader,
        files: ModuleFiles,
        upstreams: Upstreams,
        toolchains: Toolchains,
    ) -> None:
        self._db = db
        self._policies = policies
        self._files = files
        self._upstreams = upstreams
        self._toolchains = toolchains

    def names_of(self, session: Session, digest: Digest) -> list[str]:
        """Return names such as "example.com/x@v1.0.0.zip"; see `BlobOwner.names_of`."""
        return [file.name for file in ModuleTable(session).of_blob(digest)]

    async def fetch_again(self, digest: Digest, *, forced: bool) -> None:
        """Fetch every file of the blob again, each from its own origin.

        One that can't be had keeps no other from being healed.

        Raises:
            UnknownError: no route leads to the origin of one any more.
            VerificationError: upstream has other content by now.
            MoorageError: see `ModuleFiles.ensure`.
        """
        failed: MoorageError | None = None
        for file in await self._db.read(lambda s: ModuleTable(s).of_blob(digest)):
            try:
                await self._fetch(file)
            except MoorageError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _fetch(self, file: ModuleFile) -> None:
        if file.origin_id == await self._toolchains.origin():
            await self._toolchains.zip(file.version)
            return
        policy = await self._policies.current()
        tenant, route, upstream = self._way_to(file, policy)
        key = FileKey.of(route, file.origin_id, file.module, file.version, file.kind)
        await self._files.ensure(key, self._upstreams.open(route, upstream, policy, tenant))

    def _way_to(
        self, file: ModuleFile, policy: Policy
    ) -> tuple[Tenant, RecordedRoute, RecordedUpstream]:
        for of_tenant in policy.tenants.values():
            tenant = of_tenant.tenant
            try:
                route = route_for(of_tenant.routes, policy.private_names, tenant.name, file.module)
            except DeniedError:  # a name that has become private is asked for in public no more
                continue
            for upstream in route.upstreams:
                if upstream.origin_id == file.origin_id and not route.off:
                    return tenant, route, upstream
        raise UnknownError(f"no route leads to where {file.name} came from")
