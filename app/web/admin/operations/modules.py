"""What admins can ask about modules of a tenant, and have asked of upstream anew."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.explain import ExplainOut, explain_out
from app.web.admin.models.refresh import RefreshIn, RefreshOut, compared_out


async def explain(
    services: Services, who: Principal, tenant: str, module: str, version: str | None
) -> ExplainOut:
    """Return which rule and which route decide, in order, and what is stored.

    Raises:
        BadInputError: module or version is malformed.
        UnknownError: there is no such tenant.
    """
    return explain_out(await services.tenants.explain.explain(tenant, module, version, who))


async def refresh(services: Services, who: Principal, tenant: str, wanted: RefreshIn) -> RefreshOut:
    """Forget the answers of a module that change, or compare a version with upstream's.

    Raises:
        BadInputError: module or version is malformed.
        UnknownError: there is no such tenant, or nothing is stored of the version.
        ConflictError: no route leads there.
        VerificationError: upstream sends something else today.
        UpstreamError: upstream can't be asked.
    """
    if wanted.version is None:
        await services.modules.refresh.forget(tenant, wanted.module, who)
        return RefreshOut(module=wanted.module, version=None, files=[])
    compared = await services.modules.refresh.compare(tenant, wanted.module, wanted.version, who)
    return RefreshOut(
        module=wanted.module, version=wanted.version, files=[compared_out(c) for c in compared]
    )
