"""Answers to `go`'s requests for checksum databases: relayed logs, and the tenant's own log.

If the tenant may not use a module, or the module's name is private, the refusal comes from here: no
public log gets the name. A record that lacks a line is never sent.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from app import logs
from app.core import module as modules
from app.core.errors import (
    BadInputError,
    DeniedError,
    GoneError,
    MoorageError,
    NotYetError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamRedirectError,
)
from app.core.logstate import LogState
from app.core.ownrelease import is_own
from app.core.principal import Scope
from app.core.record import Sums
from app.core.routing import LogPolicy
from app.core.tile import DATA_LEVEL, Tile, parse_tile_path
from app.core.toolchain import GO_MOD_H1, MODULE_PATH, release_of
from app.db.modules import ModuleFile
from app.db.tenantlogs import TenantLog
from app.services.modules.caller import Caller, allowed
from app.services.modules.front import ModuleFront
from app.services.modules.mirrored import MirroredToolchains
from app.services.publiclog.checks import LogChecks
from app.services.publiclog.relay import LogRelay
from app.services.tenantlog.log import TenantLogs

_CHANGING_S = 60.0
_MAX_RECORDING = 256
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """The answer to a request about a log.

    Attributes:
        body: text; for a tile the tile's bytes.
        is_tile: whether body is a tile.
        fresh_s: seconds for which the answer may be repeated; None means for ever.
        decided_by: the rule that allowed the request.
        module: the module of a lookup; else "".
        version: the version of a lookup; else "".
    """

    body: bytes
    decided_by: str
    is_tile: bool = False
    fresh_s: float | None = None


class SumdbFront:
    """The checksum databases of every tenant.

    Args:
        relays: public logs by name.
    """

    def __init__(
        self,
        relays: Mapping[str, LogRelay],
        logs: TenantLogs,
        checks: LogChecks,
        front: ModuleFront,
        mirrored: MirroredToolchains,
    ) -> None:
        self._relays = relays
        self._logs = logs
        self._checks = checks
        self._front = front
        self._mirrored = mirrored
        self._recording: set[asyncio.Task[None]] = set()

    async def answer(self, caller: Caller, path: bytes) -> LogAnswer:
        """Return the answer to a request; path is decoded and begins after "sumdb/".

        Raises:
            BadInputError: the path is malformed.
            DeniedError: policy denies the module, or its name is private.
            UnknownError: the log, record or tile does not exist; a GoneError if the log says 410.
            UpstreamError: the log can't be asked now.
            VerificationError: the log's answer does not verify.
        """
        if not path.isascii():
            raise BadInputError("the path has a byte that is not ASCII")
        text = path.decode("ascii")
        log, rest = self._log_in(caller, text)
        if rest == "supported":
            if isinstance(log, LogRelay):
                # Else `go` would stay with a log that can't answer, where GOPROXY has another way.
                await log.need_head()
            return LogAnswer(b"", "token", fresh_s=_CHANGING_S)
        if rest.startswith("lookup/"):
            return await self._lookup(caller, log, rest.removeprefix("lookup/"))
        if rest.startswith("tile/"):
            return await self._tile(caller, log, parse_tile_path(rest))
        if rest == "latest":
            latest = log.latest() if isinstance(log, LogRelay) else self._logs.latest(log)
            return LogAnswer(await latest, "token", fresh_s=5.0)
        raise UnknownError("a checksum database has supported, latest, lookup/… and tile/8/…")

    def _log_in(self, caller: Caller, text: str) -> tuple[LogRelay | TenantLog, str]:
        """Return the log that a path names, and the rest; a log's name may have slashes."""
        own = {log.name: log for log in caller.of_tenant.logs}
        logs: dict[str, LogRelay | TenantLog] = {**self._relays, **own}
        matching = [name for name in logs if text.startswith(f"{name}/")]
        if not matching:
            name_in_path = text.partition("/")[0][:80]
            raise UnknownError(
                f"{name_in_path} is no checksum database that is relayed here; those are "
                f"{', '.join(sorted(logs)) or 'none'}"
            )
        name = max(matching, key=len)
        return logs[name], text.removeprefix(f"{name}/")

    async def _lookup(self, caller: Caller, log: LogRelay | TenantLog, rest: str) -> LogAnswer:
        module, version = _module_version(rest)
        decision = allowed(caller.may(module).decide(version))
        if isinstance(log, LogRelay):
            body = await self._relay_lookup(caller, log, module, version)
        else:
            sums = await self._sums(caller, module, version)
            await self._logs.append(log, module, version, sums)
            body = await self._logs.lookup(log, module, version)
        return LogAnswer(body, decision.by, fresh_s=_CHANGING_S)

    def record_served(self, caller: Caller, module: str, version: str) -> None:
        """Append a version that was just served to the tenant's own log, in the background.

        A lookup appends too; this covers versions that nobody looks up. If the public log has not
        confirmed the version yet, the next request or lookup appends the record.
        """
        log = caller.of_tenant.log
        if log is None or len(self._recording) >= _MAX_RECORDING:
            return
        task = asyncio.ensure_future(self._record(log, caller, module, version))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    async def _record(self, log: TenantLog, caller: Caller, module: str, version: str) -> None:
        try:
            sums = await self._sums(caller, module, version)
            await self._logs.append(log, module, version, sums)
        except MoorageError as error:
            _log.warning("not recorded", log=log.name, module=module, error=str(error))

    async def aclose(self) -> None:
        """Cancel the appends that run in the background."""
        for task in self._recording:
            task.cancel()
        await asyncio.gather(*self._recording, return_exceptions=True)

    async def _relay_lookup(
        self, caller: Caller, log: LogRelay, module: str, version: str
    ) -> bytes:
        release = release_of(version) if module == MODULE_PATH else ""
        if is_own(release):
            raise DeniedError(
                f"{release} is an own release, about which {log.name} is not asked. Set GOSUMDB to "
                "the tenant's own log",
                "private name",
            )
        why = caller.policy.private_names.why(module)
        if why is not None:
            raise DeniedError(
                f"{module} is a private name ({why}); {log.name} is not asked about it. Set "
                "GONOSUMDB, or GOSUMDB to the tenant's own log",
                "private name",
            )
        if not caller.is_mirrored(module):
            caller.route(module)  # raises: a public log learns no name that no route serves
        try:
            return await log.lookup(module, version, tenant=caller.tenant, client=caller.client)
        except UpstreamAbsentError as error:
            kind = GoneError if error.status == 410 else UnknownError
            absent = kind(f"{log.name} has no record of {module}@{version}")
            absent.upstream_text = error.upstream_text
            raise absent from error
        except UpstreamRedirectError as error:
            raise UpstreamContentError(
                f"{log.name} redirects to {error.target}. That is permanent: a log is asked at its "
                "own URL only; an admin can change that URL in MOORAGE_SUMDB__UPSTREAMS",
                origin="",
            ) from error
        except UpstreamError as error:
            message = f"{log.name} can't be asked about {module}@{version} now; try again"
            trouble = type(error)(message, origin="", status=error.status)
            trouble.upstream_text = error.upstream_text
            raise trouble from error

    async def _sums(self, caller: Caller, module: str, version: str) -> Sums:
        """Return the h1 values for the tenant's own log, of content that was checked here.

        Raises:
            NotYetError: the public log has not confirmed a public module yet.
            UnknownError: the client forbids the fetch, and the tenant never downloaded the module.
            MoorageError: the module can't be fetched.
        """
        await self._front.check_zip_used(caller, module, version)
        if caller.is_mirrored(module):
            return Sums(await self._mirrored.h1(version, caller.client), GO_MOD_H1)
        file, route = await self._front.vouched_zip(caller, module, version)
        return self._confirmed_sums(
            file, is_public=not route.private and route.log is not LogPolicy.OFF
        )

    def _confirmed_sums(self, file: ModuleFile, *, is_public: bool) -> Sums:
        if is_public and self._checks.is_on and file.log_state is not LogState.VERIFIED:
            raise NotYetError(
                f"{file.module}@{file.version} is not vouched for by the public checksum database "
                "yet; it is asked again in the background",
                retry_after_s=60,
            )
        return Sums(file.h1, file.go_mod_h1)

    async def _tile(self, caller: Caller, log: LogRelay | TenantLog, tile: Tile) -> LogAnswer:
        if isinstance(log, LogRelay):
            body = await log.tile(tile, tenant=caller.tenant, client=caller.client)
        else:
            if tile.level == DATA_LEVEL and not caller.principal.has(Scope.AUDIT):
                raise DeniedError(
                    "tiles of records name every module; they need a token with the scope `audit`",
                    "token",
                )
            body = await self._logs.tile(log, tile)
        fresh_s = None if tile.is_full else _CHANGING_S
        return LogAnswer(body, "token", is_tile=True, fresh_s=fresh_s)


def looked_up(path: bytes) -> tuple[str, str] | None:
    """Return plain module and version of a lookup, as the log names it; None for other requests.

    path: decoded; begins after "sumdb/".
    """
    _, is_lookup, rest = path.decode("ascii", "replace").partition("/lookup/")
    try:
        return _module_version(rest) if is_lookup else None
    except BadInputError:
        return None


def _module_version(rest: str) -> tuple[str, str]:
    """Return plain module and version of "<escaped module>@<escaped version>".

    Raises:
        BadInputError: text is malformed, or the version is not canonical.
    """
    escaped_module, separator, escaped_version = rest.rpartition("@")
    if not separator:
        raise BadInputError("a lookup is lookup/<module>@<version>")
    module = modules.unescape_path(escaped_module)
    version = modules.unescape_version(escaped_version)
    modules.check(module, version)
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
    return module, version
