"""Repositories ask for what they want: the same statements for 100 tenants as for 10, by index."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.core.token import token_hash
from app.db.credentials import CredentialTable
from app.db.engine import Session
from app.db.generation import bump_generation
from app.db.origins import OriginTable
from app.db.ownership import OwnershipTable
from app.db.routes import RouteTable
from app.db.rules import RuleTable
from app.db.tenantlogs import TenantLogTable
from app.db.tenants import TenantTable
from app.db.tokens import Tokens
from app.services.assembly import Services
from app.services.policy import Policy, load_policy
from tests.many import FEW, MANY, ROUTES, RULES, TENANT, installation
from tests.nouns import AT, a_rule
from tests.statements import Seen, watched


@dataclass(frozen=True)
class Size:
    """An installation, the tenant that is looked at, and the secret of a token."""

    services: Services
    tenant_id: int
    secret: str


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def sizes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Size, Size]]:
    folder = tmp_path_factory.mktemp("sizes")
    async with (
        installation(folder / "few", FEW) as few,
        installation(folder / "many", MANY) as many,
    ):
        yield await _size(few), await _size(many)


async def _size(services: Services) -> Size:
    tenant = await services.tenants.tenants.get(TENANT, OPERATOR)
    _, secret = await services.tenants.tokens.create("looked up")
    return Size(services, tenant.id, token_hash(secret))


Look = Callable[[Session, Size], object]
LOOKS: dict[str, Look] = {
    "a tenant": lambda s, _: TenantTable(s).get(TENANT),
    "a page of tenants": lambda s, _: TenantTable(s).page(after=TENANT, limit=3),
    "ids of tenants": lambda s, _: TenantTable(s).ids_of([TENANT, "team-004"]),
    "a taken host": lambda s, z: TenantTable(s).taken_host([f"{TENANT}.example"], besides=0),
    "a rule": lambda s, z: RuleTable(s).get(z.tenant_id, _first_rule(s, z)),
    "a page of rules": lambda s, z: RuleTable(s).page(z.tenant_id, after=1, limit=3),
    "a page of platform rules": lambda s, _: RuleTable(s).page(None, after=0, limit=3),
    "the same rule": lambda s, z: RuleTable(s).same_as(
        z.tenant_id, a_rule(Effect.DENY, "evil1.example")
    ),
    "how many rules": lambda s, z: RuleTable(s).count(z.tenant_id),
    "a page of routes": lambda s, z: RouteTable(s).page(z.tenant_id, after=0, limit=3),
    "the route of a pattern": lambda s, z: RouteTable(s).with_pattern(z.tenant_id, "1.example"),
    "the route of a credential": lambda s, _: RouteTable(s).with_credential(1) or 1,
    "how many routes": lambda s, z: RouteTable(s).count(z.tenant_id),
    "an owned prefix": lambda s, _: OwnershipTable(s).get(f"corp.example/{TENANT}"),
    "a page of owned prefixes": lambda s, _: OwnershipTable(s).page(
        after=f"corp.example/{TENANT}", limit=3
    ),
    "the prefixes of a tenant": lambda s, z: OwnershipTable(s).prefixes_of(z.tenant_id),
    "a credential": lambda s, z: CredentialTable(s).get(z.tenant_id, "git"),
    "a page of credentials": lambda s, z: CredentialTable(s).page(
        z.tenant_id, after="git", limit=3
    ),
    "ids of credentials": lambda s, z: CredentialTable(s).ids_of(z.tenant_id),
    "the logs of a tenant": lambda s, z: TenantLogTable(s).of_tenant(z.tenant_id),
    "an origin": lambda s, _: OriginTable(s).known_origin("https://proxy.example"),
    "the token of a secret": lambda s, z: Tokens(s).by_secret(z.secret),
    "a page of tokens": lambda s, _: Tokens(s).page(tenant_id=None, after=(AT, ""), limit=3),
    "a page of a tenant's tokens": lambda s, z: Tokens(s).page(
        tenant_id=z.tenant_id, after=None, limit=3
    ),
    "a tenant's tokens of a name": lambda s, z: Tokens(s).active(z.tenant_id, "ci", AT),
}


def _first_rule(session: Session, size: Size) -> int:
    return RuleTable(session).page(size.tenant_id, after=0, limit=1)[0].id


async def _seen(size: Size, look: Look) -> tuple[Seen, object]:
    database = size.services.shared.db
    with watched(database) as seen:
        answer = await database.read(lambda s: look(s, size))
    return seen, answer


@pytest.mark.parametrize("name", LOOKS)
async def test_a_look_up_costs_the_same_among_many_tenants(
    sizes: tuple[Size, Size], name: str
) -> None:
    few, many = sizes
    (of_few, _), (of_many, answer) = await _seen(few, LOOKS[name]), await _seen(many, LOOKS[name])
    assert answer
    assert 1 <= of_many.count == of_few.count <= 4
    assert of_many.scans(many.services.shared.db) == []


async def test_the_policy_is_loaded_with_as_many_statements_for_many_tenants(
    sizes: tuple[Size, Size],
) -> None:
    few, many = sizes
    of_few, _ = await _seen(few, lambda s, _: load_policy(s))
    of_many, policy = await _seen(many, lambda s, _: load_policy(s))
    assert of_many.count == of_few.count <= 13
    assert of_many.scans(many.services.shared.db)  # whole tables are read here, and are seen
    loaded = policy.tenants[TENANT]  # type: ignore[attr-defined]
    assert (len(policy.tenants), len(loaded.access.rules)) == (MANY, RULES)  # type: ignore[attr-defined]
    assert [r.tenant for r in loaded.routes] == [TENANT] * ROUTES


async def test_a_change_of_one_tenant_is_read_with_as_many_statements_among_many_tenants(
    sizes: tuple[Size, Size],
) -> None:
    counts = []
    for size in sizes:
        database = size.services.shared.db
        before = await database.read(load_policy)
        await database.write(lambda s: bump_generation(s, [TENANT]))
        of_change, after = await _seen(size, partial(_reload, before=before))
        counts.append(of_change.count)
        assert of_change.scans(database) == ["SCAN generation: " + of_change.sent[0][0]]
        assert isinstance(after, Policy)
        others = after.tenants.keys() - {TENANT}
        assert all(after.tenants[name] is before.tenants[name] for name in others)
        assert after.tenants[TENANT] == before.tenants[TENANT]
        rules = zip(*(p.tenants[TENANT].access.rules for p in (before, after)), strict=True)
        assert all(old is new for old, new in rules)
    assert counts[0] == counts[1] <= 11


def _reload(session: Session, _size: Size, before: Policy) -> Policy:
    return load_policy(session, before)
