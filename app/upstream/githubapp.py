"""Installation tokens of GitHub Apps: what an app shows to GitHub's git server, renewed here.

The app's key signs a request for a token that reads contents and lives for an hour; a new one is
asked for five minutes before its end. GitHub's refusal is the answer for half a minute: not every
request of a client may become one there. If GitHub says how long to wait, it is that long, at most
five minutes. Follows "Authenticating as a GitHub App installation" of
docs.github.com. GitHub Enterprise Server has the API below /api/v3 of its own host.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cachetools import LRUCache, TLRUCache
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from app.core.errors import (
    BadInputError,
    UpstreamContentError,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamUnavailableError,
)
from app.upstream.exchange import Response
from app.upstream.http import HttpClient
from app.upstream.url import Credential

_GITHUB, _GITHUB_API = "https://github.com", "https://api.github.com"
_EARLY = timedelta(minutes=5)
_LIFE = timedelta(minutes=9)  # of a signed request; GitHub takes ten
_SKEW = timedelta(minutes=1)
_MAX_BYTES = 64 * 1024
_DEADLINE_S = 30.0
_MAX_TOKENS = 1024
_REFUSED_S = 30.0
_MAX_REFUSED_S = 300.0


@dataclass(frozen=True, slots=True)
class GithubApp:
    """An installation of an app.

    Attributes:
        identity: of the recorded credential, with its revision; no secret.
        app_id: of the app, digits.
        installation_id: of its installation in an organisation, digits.
        pem: the app's RSA private key.
    """

    identity: str
    app_id: str
    installation_id: str
    pem: str = field(repr=False)


class GithubTokens:
    """The present token of each installation.

    Args:
        now: UTC.
        clock: seconds that never go back.
    """

    def __init__(self, now: Callable[[], datetime], clock: Callable[[], float]) -> None:
        self._now = now
        self._tokens: LRUCache[tuple[str, str], tuple[str, datetime]] = LRUCache(_MAX_TOKENS)
        self._refusals: TLRUCache[tuple[str, str], UpstreamError] = TLRUCache(
            _MAX_TOKENS, lambda _, error, now: now + _refused_s(error), clock
        )
        self._asking: LRUCache[tuple[str, str], asyncio.Lock] = LRUCache(_MAX_TOKENS)

    async def credential(self, app: GithubApp, origin: str, client: HttpClient) -> Credential:
        """Return what the git server of an origin gets.

        Raises:
            UpstreamError: GitHub gives no token, or gave none a moment ago.
        """
        key = (app.identity, origin)  # another secret has another identity: it is asked at once
        async with self._asking.setdefault(key, asyncio.Lock()):
            token, ends = self._tokens.get(key, ("", datetime.min.replace(tzinfo=UTC)))
            if self._now() + _EARLY >= ends:
                token, ends = await self._renewed(key, app, origin, client)
        return Credential.basic(app.identity, origin, "x-access-token", token)

    async def _renewed(
        self, key: tuple[str, str], app: GithubApp, origin: str, client: HttpClient
    ) -> tuple[str, datetime]:
        refusal = self._refusals.get(key)
        if refusal is not None:
            raise refusal.with_traceback(None)
        try:
            self._tokens[key] = await self._ask(app, origin, client)
        except UpstreamError as error:
            if error.status is not None:  # it has answered; a host that is down has a breaker
                self._refusals[key] = error
            raise
        return self._tokens[key]

    async def _ask(self, app: GithubApp, origin: str, client: HttpClient) -> tuple[str, datetime]:
        base = _GITHUB_API if origin == _GITHUB else f"{origin}/api/v3"
        api_origin = _GITHUB_API if origin == _GITHUB else origin
        signed = await asyncio.to_thread(signed_request, app, self._now())
        response, body = await client.send(
            "POST",
            f"{base}/app/installations/{app.installation_id}/access_tokens",
            json_body={"permissions": {"contents": "read"}},
            max_bytes=_MAX_BYTES,
            deadline_s=_DEADLINE_S,
            credential=Credential.bearer(app.identity, api_origin, signed),
            accept="application/vnd.github+json",
        )
        if response.status != 201:
            raise _no_token(app, api_origin, response)
        try:
            document = json.loads(body)
            ends = datetime.fromisoformat(document["expires_at"].replace("Z", "+00:00"))
            token = str(document["token"])
            Credential.basic(app.identity, api_origin, "x-access-token", token)
        except (ValueError, KeyError, TypeError, AttributeError, BadInputError) as error:
            message = f"{api_origin} answered something else than a token"
            raise UpstreamContentError(message, origin="", status=201) from error
        return token, ends


def _refused_s(error: UpstreamError) -> float:
    """Return for how many seconds a refusal is not asked for again."""
    said_s = error.retry_after_s if isinstance(error, UpstreamUnavailableError) else 0
    return min(max(said_s, _REFUSED_S), _MAX_REFUSED_S)


def _no_token(app: GithubApp, api_origin: str, response: Response) -> UpstreamError:
    """Return the error for another status than 201: also 404 is no absence of a repository."""
    status = response.status
    message = (
        f"{api_origin} answered {status} to the request for a token of app {app.app_id}, "
        f"installation {app.installation_id}"
    )
    wait = response.headers.get("retry-after", "")
    # GitHub's secondary limits are a 403 with Retry-After.
    if status in (408, 429) or status >= 500 or (status == 403 and wait):
        seconds = int(wait) if wait.isdecimal() and len(wait) < 6 else 60
        return UpstreamUnavailableError(
            message, origin=api_origin, status=status, retry_after_s=seconds
        )
    message += ": it refuses the credential"
    return UpstreamCredentialError(message, origin=api_origin, status=status, kind="GitHub App")


def signed_request(app: GithubApp, now: datetime) -> str:
    """Return the JSON Web Token (RS256) by which an app asks for a token of an installation.

    Raises:
        UpstreamError: the key is no RSA key.
    """
    try:
        key = serialization.load_pem_private_key(app.pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise UpstreamError("the app's private key can't be read", origin="") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise UpstreamError("the app's private key is no RSA key", origin="")
    claims = {
        "iat": int((now - _SKEW).timestamp()),
        "exp": int((now + _LIFE).timestamp()),
        "iss": app.app_id,
    }
    text = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
    signature = key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{_encoded(signature)}"


def _part(document: dict[str, Any]) -> str:
    return _encoded(json.dumps(document, separators=(",", ":")).encode())


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
