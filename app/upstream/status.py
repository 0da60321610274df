"""The meaning of a status other than 200: whose fault it is, and whether a retry may help."""

from collections.abc import Mapping

from app.core.errors import (
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from app.upstream.attempt import FailedAttempt
from app.upstream.breaker import Verdict
from app.upstream.retryafter import retry_after_s, whole_seconds
from app.upstream.url import Url

REFUSALS = (401, 403, 407)
"""Statuses by which an upstream does not let us in."""


def refusal(
    url: Url, status: int, headers: Mapping[str, str], now: float, *, had_credential: bool
) -> FailedAttempt:
    """Return the failure for a status that is neither 200 nor a redirect, after a full GET.

    203, 204, 206 and 304 answer a request that was not made; they give an UpstreamContentError.

    Args:
        url: of the request.
        status: 404 gives an UpstreamAbsentError, 401 an UpstreamRefusedError, 503 an
            UpstreamUnavailableError.
        headers: of the answer, names in lower case.
        now: Unix time in seconds, for a date in Retry-After.
        had_credential: whether the request had one.
    """
    message, origin = f"{url.shown} answered {status}", url.origin
    if status in (404, 410):
        return FailedAttempt(
            UpstreamAbsentError(message, origin=origin, status=status), Verdict.SUCCESS
        )
    if status in (408, 429) or status >= 500:
        wait_s = retry_after_s(headers.get("retry-after"), now)
        error = UpstreamUnavailableError(
            message, origin=origin, status=status, retry_after_s=whole_seconds(wait_s, 30)
        )
        verdict = Verdict.THROTTLE if status == 429 else Verdict.FAILURE
        return FailedAttempt(error, verdict, again=status != 501, wait_s=wait_s)
    if status in REFUSALS:
        message += f": {_why(status, had_credential=had_credential)}"
        refused = UpstreamRefusedError(message, origin=origin, status=status)
        refused.had_credential = had_credential
        return FailedAttempt(refused, Verdict.SUCCESS)
    if 400 <= status < 500:
        return FailedAttempt(UpstreamError(message, origin=origin, status=status), Verdict.SUCCESS)
    message += " where only 200 makes sense"
    return FailedAttempt(UpstreamContentError(message, origin=origin, status=status))


def _why(status: int, *, had_credential: bool) -> str:
    if status == 407:
        return "a proxy on the way lets nothing pass"
    if not had_credential:
        return "it wants a credential, and none is sent" if status == 401 else "it denies access"
    if status == 401:
        return "it refuses the credential"
    return "the credential may not have this"
