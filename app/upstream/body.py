"""The limits of a body: its declared length, its length, its rate.

Whether a complete body is the right one is judged by the callers of the client.
"""

from collections.abc import Mapping

from app.core.errors import UpstreamTimeoutError
from app.upstream.attempt import FailedAttempt, content_error
from app.upstream.breaker import Verdict
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Url


def check_body_head(
    url: Url, headers: Mapping[str, str], max_bytes: int, exact_bytes: int | None
) -> None:
    """Check the headers of a body before its first byte is read.

    Raises:
        FailedAttempt: the body is encoded, and not with gzip; or its declared length is over
            max_bytes or is not exact_bytes.
    """
    encoding = headers.get("content-encoding", "identity").strip().lower()
    declared = headers.get("content-length", "")
    if is_gzip(headers):  # its length is that of the encoded body
        return
    if encoding not in ("", "identity"):
        trouble = "sent an encoded body although only identity was asked for"
    elif not declared.isdecimal():
        return
    elif exact_bytes is not None and int(declared) != exact_bytes:
        trouble = f"declares {int(declared)} bytes instead of {exact_bytes}"
    elif int(declared) > max_bytes:
        trouble = f"declares {int(declared)} bytes, more than the limit of {max_bytes}"
    else:
        return
    raise FailedAttempt(content_error(url, trouble))


def is_gzip(headers: Mapping[str, str]) -> bool:
    """Whether a body is encoded with gzip."""
    return headers.get("content-encoding", "").strip().lower() in ("gzip", "x-gzip")


def _too_slow(url: Url, limits: UpstreamLimits) -> UpstreamTimeoutError:
    """Return the error for a body below the minimum rate."""
    return UpstreamTimeoutError(
        f"{url.shown} sent less than {limits.rate_bytes_s} bytes per second", origin=url.origin
    )


class Pace:
    """A minimum rate, measured over windows of waiting time.

    Only the time of waiting for the upstream counts: a slow disk is not the upstream's fault.
    """

    def __init__(self, bytes_per_s: int, window_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._window_s = window_s
        self._bytes = 0
        self._waited_s = 0.0

    def is_kept(self, size_bytes: int, waited_s: float) -> bool:
        """Count a chunk that took waited_s to come; return False if a window ends below the rate.

        Example: at 32 KiB/s over 30 s, a window that ends after 31 s needs 31 * 32 KiB.
        """
        self._bytes += size_bytes
        self._waited_s += waited_s
        if self._waited_s < self._window_s:
            return True
        kept = self._bytes >= self._bytes_per_s * self._waited_s
        self._bytes, self._waited_s = 0, 0.0
        return kept


class BodyMeter:
    """Counts a body while it comes, and refuses it as soon as it is too long or too slow.

    Args:
        url: for the messages of errors.
        max_bytes: the most that the body may have.
        exact_bytes: the length that the body must have, if known.
        limits: the minimum rate; None: no minimum.

    Attributes:
        size_bytes: the bytes so far.
    """

    def __init__(
        self, url: Url, max_bytes: int, exact_bytes: int | None, limits: UpstreamLimits | None
    ) -> None:
        self.size_bytes = 0
        self._url = url
        self._exact_bytes = exact_bytes
        self._most_bytes = max_bytes if exact_bytes is None else min(exact_bytes, max_bytes)
        self._limits = limits
        self._pace = limits and Pace(limits.rate_bytes_s, limits.rate_window_s)

    def count(self, chunk_bytes: int, waited_s: float) -> None:
        """Count a chunk that took waited_s to come.

        Raises:
            FailedAttempt: the body is too long now, or came too slowly.
        """
        self.size_bytes += chunk_bytes
        if self.size_bytes > self._most_bytes:
            raise FailedAttempt(
                content_error(self._url, f"sent more than {self._most_bytes} bytes")
            )
        if self._limits and self._pace and not self._pace.is_kept(chunk_bytes, waited_s):
            raise FailedAttempt(_too_slow(self._url, self._limits), Verdict.FAILURE)

    def finish(self) -> int:
        """Return the length of the complete body.

        Raises:
            FailedAttempt: the body is shorter than exact_bytes.
        """
        if self._exact_bytes is not None and self.size_bytes < self._exact_bytes:
            trouble = f"ended after {self.size_bytes} of {self._exact_bytes} bytes"
            raise FailedAttempt(content_error(self._url, trouble), Verdict.FAILURE, again=True)
        return self.size_bytes
