"""Upstream's failures in words for the person who runs `go`, without a URL or a credential.

The words are ours, but for the text by which an upstream of a public route refuses.
"""

from app.core.errors import (
    GoneError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamRedirectError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.core.routing import RecordedRoute


def for_client(error: MoorageError, route: RecordedRoute | str, name: str) -> MoorageError:
    """Return the error for the client: of the same class, except that absence is a 404 or 410.

    On a public route the client gets upstream's own text, if upstream gave one. The message, with
    the route and the upstream, is then for the log alone.

    Args:
        error: from the upstream client or from a check.
        route: the route that was taken, or its name.
        name: the module, or the module version: "example.com/x@v1.0.0".
    """
    if not isinstance(error, UpstreamError):
        return error
    is_public = isinstance(route, RecordedRoute) and not route.private
    if not is_public or not error.upstream_text:
        return _in_our_words(error, str(route), name)
    client_error = _in_our_words(error, f"{route}, {error.origin}", name)
    client_error.upstream_text = error.upstream_text
    return client_error


def _in_our_words(error: UpstreamError, where: str, name: str) -> MoorageError:
    if isinstance(error, UpstreamAbsentError):
        kind = GoneError if error.status == 410 else UnknownError
        return kind(f"{name} is not found upstream ({where})")
    message = f"{_trouble(error, name)} ({where})"
    if isinstance(error, UpstreamRedirectError):
        return UpstreamContentError(message, origin="", status=error.status)
    if isinstance(error, UpstreamUnavailableError):
        return UpstreamUnavailableError(
            message, origin="", status=error.status, retry_after_s=error.retry_after_s
        )
    return type(error)(message, origin="", status=error.status)


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
    if isinstance(error, UpstreamRedirectError):
        return (
            f"upstream redirects to {error.target}, where it may not; an admin can allow it: "
            f"moorage route update --redirect-to {error.target}"
        )
    if isinstance(error, UpstreamContentError):
        return _without_url(error)
    if isinstance(error, UpstreamRefusedError):
        return f"{refusal_in_words(error)}; tell an admin"
    if error.status:
        return f"upstream answered {error.status}; the service's log says more"
    return "upstream can't be used; the service's log says why"


def refusal_in_words(error: UpstreamRefusedError) -> str:
    """Return what an upstream refuses: "upstream answered 401, it does not let …"."""
    said = f"upstream answered {error.status}, it" if error.status else "upstream"
    why = ""
    if isinstance(error, UpstreamCredentialError):
        why = f": it refuses the {error.kind} of the route"
    elif error.status == 401:
        why = (
            ": it refuses the credential of the route"
            if error.had_credential
            else ": it wants a credential, and gets none"
        )
    elif error.status == 403 and error.had_credential:
        why = ": the credential of the route may not have this"
    return f"{said} does not let this server in{why}"


def _without_url(error: UpstreamContentError) -> str:
    """Return the HTTP client's words about content, which begin with a URL, without that."""
    words = str(error).partition(" ")[2]
    return "upstream's answer is unusable" if not words or "://" in words else f"upstream {words}"


_FIRST_COUNTS = "; the first value counts for ever"
_REFUSED = ", so this is refused"


def first_counts(why: str) -> str:
    """Return a contradiction of what is recorded, with the rule that decides it."""
    return why + _FIRST_COUNTS


def contradicted(why: str) -> VerificationError:
    """Return the error of bytes that contradict others; why as of `contradiction`."""
    return VerificationError(why + _REFUSED)


def contradiction_in(error: VerificationError) -> str:
    """Return the bare contradiction that an error of `contradicted` is about; else its text."""
    return str(error).removesuffix(_REFUSED).removesuffix(_FIRST_COUNTS)
