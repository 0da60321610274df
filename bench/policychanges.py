"""Scenarios of the policy: many rules, and a change every second."""

import asyncio
import time
from typing import ClassVar

from app.core.acl import RecordedRule
from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.db.engine import Session
from app.db.rules import RuleTable
from app.db.tenants import TenantTable
from app.services.assembly import Services
from app.services.clock import utc_now
from bench.report import Bound
from bench.scenario import Scenario, Site
from tests.nouns import a_route, a_rule, a_tenant

_TENANTS = 200
_RULES_EACH = 50
_RULES_OF_ONE = 100_000
_MOST_RULES = 1000  # as many as the admin API lets a tenant have
_CHANGE_EVERY_S = 1.0
_MISS_EVERY_S = 0.1


class PolicyChanges(Scenario):
    """Another tenant's admin changes its title every second; there are 10,000 rules."""

    what = f"one policy change a second, {_TENANTS} tenants of {_RULES_EACH} rules"
    p99_ms = 10

    async def record(self, services: Services, upstream: str) -> None:
        for number in range(_TENANTS):
            name = _name(number)
            draft = a_tenant(name, default=Effect.DENY)
            await services.tenants.tenants.create(draft, OPERATOR, catch_all=False)
            await services.tenants.routes.create(name, a_route("*", upstream), OPERATOR)
        await add_rules(services, {_name(n): _RULES_EACH for n in range(_TENANTS)})

    async def run(self, site: Site) -> None:
        await _change_titles(site)


class PolicyLoop(PolicyChanges):
    """An admin of a tenant with 1,000 rules adds and removes one of them without a pause.

    The limits of the admin API are lifted: by default they hold such an admin back.
    """

    what = f"policy changes in a loop, {_MOST_RULES:,} rules of the tenant"
    environment: ClassVar[dict[str, str]] = {
        "MOORAGE_LIMITS__ADMIN_TOKEN_RATE": "1000",
        "MOORAGE_LIMITS__ADMIN_ADDRESS_RATE": "1000",
    }

    async def record(self, services: Services, upstream: str) -> None:
        await super().record(services, upstream)
        await add_rules(services, {_name(0): _MOST_RULES - _RULES_EACH - 1}, "more")

    async def run(self, site: Site) -> None:
        path = f"/tenants/{_name(0)}/rules"
        rule = {"effect": "deny", "pattern": "looped.example"}
        while True:
            added = await site.api.post(path, json=rule)
            added.raise_for_status()
            removed = await site.api.delete(f"{path}/{added.json()['id']}")
            removed.raise_for_status()


class ManyRules(PolicyChanges):
    """The victim has 100,000 rules of its own; it asks for what is stored but not prepared."""

    what = f"{_RULES_OF_ONE:,} rules of the victim, and its misses of prepared answers"

    async def record(self, services: Services, upstream: str) -> None:
        await add_rules(services, {"victim": _RULES_OF_ONE})

    async def run(self, site: Site) -> None:
        waits_ms: list[float] = []
        try:
            while True:
                # Anybody may read here, and a password that is no token counts as none. So each
                # password is one more client to whom nothing was answered before.
                auth = ("anybody", f"password-{len(waits_ms)}")
                began = time.perf_counter()
                answer = await site.api.get(site.victim, auth=auth)
                answer.raise_for_status()
                waits_ms.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(_MISS_EVERY_S)
        finally:
            waits_ms.sort()
            slowest = waits_ms[int(len(waits_ms) * 0.99)]
            what = f"a miss of a prepared answer, {_RULES_OF_ONE:,} rules of the tenant, p99"
            self.results.append(Bound(what, "ms", [slowest], 10))


async def _change_titles(site: Site) -> None:
    changes = 0
    while True:
        title = {"title": f"change {changes}"}
        answer = await site.api.patch(f"/tenants/{_name(changes % _TENANTS)}", json=title)
        answer.raise_for_status()
        changes += 1
        await asyncio.sleep(_CHANGE_EVERY_S)


async def add_rules(services: Services, counts: dict[str, int], host: str = "evil") -> None:
    """Record as many denials for each of some tenants, in one transaction.

    This goes past the service of rules: it would count and check before each single rule.
    """
    at = utc_now()
    rules = [
        RecordedRule.first(
            a_rule(Effect.DENY, f"{host}{number}.example/team/x{number}"), at, tenant=tenant
        )
        for tenant, count in counts.items()
        for number in range(count)
    ]

    def work(session: Session) -> None:
        RuleTable(session).add_all(rules, TenantTable(session).ids_of(counts))

    await services.shared.db.write(work)


def _name(number: int) -> str:
    return f"team-{number:03}"
