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

REFUSALS = (401, 403, 407)
"""Statuses by which an upstream does not let us in."""


def for_client(error: MoorageError, route: Route | str, name: str) -> MoorageError:
    """Return what a client is told: the same class, but for absence, which is a 404 or 410.

    Args:
        error: as the upstream client or a check raised it.
        route: that was taken, or what stands for it.
        name: what was asked for: "example.com/x@v1.0.0".
    """
    if isinstance(error, UpstreamAbsentError):
        kind = GoneError if error.status == 410 else UnknownError
        return kind(f"{name} is not found upstream ({route})")
    if not isinstance(error, UpstreamError):
        return error
    told = f"{_trouble(error, name)} ({route})"
    if isinstance(error, UpstreamUnavailableError):
        return UpstreamUnavailableError(
            told, origin="", status=error.status, retry_after_s=error.retry_after_s
        )
    return type(error)(told, origin="", status=error.status)


def _trouble(error: UpstreamError, name: str) -> str:
    if isinstance(error, UpstreamContentError | UpstreamUnavailableError) and not error.origin:
        # Our own words have no URL, and mostly the name: not twice, go cuts it.
        return str(error) if name in str(error) else f"{name}: {error}"
    return f"{name} can't be had: {_answered(error)}"


def _answered(error: UpstreamError) -> str:
    if isinstance(error, UpstreamTimeoutError):
        return "upstream gave no complete answer in time"
    if isinstance(error, UpstreamUnavailableError):
        answered = f"upstream answered {error.status}" if error.status else "upstream is down"
        return f"{answered}; try again in {error.retry_after_s} s"
    if isinstance(error, UpstreamContentError):
        return _without_url(error)
    if error.status in REFUSALS:
        return f"upstream answered {error.status}, it does not let this server in; tell an admin"
    if error.status:
        return f"upstream answered {error.status}; the service's log says more"
    return "upstream can't be used; the service's log says why"


def _without_url(error: UpstreamContentError) -> str:
    """Return the HTTP client's words about content, which begin with a URL, without that."""
    words = str(error).partition(" ")[2]
    return "upstream's answer is unusable" if not words or "://" in words else f"upstream {words}"


def contradicted(why: str) -> VerificationError:
    """Return the error of bytes that contradict what is recorded."""
    return VerificationError(f"{why}; the first value counts for ever, so this is refused")
