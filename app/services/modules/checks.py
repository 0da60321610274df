"""Whether what an upstream sent is what it should be; nothing else is ever stored or served."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from app.core import gomod
from app.core.digest import Digest
from app.core.errors import BadInputError, UpstreamContentError
from app.core.goproxy import GoproxyRequest, RequestKind
from app.core.logstate import LogState
from app.core.moduleinfo import parse_info
from app.core.routing import LogPolicy, RecordedRoute
from app.db.modules import ModuleFile
from app.services.modules.troubles import first_counts
from app.services.modules.zipcheck import inspect_file

SHORT_BYTES = 16 * 1024
"""A .info or .mod of this size is checked within a millisecond or two, without a thread."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """One file of a module version at one origin, and what its route demands of the content.

    Attributes:
        origin_id: the origin that the file comes from.
        log: whether the public log has to vouch for the file.
        is_private: whether the module's name is kept from every public log.
        any_path: whether the go.mod may declare another path.
    """

    origin_id: int
    module: str
    version: str
    kind: RequestKind
    log: LogPolicy = LogPolicy.OFF
    is_private: bool = False
    any_path: bool = False

    @classmethod
    def of(
        cls, route: RecordedRoute, origin_id: int, module: str, version: str, kind: RequestKind
    ) -> "FileKey":
        """Return the key of a file that a route fetches from one of its origins."""
        log = LogPolicy.OFF if route.private else route.log
        return cls(
            origin_id=origin_id,
            module=module,
            version=version,
            kind=kind,
            log=log,
            is_private=route.private,
            # In public, `go` itself judges the declared path: see docs/decisions/0013.
            any_path=route.forks or not route.private,
        )

    @property
    def identity(self) -> tuple[int, str, str, str]:
        """The four values that identify the file: origin, module, version, kind."""
        return (self.origin_id, self.module, self.version, self.kind)

    def is_among(self, files: Iterable[ModuleFile]) -> bool:
        """Whether the file is among those of its version."""
        return any(file.kind is self.kind for file in files)

    @property
    def request(self) -> GoproxyRequest:
        """The request for the file."""
        return GoproxyRequest(self.module, self.kind, self.version)

    @property
    def name(self) -> str:
        """The name for messages: "example.com/x@v1.0.0.zip"."""
        return f"{self.module}@{self.version}.{self.kind}"


def check_small(key: FileKey, body: bytes, at: datetime) -> ModuleFile:
    """Return the .info or .mod that a body is.

    Raises:
        UpstreamContentError: it is not.
    """
    h1 = ""
    try:
        if key.kind is RequestKind.INFO:
            parse_info(body, key.module, asked=key.version)
        else:
            _check_go_mod(key, body)
            h1 = gomod.h1(body)
    except BadInputError as error:
        raise refused(key.name, str(error)) from error
    return ModuleFile(
        key.origin_id,
        key.module,
        key.version,
        key.kind,
        Digest.of(body),
        len(body),
        at,
        body,
        h1,
        log_state=LogState.NONE if key.kind is RequestKind.INFO else _log_state(key),
    )


def _log_state(key: FileKey) -> LogState:
    """Return what holds before the log is asked."""
    if key.is_private:
        return LogState.PRIVATE
    return LogState.OFF if key.log is LogPolicy.OFF else LogState.UNVERIFIED


def _check_go_mod(key: FileKey, body: bytes) -> None:
    if key.any_path:
        gomod.check_form(body)
        if gomod.module_path(body) is None:
            raise BadInputError("its go.mod declares no module")
        return
    try:
        gomod.check(body, key.module)
    except BadInputError as error:
        declared = gomod.module_path(body)
        if declared is None or declared == key.module:
            raise
        raise BadInputError(
            f"its go.mod declares {declared[:200]}; a fork that is meant for `replace` is accepted "
            "by a private route with `forks`"
        ) from error


async def check_zip(
    key: FileKey, path: Path, digest: Digest, size: int, at: datetime
) -> ModuleFile:
    """Return the zip that a file is, whose whole content is read and hashed.

    Raises:
        UpstreamContentError: it is not the zip of that module version.
        StorageError: the file can't be read, or checked now.
    """
    try:
        facts = await inspect_file(path, key.module, key.version)
        if facts.go_mod is not None:
            if len(facts.go_mod) <= SHORT_BYTES:
                _check_go_mod(key, facts.go_mod)
            else:
                await asyncio.to_thread(_check_go_mod, key, facts.go_mod)  # up to 16 MiB
    except BadInputError as error:
        raise refused(key.name, str(error)) from error
    return ModuleFile(
        key.origin_id,
        key.module,
        key.version,
        key.kind,
        digest,
        size,
        at,
        None,
        facts.h1,
        facts.go_mod_h1 or gomod.h1(gomod.synthetic(key.module)),
        _log_state(key),
    )


def check_resolved(module: str, query: str, body: bytes) -> bytes:
    """Return body if it says to which version a query, or @latest, resolves.

    Raises:
        UpstreamContentError: it does not.
    """
    try:
        parse_info(body, module, asked=None)
    except BadInputError as error:
        raise refused(f"{module}@{query.removeprefix('=')}", str(error)) from error
    return body


def refused(name: str, why: str) -> UpstreamContentError:
    """Return the error of content that is not what it should be."""
    return UpstreamContentError(f"what upstream sent for {name} is refused: {why}", origin="")


def contradiction(one: ModuleFile, other: ModuleFile) -> str | None:
    """Return how two files of one version contradict each other, or None.

    They do if both are zips, or both .mod, with another h1; or if the .mod is not the zip's own
    go.mod. A .info may change, since nobody pins it.
    """
    if one.kind is other.kind:
        if one.kind is not RequestKind.INFO and one.h1 != other.h1:
            return first_counts(
                f"{one.name} is recorded with {one.h1}, and upstream sent {other.h1}"
            )
        return None
    by_kind = {one.kind: one, other.kind: other}
    if set(by_kind) != {RequestKind.MOD, RequestKind.ZIP}:
        return None
    mod, archive = by_kind[RequestKind.MOD], by_kind[RequestKind.ZIP]
    if mod.h1 == archive.go_mod_h1:
        return None
    return f"{mod.name} is not the go.mod in {archive.name}"
