"""Publishing: a version's zip comes from the company itself, and counts for ever.

    staged         the bytes, while they come in: a client that goes away, and a kill, leave nothing
    checked        like the zip of any upstream; .mod and .info are derived from the zip
    durable        the blob
    one transaction  the three files, who published them, the audit row, a new generation
    the log        the tenant's own; a crash before it is made good by the first request

Not here: who may publish what (`uploads.py`), taking versions back (`retiring.py`), reading them
(`published.py`).
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from app import logs, metrics
from app.core import gomod
from app.core import record as records
from app.core.bodylimit import BodyLimit
from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    ConflictError,
    MoorageError,
    OverloadedError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
)
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.core.modzip import DEFAULT_LIMITS
from app.core.published import PUBLISHED, PublishedState, PublishedVersion, info_of, is_published
from app.core.record import Sums
from app.core.routing import RecordedRoute
from app.db.audit import AuditLog
from app.db.blobs import Blobs
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.modules import INLINE_BYTES, ModuleFile, ModuleTable
from app.db.origins import OriginTable
from app.db.published import PublishedTable
from app.db.routes import RouteTable
from app.db.tenantlogs import LogRecord, TenantLogTable
from app.services.changes import locked
from app.services.clock import Now
from app.services.modules.checks import FileKey, check_zip
from app.services.modules.files import ModuleFiles
from app.services.modules.published import gone
from app.services.modules.troubles import for_client
from app.services.modules.uploads import Upload, check_caller, check_version, route_of
from app.services.policy import Policy, PolicyReader, TenantPolicy
from app.services.slots import FairSemaphore
from app.services.tenantlog.log import TenantLogs
from app.services.upstreams import Upstreams
from app.storage.blobstore import BlobStore

LIMIT = BodyLimit("the zip", DEFAULT_LIMITS.zip_bytes, "a limit of `go`")
_UPLOADS = 8  # at once in a process; one tenant has at most half of them
_WAIT_S = 30.0
_log = logs.get("publishing")


@dataclass(frozen=True, slots=True)
class Published:
    """The outcome.

    Attributes:
        is_new: False where the same bytes were published before.
    """

    version: PublishedVersion
    is_new: bool

    @property
    def line(self) -> str:
        """What happened, for people."""
        one = self.version
        if self.is_new:
            return f"{one.name} is published: {one.h1}"
        return f"{one.name} was published before, with the same bytes: {one.h1}"


class Publishing:
    """Use cases about published modules."""

    def __init__(
        self,
        db: Database,
        store: BlobStore,
        policies: PolicyReader,
        files: ModuleFiles,
        upstreams: Upstreams,
        tenant_logs: TenantLogs,
        now: Now,
    ) -> None:
        self._db = db
        self._store = store
        self._policies = policies
        self._files = files
        self._upstreams = upstreams
        self._logs = tenant_logs
        self._now = now
        self._turns = FairSemaphore(_UPLOADS)

    async def publish(self, upload: Upload) -> Published:
        """Publish a version, or find the same bytes published before.

        Raises:
            BadInputError: module, version or zip is malformed.
            TooLargeError: the zip is larger than `go` takes.
            DeniedError: the token may not publish, or the tenant does not own the prefix.
            ConflictError: other bytes are published, the version is taken upstream, or the
                tenant's log vouches for other content.
            GoneError: the version was withdrawn.
            UpstreamError: whether the version is taken upstream can't be found out now.
            QuotaError: the tenant has used its quota.
            OverloadedError: other uploads of the tenant took all turns.
            StorageError: it can't be stored.
        """
        policy = await self._policies.looked_up()  # a prefix may have got its owner just now
        of_tenant = check_caller(policy, upload)
        check_version(upload.module, upload.version)
        route = route_of(policy, of_tenant, upload)
        LIMIT.check(upload.declared_bytes)
        known = await self._known(upload)
        if known is None:
            await self._check_free(policy, of_tenant, route, upload)
            quota = of_tenant.tenant.limits.quota_bytes
            await self._files.quotas.require(upload.tenant, quota, upload.declared_bytes or 0)
        try:
            await self._turns.acquire(upload.tenant, _WAIT_S)
        except TimeoutError as error:
            raise OverloadedError(
                f"tenant {upload.tenant} has as many uploads under way as it may, and none ended "
                f"within {_WAIT_S:g} s; try again"
            ) from error
        try:
            return await self._receive(policy, of_tenant, upload, known)
        finally:
            self._turns.release(upload.tenant)

    async def _known(self, upload: Upload) -> PublishedVersion | None:
        known = await self._db.read(lambda s: PublishedTable(s).get(upload.module, upload.version))
        if known is not None and known.state is PublishedState.GONE:
            raise gone(known)
        return known

    async def _check_free(
        self, policy: Policy, of_tenant: TenantPolicy, route: RecordedRoute, upload: Upload
    ) -> None:
        """Return if no other upstream of the route has the version; one that is off is not asked.

        Raises:
            ConflictError: one has it.
            UpstreamError: one can't be asked: what it has is not known.
        """
        others = [u for u in route.upstreams if not is_published(u.url)]
        origins = [u.origin_id for u in others]
        stored = await self._db.read(
            lambda s: ModuleTable(s).files(origins, upload.module, upload.version)
        )
        if stored:
            raise _taken(upload)
        for upstream in others if not route.off else []:
            key = FileKey.of(
                route, upstream.origin_id, upload.module, upload.version, RequestKind.INFO
            )
            source = self._upstreams.open(route, upstream, policy, of_tenant.tenant)
            try:
                await self._files.ensure(key, source)
            except UpstreamAbsentError:
                continue
            except UpstreamError as error:
                raise for_client(error, route, upload.name) from error
            raise _taken(upload)

    async def _receive(
        self,
        policy: Policy,
        of_tenant: TenantPolicy,
        upload: Upload,
        known: PublishedVersion | None,
    ) -> Published:
        origin_id = await self._db.write(lambda s: OriginTable(s).origin(PUBLISHED))
        key = FileKey(origin_id, upload.module, upload.version, RequestKind.ZIP, is_private=True)
        await self._db.require_room()
        async with self._store.stage(size_hint_bytes=upload.declared_bytes) as staged:
            async for piece in upload.pieces:
                LIMIT.check(staged.size_bytes + len(piece))
                await staged.write(piece)
            digest = await staged.seal()
            if known is not None:
                return _same_or_conflict(known, digest)
            at = self._now()
            try:
                file = await check_zip(key, staged.path, digest, staged.size_bytes, at)
                go_mod = await asyncio.to_thread(
                    read_go_mod, staged.path, upload.module, upload.version
                )
            except UpstreamContentError as error:
                raise BadInputError(str(error).replace("what upstream sent for ", "")) from error
            await self._check_log(of_tenant, file)
            await self._store.commit(staged, digest)
        published = await self._record(file, go_mod, upload, at)
        await self._policies.looked_up()  # this process notices at once, others within a second
        if published.is_new:
            await self._append(of_tenant, file)
        return published

    async def _check_log(self, of_tenant: TenantPolicy, file: ModuleFile) -> None:
        """Return if the tenant's log has no record of the version, or one of this content.

        Raises:
            ConflictError: it has one of other content; or another upload was faster, with other
                bytes, and may have its record already.
        """
        log = of_tenant.log
        if log is None:
            return
        text = records.record_text(file.module, file.version, Sums(file.h1, file.go_mod_h1))

        def work(session: Session) -> tuple[LogRecord | None, PublishedVersion | None]:
            # In this order: a version is published before its record is appended.
            known = TenantLogTable(session).record(log.id, file.module, file.version)
            return known, PublishedTable(session).get(file.module, file.version)

        known, published = await self._db.read(work)
        if published is not None and published.state is not PublishedState.GONE:
            _same_or_conflict(published, file.sha256)
        if known is not None and known.text != text.encode():
            raise ConflictError(
                f"{log.name} vouches for other content of {file.module}@{file.version}; publish"
                " another version"
            )

    async def _record(
        self, file: ModuleFile, go_mod: bytes, upload: Upload, at: datetime
    ) -> Published:
        info = info_of(upload.version, at)
        new = PublishedVersion(
            module=upload.module,
            version=upload.version,
            tenant=upload.tenant,
            publisher=upload.who.actor,
            published_at=at,
            sha256=file.sha256.hex,
            size_bytes=file.size_bytes,
            h1=file.h1,
            changed_at=at,
        )
        small = [
            _small(file, RequestKind.MOD, go_mod, at),
            _small(file, RequestKind.INFO, info, at),
        ]
        stored = [file, *[await self._kept(one) for one in small]]

        def work(session: Session) -> Published:
            table = PublishedTable(session)
            known = table.get(upload.module, upload.version)
            if known is not None:  # another upload was faster
                if known.state is PublishedState.GONE:
                    raise gone(known)
                return _same_or_conflict(known, file.sha256)
            table.add(new)
            for one in stored:
                if one.body is None:
                    Blobs(session).record(one.sha256, one.size_bytes, at)
                ModuleTable(session).add(one, upload.tenant)
            detail = f"{file.h1} sha256={file.sha256.hex} bytes={file.size_bytes}"
            obj = f"module:{upload.tenant}/{upload.name}"
            AuditLog(session).append(at, upload.who.actor, "module.publish", obj, detail)
            readers = {*RouteTable(session).tenants_asking(file.origin_id), upload.tenant}
            bump_generation(session, readers)
            return Published(new, is_new=True)

        outcome = await self._db.write(locked(work), size_bytes=len(go_mod) + len(info))
        if outcome.is_new:
            _log.info("module published", name=upload.name, h1=file.h1, bytes=file.size_bytes)
            metrics.count_publication("published")
            self._files.quotas.count(upload.tenant, sum(one.size_bytes for one in stored))
        return outcome

    async def _kept(self, file: ModuleFile) -> ModuleFile:
        """Return a small file whose bytes are durable: in its row, or as a blob."""
        if file.body is None or file.size_bytes <= INLINE_BYTES:
            return file
        async with self._store.stage() as staged:
            await staged.write(file.body)
            await self._store.commit(staged, await staged.seal())
        return replace(file, body=None)

    async def _append(self, of_tenant: TenantPolicy, file: ModuleFile) -> None:
        """Record a version in the tenant's log; if that fails now, its first reader does it."""
        if of_tenant.log is None:
            return
        sums = Sums(file.h1, file.go_mod_h1)
        try:
            await self._logs.append(of_tenant.log, file.module, file.version, sums)
        except MoorageError as error:
            _log.warning("not recorded", log=of_tenant.log.name, error=str(error))


def read_go_mod(path: object, module: str, version: str) -> bytes:
    """Return the go.mod of a checked zip, or the one that `go` makes up. Blocks."""
    import zipfile

    with zipfile.ZipFile(str(path)) as archive:
        try:
            return archive.read(f"{module}@{version}/go.mod")
        except KeyError:
            return gomod.synthetic(module)


def _small(file: ModuleFile, kind: RequestKind, body: bytes, at: datetime) -> ModuleFile:
    is_mod = kind is RequestKind.MOD
    return ModuleFile(
        file.origin_id,
        file.module,
        file.version,
        kind,
        Digest.of(body),
        len(body),
        at,
        body,
        gomod.h1(body) if is_mod else "",
        log_state=LogState.PRIVATE if is_mod else LogState.NONE,
    )


def _same_or_conflict(known: PublishedVersion, digest: Digest) -> Published:
    if known.sha256 != digest.hex:
        raise ConflictError(
            f"{known.name} is published with other bytes (sha256 {known.sha256}), and never"
            " changes; publish another version"
        )
    return Published(known, is_new=False)


def _taken(upload: Upload) -> ConflictError:
    return ConflictError(
        f"an upstream of tenant {upload.tenant} has {upload.name}: publish another version"
    )
