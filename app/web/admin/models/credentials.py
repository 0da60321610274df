"""Credentials for upstreams: secrets go in, and no answer has one."""

from datetime import datetime
from typing import Literal

from pydantic import Field, SecretStr

from app.db.routes import RecordedCredential
from app.services.tenants.drafts import MAX_SECRET_CHARS
from app.web.admin.models.base import In, Out


class CredentialIn(In):
    """A credential as it is from now on; `basic` wants a username, `bearer` none."""

    kind: Literal["basic", "bearer"]
    username: str = Field(default="", max_length=200)
    secret: SecretStr = Field(max_length=MAX_SECRET_CHARS)


class CredentialOut(Out):
    """One credential without its secret; revision is what its ETag says."""

    name: str
    kind: str
    username: str
    revision: int
    changed_at: datetime


def credential_out(recorded: RecordedCredential) -> CredentialOut:
    """Return one credential for people and programs."""
    return CredentialOut(
        name=recorded.name,
        kind=recorded.kind,
        username=recorded.username,
        revision=recorded.revision,
        changed_at=recorded.changed_at,
    )
