"""Limits by address and by token: wrong tokens, and requests of the admin API.

The rate of a tenant is `admission`'s; how many connections there may be, `connections`'.
"""

import time
from collections.abc import Callable

from app.core.errors import RateLimitedError
from app.services.slots import Buckets
from app.web.tenancy import client_block


class WrongTokens:
    """Counts wrong tokens by address, of the proxy and of the admin API together.

    Args:
        per_minute: wrong tokens a minute from one address; as many may come at once.
        clock: monotonic seconds.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._buckets = Buckets(clock, burst_s=60.0)

    def count(self, client: str) -> None:
        """Count a wrong token from an address.

        Raises:
            RateLimitedError: there were too many.
        """
        _take(
            self._buckets,
            client_block(client),
            self._per_minute / 60,
            "too many wrong tokens from this address; set the right one and try again later",
        )


class AdminRates:
    """Counts requests of the admin API, by address and by token.

    Args:
        by_token: requests a second with one token, with a burst of four seconds' worth.
        by_address: requests a second from one address, likewise.
        clock: monotonic seconds.
    """

    def __init__(
        self, by_token: int, by_address: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._by_token = by_token
        self._by_address = by_address
        self._tokens = Buckets(clock)
        self._addresses = Buckets(clock)

    def count_address(self, client: str) -> None:
        """Count a request from an address.

        Raises:
            RateLimitedError: there were too many.
        """
        line = "this address sends more requests to the admin API than it may; try again"
        _take(self._addresses, client_block(client), self._by_address, line)

    def count_token(self, token_id: str) -> None:
        """Count a request with a valid token.

        Raises:
            RateLimitedError: there were too many.
        """
        line = "this token sends more requests to the admin API than it may; try again"
        _take(self._tokens, token_id, self._by_token, line)


def _take(buckets: Buckets, key: str, rate: float, line: str) -> None:
    wait_s = buckets.take(key, rate)
    if wait_s:
        raise RateLimitedError(line, retry_after_s=max(1, round(wait_s)))
