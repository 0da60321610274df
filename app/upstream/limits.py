"""Time limits, the minimum rate and the number of connections of an upstream."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """Limits for one upstream; all times in seconds.

    Attributes:
        connect_s: for making a connection.
        read_s: for the next bytes to come, or for ours to go.
        pool_s: for one of our own connections to become free.
        drop_s: for reading the body of a refusal, which is dropped.
        connections: at once.
        rate_bytes_s: a download that stays below this rate for `rate_window_s` is ended.
        rate_window_s: seconds over which the rate is measured.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    pool_s: float = 5.0
    drop_s: float = 1.0
    connections: int = 100
    rate_bytes_s: int = 32 * 1024
    rate_window_s: float = 30.0

    def timeouts(self) -> dict[str, float]:
        """Return the limits of single steps, under the names of `httpx.Timeout`."""
        return {
            "connect": self.connect_s,
            "read": self.read_s,
            "write": self.read_s,
            "pool": self.pool_s,
        }
