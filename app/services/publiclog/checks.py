"""Comparing fetched content with a public log's records; the first configured log is asked."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cachetools import LRUCache

from app import logs
from app.core.errors import (
    MoorageError,
    OverloadedError,
    UpstreamAbsentError,
    UpstreamError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.core.record import Sums
from app.core.routing import LogPolicy
from app.db.modules import ModuleFile
from app.services.publiclog.relay import LogRelay

_DEFER_S = 10.0
_REST_S = 30.0
_MAX_RESTS = 4096
_EVERYBODY = ""  # of the tenants' names, which are never empty
_log = logs.get("sumdb")


@dataclass(frozen=True, slots=True)
class LoggedSums:
    """The log's answer about a version.

    Attributes:
        log: the log's name; "" if no log is asked.
        sums: the two h1 values; None if the log was not asked, and policy accepts that.
    """

    log: str
    sums: Sums | None

    def judge(self, file: ModuleFile) -> LogState:
        """Compare a .mod or zip with the log's answer and return the state to record.

        Raises:
            VerificationError: the log has another h1.
        """
        if self.sums is None:
            return LogState.UNVERIFIED
        logged = self.sums.go_mod_h1 if file.kind is RequestKind.MOD else self.sums.zip_h1
        hashes = [(file.name, file.h1, logged)]
        if file.kind is RequestKind.ZIP:
            go_mod = f"the go.mod in {file.name}"
            hashes.append((go_mod, file.go_mod_h1, self.sums.go_mod_h1))
        for name, stored, logged_h1 in hashes:
            if stored != logged_h1:
                raise VerificationError(
                    f"{name} has {stored}, and {self.log} vouches for {logged_h1}"
                )
        return LogState.VERIFIED


class LogChecks:
    """Asks a public log about module versions.

    Args:
        relays: the relays of the configured logs; the first one is asked.
        defer_s: seconds that a fetch waits for the log, if policy accepts no answer.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        relays: Sequence[LogRelay],
        *,
        defer_s: float = _DEFER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._relay = relays[0] if relays else None
        self._defer_s = defer_s
        self._clock = clock
        self._rests_until: LRUCache[str, float] = LRUCache(_MAX_RESTS)  # by tenant

    @property
    def is_on(self) -> bool:
        """Whether a log is configured."""
        return self._relay is not None

    @property
    def is_resting(self) -> bool:
        """Whether the log failed within the last half minute."""
        return self._rests(_EVERYBODY)

    async def logged_sums(
        self,
        module: str,
        version: str,
        policy: LogPolicy,
        *,
        tenant: str = "",
        insist: bool = False,
    ) -> LoggedSums:
        """Return the log's answer about a version.

        After a failure, callers whose policy is DEFER do not ask the log for half a minute: a slow
        log must not slow down every fetch. A failure of the log holds for every tenant. A time-out
        holds for the tenant alone: the tenant may have waited behind its own requests. Background
        work sets insist, and asks in any case.

        Raises:
            UpstreamUnavailableError: policy requires the log, and the log can't be asked.
            VerificationError: the log's answer does not verify; or policy requires a record, and
                the log has none.
        """
        if self._relay is None:
            if policy is LogPolicy.REQUIRE:
                raise VerificationError(
                    "its route requires a checksum database, and MOORAGE_SUMDB__UPSTREAMS is empty"
                )
            return LoggedSums("", None)
        if policy is LogPolicy.OFF:
            return LoggedSums("", None)
        name, may_defer = self._relay.name, policy is LogPolicy.DEFER
        if may_defer and not insist and (self.is_resting or self._rests(tenant)):
            return LoggedSums(name, None)
        patience = self._defer_s if may_defer else None
        try:
            async with asyncio.timeout(patience):
                return LoggedSums(name, await self._relay.sums(module, version, tenant=tenant))
        except (UpstreamError, OverloadedError, TimeoutError) as error:
            if policy is LogPolicy.REQUIRE:
                raise _required_log_error(name, module, version, error) from error
            if isinstance(error, TimeoutError):
                self._begin_rest(tenant)
            elif isinstance(error, UpstreamError) and not isinstance(error, UpstreamAbsentError):
                self._begin_rest(_EVERYBODY)
            _log.warning("log not asked", log=name, module=module, version=version)
            return LoggedSums(name, None)

    def _rests(self, tenant: str) -> bool:
        return self._clock() < self._rests_until.get(tenant, 0.0)

    def _begin_rest(self, tenant: str) -> None:
        self._rests_until[tenant] = self._clock() + _REST_S


def _required_log_error(name: str, module: str, version: str, error: Exception) -> MoorageError:
    if isinstance(error, UpstreamAbsentError):
        return VerificationError(f"{name} has no record of {module}@{version}")
    retry = getattr(error, "retry_after_s", 30)
    return UpstreamUnavailableError(
        f"{module}@{version} waits for {name}, which has to vouch for it and can't be asked now",
        origin="",
        retry_after_s=retry,
    )
