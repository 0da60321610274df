"""What GitHub, GitLab and Gitea send on a push: whose message it is, its signature, its repository.

Sources: docs.github.com "Validating webhook deliveries", docs.gitlab.com "Webhooks" (Secret token),
docs.gitea.com "Webhooks". Forgejo sends what Gitea sends. Not here: what a push changes
(`services/modules/githooks.py`).
"""

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from app.core.bodylimit import BodyLimit
from app.core.errors import BadInputError, UnauthenticatedError

CREDENTIAL = "git-hook"
"""The name of the tenant's credential whose secret signs messages."""

LIMIT = BodyLimit("the message", 4 << 20)
_PATH_LABEL = b"moorage git-hook path"
_EVENTS = frozenset({"push", "create", "delete", "push hook", "tag push hook"})
_MAX_NAME = 500


@dataclass(frozen=True, slots=True)
class Push:
    """A message that was verified.

    Attributes:
        host: "github", "gitlab" or "gitea".
        event: as the host names it, in lower case: "push", "tag push hook", "ping".
        repository: "team/x"; "" where the event changes no refs.
    """

    host: str
    event: str
    repository: str


def path_secret(secret: str) -> str:
    """Return the last element of the hook's URL: 32 hexadecimal digits made of the secret.

    The URL is seen by proxies and their logs; who knows it can't sign.
    """
    return hmac.new(secret.encode(), _PATH_LABEL, sha256).hexdigest()[:32]


def verified_push(headers: Mapping[str, str], body: bytes, secret: str) -> Push:
    """Return what a message says.

    Args:
        headers: by lower-case name.
        body: as it came.
        secret: of the tenant's hook.

    Raises:
        UnauthenticatedError: no signature, or a wrong one.
        BadInputError: the body is not JSON, or names no repository.
    """
    host = _checked_host(headers, body, secret)
    header = {"github": "x-github-event", "gitlab": "x-gitlab-event", "gitea": "x-gitea-event"}
    event = headers.get(header[host], "").lower()[:80]
    if event not in _EVENTS:
        return Push(host, event, "")
    message = _parsed(body)
    is_gitlab = host == "gitlab"
    part, key = ("project", "path_with_namespace") if is_gitlab else ("repository", "full_name")
    fields = message.get(part)
    name = fields.get(key) if isinstance(fields, dict) else None
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise BadInputError(f"the message has no {part}.{key}")
    return Push(host, event, name)


def _checked_host(headers: Mapping[str, str], body: bytes, secret: str) -> str:
    """Return which host sent a message. Gitea sends GitHub's headers, too."""
    digest = hmac.new(secret.encode(), body, sha256).hexdigest()
    if "x-gitea-signature" in headers:
        host, is_right = "gitea", _same(headers["x-gitea-signature"], digest)
    elif "x-hub-signature-256" in headers:
        host, is_right = "github", _same(headers["x-hub-signature-256"], f"sha256={digest}")
    elif "x-gitlab-token" in headers:
        host, is_right = "gitlab", _same(headers["x-gitlab-token"], secret)
    else:
        raise UnauthenticatedError("the message has no signature; set the secret in the git host")
    if not is_right:
        raise UnauthenticatedError("the signature is wrong; set the hook's secret in the git host")
    return host


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.strip().encode(), other.encode())


def _parsed(body: bytes) -> dict[str, object]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadInputError(
            "the message is no JSON; choose the content type application/json in the git host"
        ) from error
    if not isinstance(message, dict):
        raise BadInputError("the message is no JSON object")
    return message
