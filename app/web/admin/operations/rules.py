"""What admins can do with rules. A tenant of None stands for the platform."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.base import Page
from app.web.admin.models.rules import RuleIn, RuleOut
from app.web.admin.paging import key_of, page_from


async def list_rules(
    services: Services, who: Principal, tenant: str | None, *, cursor: str | None, limit: int
) -> Page[RuleOut]:
    """Return the rules, oldest first.

    Raises:
        BadInputError: the cursor is not one that a page gave.
        UnknownError: there is no such tenant.
    """
    after = 0 if cursor is None else int(key_of(cursor, int)[0])
    rules = await services.tenants.rules.page(tenant, who, after=after, limit=limit + 1)
    return page_from(rules, lambda rule: (rule.id,), limit)


async def show_rule(
    services: Services, who: Principal, tenant: str | None, rule_id: int
) -> RuleOut:
    """Return one rule.

    Raises:
        UnknownError: there is none of that id.
    """
    return await services.tenants.rules.get(tenant, rule_id, who)


async def create_rule(
    services: Services, who: Principal, tenant: str | None, wanted: RuleIn
) -> RuleOut:
    """Return a new rule.

    Raises:
        BadInputError: it can't be; the message says why.
        ConflictError: there is such a rule.
    """
    return await services.tenants.rules.create(tenant, wanted, who)


async def update_rule(
    services: Services,
    who: Principal,
    tenant: str | None,
    rule_id: int,
    wanted: RuleIn,
    revision: int | None = None,
) -> RuleOut:
    """Return the rule in its new words.

    Raises:
        BadInputError: it can't be; the message says why.
        UnknownError: there is none of that id.
        ConflictError: another rule says the same.
        StaleRevisionError: it is no longer at that revision.
    """
    return await services.tenants.rules.update(tenant, rule_id, wanted, who, revision=revision)


async def remove_rule(
    services: Services,
    who: Principal,
    tenant: str | None,
    rule_id: int,
    revision: int | None = None,
) -> None:
    """Remove a rule.

    Raises:
        UnknownError: there is none of that id.
        StaleRevisionError: it is no longer at that revision.
    """
    await services.tenants.rules.remove(tenant, rule_id, who, revision=revision)
