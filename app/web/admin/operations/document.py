"""Making the state match a document."""

from app.core.principal import Principal
from app.services.assembly import Services
from app.web.admin.models.document import AppliedOut, ApplyIn, change_out


async def apply(services: Services, who: Principal, wanted: ApplyIn) -> AppliedOut:
    """Return what was changed, or with `dry_run` would be.

    Raises:
        BadInputError: something in it can't be; the message says where and why.
        UnknownError: it names a credential or a tenant that is not there.
        ConflictError: it contradicts itself.
    """
    changes = await services.tenants.documents.apply(
        wanted.document, who, dry_run=wanted.dry_run, prune=wanted.prune
    )
    return AppliedOut(dry_run=wanted.dry_run, changes=[change_out(c) for c in changes])
