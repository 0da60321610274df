"""Limits on what a request may look like, checked before any routing.

uvicorn with httptools limits neither the number nor the size of headers.
"""

from app.web.responses import Header
from app.web.streaming import Scope


class Guard:
    """Refuses requests that no client of ours sends."""

    def __init__(self, *, max_url_bytes: int, max_header_bytes: int, max_headers: int) -> None:
        self._max_url_bytes = max_url_bytes
        self._max_header_bytes = max_header_bytes
        self._max_headers = max_headers

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return (status, line) to refuse the request with, or None to let it pass."""
        path: bytes = scope["raw_path"]
        return self.refuses(path + scope["query_string"], scope["headers"])

    def refuses(self, url: bytes, headers: list[Header]) -> tuple[int, str] | None:
        """Return (status, line) for a URL and headers, or None to let them pass."""
        if len(url) > self._max_url_bytes:
            return 414, f"the URL is longer than {self._max_url_bytes} bytes"
        if len(headers) > self._max_headers:
            return 431, f"more than {self._max_headers} headers"
        size = 0
        for name, value in headers:
            size += len(name) + len(value)
        if size > self._max_header_bytes:
            return 431, f"the headers are larger than {self._max_header_bytes} bytes"
        return None
