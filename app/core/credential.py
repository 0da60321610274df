"""Credentials for upstreams: what a tenant's routes refer to by name. Secrets go in and stay in.

Sealing secrets is services/secrets.py's; what is sent to an upstream is upstream/address.py's.
"""

import re
from datetime import datetime
from typing import Annotated, Literal

from app.core.errors import BadInputError
from app.core.noun import Field, Noun, Recorded, SecretStr, model_validator, refuse

MAX_SECRET_CHARS = 4096
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?", re.ASCII)
_INSTALLATION = re.compile(r"[0-9]{1,20}/[0-9]{1,20}", re.ASCII)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----\r?\n[A-Za-z0-9+/=\r\n]+"
    r"-----END (?P=kind)-----\s*",
    re.ASCII,
)
_VISIBLE = re.compile(r"[\x20-\x7e]+", re.ASCII)


class UpstreamCredential(Noun):
    """How an upstream knows who asks; `bearer` and `ssh_key` have no username.

    The secret of an `ssh_key` is a private key as OpenSSH writes it, without a passphrase; that of
    a `github_app` is the app's private key, and its username "<app id>/<installation id>".
    """

    kind: Literal["basic", "bearer", "ssh_key", "github_app"]
    username: Annotated[str, Field(max_length=200)] = ""

    @model_validator(mode="after")
    def _has_its_username(self) -> "UpstreamCredential":
        if self.kind == "basic" and not self.username:
            raise refuse("a basic credential needs a username")
        if self.kind == "basic" and ":" in self.username:
            raise refuse("the username has a colon, where Basic ends a username")
        if self.kind == "github_app" and not _INSTALLATION.fullmatch(self.username):
            raise refuse(_wrong_installation(self.username))
        if self.kind in ("bearer", "ssh_key") and self.username:
            raise refuse(f"a {self.kind} credential has no username, and one was given")
        return self


class SecretCredential(UpstreamCredential):
    """A credential with its secret, which no answer shows."""

    secret: Annotated[SecretStr, Field(max_length=MAX_SECRET_CHARS)]

    @model_validator(mode="after")
    def _has_a_secret(self) -> "SecretCredential":
        secret = self.secret.get_secret_value()
        if self.kind in ("ssh_key", "github_app"):
            if not secret:
                raise refuse(f"the secret is empty; that of a {self.kind} is a private key")
            if not _PRIVATE_KEY.fullmatch(secret):
                raise refuse("the secret is no private key as OpenSSH or OpenSSL writes it")
        elif not _VISIBLE.fullmatch(secret):
            raise refuse("the secret is empty or has characters outside visible ASCII")
        return self


class RecordedCredential(UpstreamCredential, Recorded):
    """One credential without its secret; revision is what its ETag says."""

    id: int = Field(exclude=True)
    created_at: datetime = Field(exclude=True)
    tenant: str = Field(exclude=True)
    sealed: bytes = Field(exclude=True, repr=False)  # the secret, encrypted
    name: str
    changed_at: datetime


def _wrong_installation(text: str) -> str:
    """Return what an "<app id>/<installation id>" lacks; only numbers are shown."""
    app_id, _, installation_id = text.partition("/")
    words = "a GitHub App is named as APP/INSTALLATION, such as 12345/678901; "
    if not re.fullmatch(r"[0-9]{0,20}(?:/[0-9]{0,20})?", text, re.ASCII):
        return words + "what was given is not two numbers of at most 20 digits"
    if app_id:
        return (
            f"{words}{text!a} has no installation id, which is the number at the end of the "
            "installation's page"
        )
    return f"{words}{text!a} has {'no app id' if installation_id else 'neither id'}"


def check_credential_name(name: str) -> None:
    """Return if name can be a credential's.

    Raises:
        BadInputError: it can't.
    """
    if not _NAME.fullmatch(name):
        raise BadInputError(
            "a credential's name is 1 to 63 lower-case letters, digits, dots, dashes and _"
        )
