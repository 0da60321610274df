"""Fetching records before a client needs them, so that clients can verify while the logs are down.

Each version is requested through `front`, as a client of the tenant would do: policy and private
names hold here too, and only verified records are kept.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.core import module as modules
from app.core import record as records
from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    MoorageError,
    VerificationError,
)
from app.core.gosum import GoSumEntry
from app.core.principal import Principal, Scope
from app.core.toolchain import MODULE_PATH
from app.db.audit import AuditLog
from app.db.engine import Database
from app.services.authorization import require_admin
from app.services.clock import Now
from app.services.modules.caller import Caller
from app.services.modules.toolchains import Toolchains
from app.services.policy import PolicyReader, tenant_in
from app.services.publiclog.relay import LogRelay
from app.services.sumdb.front import SumdbFront

MAX_VERSIONS = 10_000
_PARALLEL = 8

Progress = Callable[[int, int], None]


class PrefetchOutcome(StrEnum):
    """The outcome for one version."""

    OK = "ok"
    SKIPPED = "skipped"  # policy denies the module, or its name is private
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class PrefetchResult:
    """The result for one version.

    Attributes:
        name: "example.com/x@v1.0.0".
        detail: the numbers of its records, or why there is no record.
    """

    name: str
    outcome: PrefetchOutcome
    detail: str


@dataclass(frozen=True, slots=True)
class PrefetchRequest:
    """The versions to prefetch.

    Attributes:
        summed: entries of a go.sum; their h1 values are compared with the records.
        names: "<module>@<version>" each; a malformed name fails alone.
        toolchains: whether to add the toolchains of all stored release archives.
    """

    summed: Sequence[GoSumEntry] = ()
    names: Sequence[str] = ()
    toolchains: bool = False


class Prefetch:
    """Fills lookups and tiles of the public logs, and a tenant's own log."""

    def __init__(
        self,
        db: Database,
        policies: PolicyReader,
        front: SumdbFront,
        relays: Mapping[str, LogRelay],
        toolchains: Toolchains,
        now: Now,
    ) -> None:
        self._db = db
        self._policies = policies
        self._front = front
        self._relays = relays
        self._toolchains = toolchains
        self._now = now

    async def run(
        self,
        tenant: str,
        request: PrefetchRequest,
        who: Principal,
        progress: Progress | None = None,
    ) -> list[PrefetchResult]:
        """Prefetch versions and return the result of each, in their order.

        Args:
            tenant: the tenant's policy holds, and its own log, if it has one, gets the records.
            request: at most 10,000 versions.
            who: an admin of the tenant.
            progress: called with (versions done, versions in all).

        Raises:
            BadInputError: there are more than 10,000 versions.
            UnknownError: no tenant has that name.
            ConflictError: no log is relayed, and the tenant has no log.
        """
        caller = await self._caller(tenant, who)
        items = await self._items(request)
        finished: dict[int, PrefetchResult] = {}
        todo = iter(enumerate(items))

        async def work(todo: Iterator[tuple[int, GoSumEntry | str]]) -> None:
            for place, item in todo:
                finished[place] = await self._item(caller, item)
                if progress is not None:
                    progress(len(finished), len(items))

        async with asyncio.TaskGroup() as group:
            for _ in range(_PARALLEL):
                group.create_task(work(todo))
        results = [finished[place] for place in range(len(items))]
        await self._record(tenant, who, results)
        return results

    async def _caller(self, tenant: str, who: Principal) -> Caller:
        require_admin(who, tenant)
        policy = await self._policies.current(fresh=True)
        of_tenant = tenant_in(policy, tenant)
        if not self._relays and of_tenant.log is None:
            raise ConflictError(
                "no checksum database is relayed (MOORAGE_SUMDB__UPSTREAMS is empty), and tenant "
                f"{tenant} has no log; see `moorage sumdb create`"
            )
        reader = Principal(who.actor, frozenset({Scope.READ}), tenant, who.token)
        return Caller(policy, of_tenant, reader, self._now())

    async def _items(self, request: PrefetchRequest) -> list[GoSumEntry | str]:
        items: list[GoSumEntry | str] = [*request.summed, *request.names]
        if request.toolchains:
            items += [f"{MODULE_PATH}@{v}" for v in await self._toolchains.stored_versions()]
        if len(items) > MAX_VERSIONS:
            raise BadInputError(
                f"{len(items)} versions are more than {MAX_VERSIONS} at once; split them up"
            )
        return items

    async def _item(self, caller: Caller, item: GoSumEntry | str) -> PrefetchResult:
        name = item if isinstance(item, str) else f"{item.module}@{item.version}"
        try:
            summed = _parse_name(item) if isinstance(item, str) else item
            return await self._prefetch_version(caller, name, summed)
        except DeniedError as error:
            return PrefetchResult(name, PrefetchOutcome.SKIPPED, str(error))
        except MoorageError as error:
            return PrefetchResult(name, PrefetchOutcome.FAILED, str(error))

    async def _prefetch_version(
        self, caller: Caller, name: str, summed: GoSumEntry
    ) -> PrefetchResult:
        private = caller.policy.private_names.why(summed.module)
        own = caller.of_tenant.log
        logs = [*([] if private else self._relays), *([own.name] if own else [])]
        if not logs:
            reason = f"a private name ({private}); no public log is asked about it"
            return PrefetchResult(name, PrefetchOutcome.SKIPPED, reason)
        numbers = [f"{log} {await self._number(caller, log, summed)}" for log in logs]
        return PrefetchResult(name, PrefetchOutcome.OK, "record " + ", ".join(numbers))

    async def _number(self, caller: Caller, log: str, summed: GoSumEntry) -> int:
        """Return the number of a version's record in a log; the record is kept from now on.

        Raises:
            VerificationError: go.sum has another h1.
            MoorageError: as `SumdbFront.answer`.
        """
        module, version = summed.module, summed.version
        escaped = f"{modules.escape_path(module)}@{modules.escape_version(version)}"
        answer = await self._front.answer(caller, f"{log}/lookup/{escaped}".encode())
        lookup = records.parse_lookup(answer.body)
        sums = records.lines_for(lookup.text, module, version)
        if summed.contradicts(sums):
            raise VerificationError(
                f"go.sum has {summed.zip_h1 or '-'} and {summed.go_mod_h1 or '-'} for the go.mod; "
                f"{log} vouches for {sums.zip_h1} and {sums.go_mod_h1}"
            )
        return lookup.number

    async def _record(self, tenant: str, who: Principal, results: Sequence[PrefetchResult]) -> None:
        counted = Counter(result.outcome for result in results)
        summary, at = ", ".join(f"{counted[o]} {o}" for o in PrefetchOutcome), self._now()
        await self._db.write(
            lambda s: AuditLog(s).append(
                at, who.actor, "sumdb.prefetch", f"tenant:{tenant}", summary
            )
        )


def _parse_name(name: str) -> GoSumEntry:
    """Return the entry, without h1 values, of "<module>@<version>".

    Raises:
        BadInputError: name has another form, or its version is a query.
    """
    module, separator, version = name.rpartition("@")
    if not separator:
        raise BadInputError(f"{name[:200]!a} is not <module>@<version>")
    modules.check(module, version)
    if not modules.is_canonical_for(module, version):
        raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
    return GoSumEntry(module, version, "", "")
