"""Limits by address and by token: wrong tokens, requests of the admin API, messages of nodes.

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


class NodeRates:
    """Counts what a node sends: each check-in and each report may leave a row.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._check_ins = Buckets(clock, burst_s=60.0)
        self._reports = Buckets(clock, burst_s=300.0)

    def count_check_in(self, node_id: str) -> None:
        """Count a check-in: one a second, sixty at once.

        Raises:
            RateLimitedError: there were too many.
        """
        line = "this node checks in more often than once a second; it may ask again later"
        _take(self._check_ins, node_id, 1.0, line)

    def count_report(self, node_id: str) -> None:
        """Count a report: one in five seconds, sixty at once.

        Raises:
            RateLimitedError: there were too many.
        """
        line = "this node sends more reports than one in five seconds; it may send the next later"
        _take(self._reports, node_id, 0.2, line)


def _take(buckets: Buckets, key: str, rate: float, line: str) -> None:
    wait_s = buckets.take(key, rate)
    if wait_s:
        raise RateLimitedError(line, retry_after_s=max(1, round(wait_s)))
