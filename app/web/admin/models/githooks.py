"""The hook of a tenant, for git hosts."""

from app.web.admin.models.base import Out


class HookMadeOut(Out):
    """What is entered in the git host, shown this once.

    url: null where MOORAGE_PUBLIC_URL is not set; then it is the service's address and path.
    """

    url: str | None
    path: str
    secret: str
    content_type: str
