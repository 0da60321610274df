"""Asking upstream anew because an admin says so.

Without a version, the answers that change are forgotten. With a version, its stored files are
fetched again and compared with the record. Damaged blobs are repaired by `healing`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.core import module as modules
from app.core.errors import (
    BadInputError,
    ConflictError,
    DeniedError,
    UnknownError,
    UpstreamAbsentError,
    VerificationError,
)
from app.core.giturl import is_git, is_of, parse_git_url, possible_repositories
from app.core.principal import Principal
from app.core.routing import RecordedRoute, RecordedUpstream, route_for
from app.core.tenant import Tenant
from app.db.audit import AuditLog
from app.db.engine import Database, Session
from app.db.generation import bump_generation
from app.db.gits import GitTable
from app.db.moduleanswers import ModuleAnswerTable
from app.db.modules import ModuleFile, ModuleTable
from app.services.authorization import require_admin
from app.services.changes import record
from app.services.clock import Now
from app.services.modules.answers import Absences
from app.services.modules.checks import FileKey
from app.services.modules.files import ModuleFiles
from app.services.modules.gits import GitModules
from app.services.modules.troubles import contradiction_in
from app.services.policy import Policy, PolicyReader, tenant_in
from app.services.upstreams import Upstreams
from app.services.usage import UsageCounter

_LONG_AGO = timedelta(days=365)
SAME = "same"
CHANGED = "changed"
GONE = "gone"
DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A stored file, compared with what its upstream sends today.

    Attributes:
        file: as it is recorded now.
        outcome: "same"; "changed", of a .info that was taken over; "gone", where upstream has it no
            more and it is served all the same; or "differs".
        detail: the contradiction, or the change, in words; "" where there is none.
    """

    file: ModuleFile
    outcome: str
    detail: str = ""


class ModuleRefresh:
    """Use cases about what upstream says today."""

    def __init__(
        self,
        db: Database,
        policies: PolicyReader,
        files: ModuleFiles,
        absences: Absences,
        gits: GitModules,
        upstreams: Upstreams,
        usage: UsageCounter,
        now: Now,
    ) -> None:
        self._db = db
        self._policies = policies
        self._files = files
        self._absences = absences
        self._gits = gits
        self._upstreams = upstreams
        self._usage = usage
        self._now = now

    async def forget(self, tenant: str, module: str, who: Principal) -> None:
        """Forget a module's list, @latest and queries: the next request asks upstream.

        The last answers are kept for the case that upstream can't be asked. Every process drops
        its prepared answers to this tenant; those to other tenants end with their freshness. An
        absence that another process holds in memory is forgotten by
        itself, a minute after that process saw it.

        Raises:
            BadInputError: module is no module path.
            UnknownError: there is no such tenant.
            ConflictError: no route of the tenant leads to it.
        """
        _, route = await self._way(tenant, module, who)
        origins, at = [u.origin_id for u in route.upstreams], self._now()
        stale = at - timedelta(seconds=2 * route.ttl_s)

        def work(session: Session) -> None:
            for upstream in route.upstreams:
                if is_git(upstream.url):
                    repositories = _repositories_of(route, upstream, module)
                    GitTable(session).expire(upstream.origin_id, repositories, stale)
            ModuleAnswerTable(session).expire(origins, module, stale)
            # The tenant's prepared answers end with this change, in every process.
            record(session, at, who, "module.refresh", f"module:{tenant}/{module}", tenant=tenant)

        await self._db.write(work)
        self._absences.forget(module)
        self._gits.forget_absences(origins)

    async def note_push(self, tenant: str, repository: str, actor: str) -> int:
        """Make a tenant's listings of a repository stale: the next request asks the git server.

        Every process drops its prepared answers to the tenant. An absence that another process
        holds in memory is forgotten by itself within a minute.

        Args:
            tenant: its name; whoever calls has checked that the message is about it.
            repository: as the git host's message names it: "team/x".
            actor: for the audit log: "hook:acme".

        Returns:
            How many upstreams of the tenant may have the repository; 0 changes nothing.

        Raises:
            UnknownError: there is no such tenant.
        """
        routes = tenant_in(await self._policies.current(), tenant).routes
        upstreams = {
            u.origin_id: parse_git_url(u.url)
            for route in routes
            for u in route.upstreams
            if is_git(u.url)
        }
        stale = self._now() - _LONG_AGO

        def work(session: Session) -> list[int]:
            table = GitTable(session)
            concerned = []
            for origin_id, url in upstreams.items():
                known = [b for b in table.repositories(origin_id) if is_of(url, b, repository)]
                table.expire(origin_id, known, stale)
                # A repository without a place in the URL, or one that is new, may have no listing.
                if known or url.has_place:
                    concerned.append(origin_id)
            if concerned:
                ModuleAnswerTable(session).expire_all(concerned, stale)
                bump_generation(session, {tenant})
                name = f"repository:{tenant}/{repository[:200]}"
                AuditLog(session).append(self._now(), actor, "module.push", name)
            return concerned

        concerned = await self._db.write(work)
        self._gits.forget_absences(concerned)
        self._absences.forget_origins(concerned)
        return len(concerned)

    async def compare(
        self, tenant: str, module: str, version: str, who: Principal
    ) -> list[Comparison]:
        """Return how the stored files of a version compare with what upstream sends today.

        What is stored stays what is served, but for a .info: no hash pins it, so it is replaced.

        Raises:
            BadInputError: module or version is malformed, or the version is a query.
            UnknownError: there is no such tenant, or nothing is stored of the version.
            ConflictError: no route of the tenant leads to it, or its route fetches nothing.
            VerificationError: upstream sends something else today; it is kept as evidence.
            UpstreamError: upstream can't be asked.
        """
        policy, route = await self._way(tenant, module, who)
        if not modules.is_canonical_for(module, version):
            raise BadInputError(f"{version[:80]!a} is not a canonical version of {module[:200]}")
        if route.off:
            raise ConflictError(f"{route} is off: it fetches nothing, so nothing can be compared")
        origins = [u.origin_id for u in route.upstreams]
        recorded = await self._db.read(lambda s: ModuleTable(s).files(origins, module, version))
        owner = tenant_in(policy, tenant).tenant
        stored = await self._usage.used_files(recorded, owner.id, who)
        if not stored:
            raise UnknownError(
                f"nothing of {module}@{version} is stored; there is nothing to compare"
            )
        compared = [
            await self._compare(file, route, upstream, policy, owner)
            for upstream in route.upstreams
            for file in sorted(stored, key=lambda f: f.kind)
            if file.origin_id == upstream.origin_id
        ]
        await self._record(tenant, f"{module}@{version}", who, compared)
        # A moved tag is the same contradiction of each file.
        differing = dict.fromkeys(c.detail for c in compared if c.outcome == DIFFERS)
        if differing:
            name = f"{module}@{version}"
            raise VerificationError(
                f"upstream sends something else today: {', and '.join(differing)}; what is recorded"
                f" stays served, and `moorage explain --tenant {tenant} {name}` shows the evidence"
            )
        return compared

    async def _way(self, tenant: str, module: str, who: Principal) -> tuple[Policy, RecordedRoute]:
        require_admin(who, tenant)
        modules.check_path(module)
        policy = await self._policies.current(fresh=True)
        of_tenant = tenant_in(policy, tenant)
        try:
            route = route_for(of_tenant.routes, policy.private_names, tenant, module)
            self._upstreams.access.check(route, policy, of_tenant.tenant)
        except DeniedError as error:  # it is the state of things that forbids it, not who asks
            raise ConflictError(str(error)) from error
        return policy, route

    async def _compare(
        self,
        file: ModuleFile,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        policy: Policy,
        tenant: Tenant,
    ) -> Comparison:
        key = FileKey.of(route, file.origin_id, file.module, file.version, file.kind)
        try:
            source = self._upstreams.open(route, upstream, policy, tenant)
            recorded = await self._files.recheck(key, source)
        except UpstreamAbsentError:
            return Comparison(file, GONE)
        except VerificationError as error:
            return Comparison(file, DIFFERS, contradiction_in(error))
        if recorded.sha256 != file.sha256:
            change = f"sha256 {file.sha256} became {recorded.sha256}"
            return Comparison(recorded, CHANGED, change)
        return Comparison(file, SAME)

    async def _record(
        self, tenant: str, name: str, who: Principal, compared: Sequence[Comparison]
    ) -> None:
        at, changed = self._now(), [c.detail for c in compared if c.outcome == CHANGED]
        outcomes = ", ".join([*(f"{c.file.kind} {c.outcome}" for c in compared), *changed])
        await self._db.write(
            lambda s: AuditLog(s).append(
                at, who.actor, "module.compare", f"module:{tenant}/{name}", outcomes
            )
        )


def _repositories_of(route: RecordedRoute, upstream: RecordedUpstream, module: str) -> list[str]:
    url = parse_git_url(upstream.url)
    possible = possible_repositories(url, module, route.pattern.elements)
    return [repository.below for repository in possible]
