"""Bringing stored modules over from another proxy's folder, verified as if they were fetched.

Each file takes the way of a fetch: the rules of zips and go.mod, the public log where the route has
one (it must vouch, whatever the route says of waiting), the first value that counts for ever. That
holds for a file that is stored already, too: another tenant, whose route asks no log, may have
brought it in. The folder stands for the first upstream of the module's route. Which files a folder
has: `core/modulefolder.py`.
"""

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BufferedReader
from pathlib import Path

from app.core.digest import Digest
from app.core.errors import (
    BadInputError,
    DeniedError,
    MoorageError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.core.goproxy import GoproxyRequest, RequestKind
from app.core.logstate import LogState
from app.core.modulefolder import StoredVersion, versions_in
from app.core.published import is_published
from app.core.routing import LogPolicy, RecordedRoute, RecordedUpstream, route_for
from app.db.engine import Database
from app.db.modules import ModuleFile, ModuleTable
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.zipcheck import inspect_file
from app.services.policy import PolicyReader, TenantPolicy, tenant_in
from app.services.upstreams import Source
from app.upstream.sink import Sink

_AT_ONCE = 4
_CHUNK_BYTES = 256 * 1024
_ORDER = (RequestKind.MOD, RequestKind.INFO, RequestKind.ZIP)


@dataclass(slots=True)
class ImportOutcome:
    """What became of the files of a folder.

    Attributes:
        imported: files that are stored now.
        present: files that were stored before, with the folder's content.
        vouched: how many of both the public log vouches for.
        refused: name and reason of each that is not taken.
    """

    imported: int = 0
    present: int = 0
    vouched: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _FolderUpstream:
    """A version's files in a folder, as an upstream; see `upstream.goproxy.ModuleUpstream`."""

    folder: Path
    version: StoredVersion

    async def fetch(self, request: GoproxyRequest, sink: Sink, max_bytes: int) -> datetime | None:
        """Write a file into sink.

        Raises:
            UpstreamAbsentError: the folder does not have it.
            UpstreamContentError: it is no regular file, can't be read, or is too big.
        """
        path = self.version.paths.get(request.kind)
        if path is None:
            raise UpstreamAbsentError(f"{request} is not in the folder", origin="", status=404)
        try:
            with await asyncio.to_thread(_opened, self.folder / path) as file:
                left = max_bytes
                while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise UpstreamContentError(
                            f"{path} has more than {max_bytes} bytes", origin=""
                        )
                    await sink.write(chunk)
        except OSError as error:
            reason = error.strerror or "it is no regular file"
            raise UpstreamContentError(f"{path} can't be read: {reason}", origin="") from error
        return None


class ModuleImport:
    """The use case of an import; whoever can write the data directory may.

    Args:
        db: of this installation.
        policies: say where modules come from.
        files: checks and stores.
        upstream_slots: fetches of the tenant at once.
        has_log: whether a public log is asked at all.
    """

    def __init__(
        self,
        db: Database,
        policies: PolicyReader,
        files: ModuleFiles,
        upstream_slots: int,
        *,
        has_log: bool,
    ) -> None:
        self._db = db
        self._policies = policies
        self._files = files
        self._slots = upstream_slots
        self._has_log = has_log

    async def run(
        self, tenant: str, folder: Path, report: Callable[[int, int], None]
    ) -> ImportOutcome:
        """Import what a folder has, as far as the tenant's routes lead to it.

        Args:
            tenant: whose routes say where modules come from.
            folder: a GOMODCACHE, its cache/download, or a disk store of Athens.
            report: is called with (versions done, in all).

        Raises:
            BadInputError: there is no such folder, or no module version in it.
            UnknownError: there is no such tenant.
        """
        of_tenant = tenant_in(await self._policies.current(), tenant)
        versions = await asyncio.to_thread(lambda: versions_in(_files_below(folder)))
        if not versions:
            raise BadInputError(
                f"{folder} has no module versions; name a GOMODCACHE or a disk store of Athens"
            )
        outcome, turns, done = ImportOutcome(), asyncio.Semaphore(_AT_ONCE), 0

        async def take(version: StoredVersion) -> None:
            nonlocal done
            async with turns:
                await self._import(of_tenant, folder, version, outcome)
            done += 1
            report(done, len(versions))

        async with asyncio.TaskGroup() as group:
            for version in versions:
                group.create_task(take(version))
        outcome.refused.sort()
        return outcome

    async def _import(
        self, of_tenant: TenantPolicy, folder: Path, version: StoredVersion, outcome: ImportOutcome
    ) -> None:
        tenant = of_tenant.tenant.name
        try:
            names = (await self._policies.current()).private_names
            route = route_for(of_tenant.routes, names, tenant, version.module)
            upstream = _first(route)
            await _check_hash(folder, version)
        except MoorageError as error:
            outcome.refused.append((version.name, str(error)))
            return
        source = Source(_FolderUpstream(folder, version), tenant, self._slots)
        for kind in (kind for kind in _ORDER if kind in version.paths):
            key = FileKey.of(route, upstream.origin_id, version.module, version.version, kind)
            if key.log is not LogPolicy.OFF and self._has_log:
                key = replace(key, log=LogPolicy.REQUIRE)
            try:
                await self._take(key, source, folder / version.paths[kind], outcome)
            except MoorageError as error:
                outcome.refused.append((key.name, _reason(error)))

    async def _take(self, key: FileKey, source: Source, path: Path, outcome: ImportOutcome) -> None:
        """Store a file, or compare it with what is stored; ask the log if nobody has.

        Raises:
            MoorageError: the file is refused.
        """
        stored = await self._db.read(
            lambda s: ModuleTable(s).file(key.origin_id, key.module, key.version, key.kind)
        )
        is_new = stored is None or stored.damaged
        if stored is None or stored.damaged:
            file = await self._files.ensure(key, source)
        else:
            file = stored
            await self._compare(key, source, path, file)
        must_ask = key.log is LogPolicy.REQUIRE and key.kind is not RequestKind.INFO
        if must_ask and file.log_state is not LogState.VERIFIED:
            file = await self._files.records.settle(file, key.log, tenant=source.tenant)
        if is_new:
            outcome.imported += 1
        else:
            outcome.present += 1
        outcome.vouched += file.log_state is LogState.VERIFIED

    async def _compare(self, key: FileKey, source: Source, path: Path, stored: ModuleFile) -> None:
        """Return if a file has the content that is stored; a .info has no hash that counts.

        Raises:
            MoorageError: it has not, or the stored content is quarantined.
        """
        if stored.log_state is LogState.REFUSED:
            why = await self._files.records.why_refused(stored)
            raise VerificationError(f"{stored.name} is quarantined: {why}")
        if key.kind is RequestKind.INFO:
            return
        if await asyncio.to_thread(_digest, path) != stored.sha256:
            await self._files.recheck(key, source)


def _reason(error: MoorageError) -> str:
    """Return why a file is refused, for an operator: also why a log can't be asked."""
    reason = str(error).replace("what upstream sent for ", "")
    if isinstance(error, UpstreamUnavailableError) and isinstance(error.__cause__, MoorageError):
        return f"{reason}: {error.__cause__}"
    return reason


def _first(route: RecordedRoute) -> RecordedUpstream:
    """Return the upstream whose content the folder has.

    Raises:
        DeniedError: the route has published modules alone.
    """
    upstream = next((u for u in route.upstreams if not is_published(u.url)), None)
    if upstream is None:
        raise DeniedError(f"{route} has no upstream; publish the version instead", "route")
    return upstream


async def _check_hash(folder: Path, version: StoredVersion) -> None:
    """Return if a module cache's zip has the h1 that `go` has noted beside it.

    Raises:
        UpstreamContentError: it has another one.
        BadInputError: the zip is not that of the version.
    """
    path = version.paths.get(RequestKind.ZIP)
    if path is None or not version.hash_path:
        return
    try:
        with _opened(folder / version.hash_path) as file:
            noted = file.read(200).decode("ascii", "replace").strip()
    except OSError:
        return  # no note, no comparison
    facts = await inspect_file(folder / path, version.module, version.version)
    if facts.h1 != noted:
        raise UpstreamContentError(
            f"the zip has {facts.h1}, and `go` noted {noted[:80]}", origin=""
        )


def _digest(path: Path) -> Digest | None:
    """Return the digest of a file; None if it can't be read."""
    try:
        with _opened(path) as file:
            return Digest(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError:
        return None


def _opened(path: Path) -> BufferedReader:
    """Open a regular file, and nothing behind a link.

    Raises:
        OSError: it can't be opened, or is something else.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError
        return open(descriptor, "rb")  # noqa: PTH123 (a descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _files_below(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        below = Path(parent).relative_to(folder).as_posix()
        for name in names:
            yield name if below == "." else f"{below}/{name}"
