"""Credentials for upstreams: secrets go in, and no answer has one."""

from app.core.credential import RecordedCredential as CredentialOut
from app.core.credential import SecretCredential as CredentialIn

__all__ = ["CredentialIn", "CredentialOut"]
