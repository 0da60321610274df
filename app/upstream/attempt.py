"""`FailedAttempt`: why one attempt failed, and whether another one may help."""

from app.core.errors import (
    OverloadedError,
    UpstreamContentError,
    UpstreamError,
    UpstreamUnavailableError,
)
from app.upstream.breaker import Verdict
from app.upstream.url import Url


class FailedAttempt(Exception):
    """The failure of one attempt. The client raises `error` to its caller instead.

    Attributes:
        error: for the caller, if this attempt is the last.
        verdict: for the breaker of the upstream.
        again: whether another attempt may help.
        wait_s: seconds to wait before the next attempt, if the upstream named them.
    """

    def __init__(
        self,
        error: UpstreamError | OverloadedError,
        verdict: Verdict = Verdict.IGNORED,
        *,
        again: bool = False,
        wait_s: float | None = None,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.verdict = verdict
        self.again = again
        self.wait_s = wait_s


def content_error(url: Url, trouble: str) -> UpstreamContentError:
    """Return the error for a wrong answer; its message is the URL and the trouble."""
    return UpstreamContentError(f"{url.shown} {trouble}", origin=url.origin)


def left_alone(url: Url, wait_s: int) -> UpstreamUnavailableError:
    """Return the error for an open breaker that lets calls through again in wait_s seconds."""
    return UpstreamUnavailableError(
        f"{url.origin} failed too often; it is left alone for {wait_s} s",
        origin=url.origin,
        retry_after_s=wait_s,
    )
