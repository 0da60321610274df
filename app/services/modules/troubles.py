"""Upstream's failures in words for whoever runs `go`: helpful, without a URL or a credential."""

from app.core.errors import (
    GoneError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.core.routing import Route

_REFUSALS = (401, 403, 407)


def for_client(error: MoorageError, route: Route, name: str) -> MoorageError:
    """Return what a client is told: the same class, but for absence, which is a 404 or 410.

    Args:
        error: as the upstream client or a check raised it.
        route: that was taken.
        name: what was asked for: "example.com/x@v1.0.0".
    """
    if isinstance(error, UpstreamAbsentError):
        kind = GoneError if error.status == 410 else UnknownError
        return kind(f"{name} is not found upstream ({route})")
    if not isinstance(error, UpstreamError):
        return error
    told = f"{name} can't be had: {_trouble(error)} ({route})"
    if isinstance(error, UpstreamUnavailableError):
        return UpstreamUnavailableError(
            told, origin="", status=error.status, retry_after_s=error.retry_after_s
        )
    return type(error)(told, origin="", status=error.status)


def _trouble(error: UpstreamError) -> str:
    if isinstance(error, UpstreamTimeoutError):
        return "upstream gave no complete answer in time"
    if isinstance(error, UpstreamUnavailableError):
        answered = f"upstream answered {error.status}" if error.status else "upstream is down"
        return f"{answered}; try again in {error.retry_after_s} s"
    if isinstance(error, UpstreamContentError):
        # Our own words about content name no URL; those of the HTTP client do.
        return str(error) if not error.origin else "upstream's answer is cut short or too long"
    if error.status in _REFUSALS:
        return f"upstream answered {error.status}, it refuses our credential; tell an admin"
    return "upstream can't be used; the service's log says why"


def contradicted(why: str) -> VerificationError:
    """Return the error of bytes that contradict what is recorded."""
    return VerificationError(f"{why}; the first value counts for ever, so this is refused")
