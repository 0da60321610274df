"""What a connection needs of its socket beyond asyncio: counts of its queues, and ways to end.

Source: tcp(7) for TCP_INFO and SO_LINGER. Not here: when a connection ends (`protocol.py`).
"""

import contextlib
import fcntl
import os
import socket
import struct
import sys
import termios
from collections.abc import Callable
from typing import Any, Final, NamedTuple

_BYTES_ACKED: Final = slice(120, 128)  # tcpi_bytes_acked of Linux's struct tcp_info, since 4.2
_TCP_CLOSE: Final = 7  # tcpi_state, the first byte: the connection is no more
_TAKE_MIN_BYTES_PER_S: Final = 8 * 1024
_WHOLE_SHARES: Final = 64  # clients up to which each must take the whole minimum
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: closing drops the bytes that are not sent yet


class UploadTransport:
    """The transport of a request with a body, as its response sees it: closing may wait.

    A response may end before the body has come: a refusal of an upload that is too large. A close
    with unread bytes in the kernel sends a reset, and a reset makes the client's kernel drop the
    response that the client has not read yet. So such a close is left to `linger`.

    Args:
        transport: the connection's own.
        is_whole: whether the whole body has come.
        linger: ends the connection so that what was sent still reaches the client.
    """

    def __init__(
        self, transport: Any, is_whole: Callable[[], bool], linger: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._is_whole = is_whole
        self._linger = linger

    def close(self) -> None:
        """End the connection."""
        if self._is_whole():
            self._transport.close()
        else:
            self._linger()

    def __getattr__(self, name: str) -> Any:
        """Return everything else from the connection's own transport."""
        return getattr(self._transport, name)


class Intake:
    """What a client takes of an answer, in spans: a span ends when the client has taken enough.

    Enough for a span is 8 KiB for each of its seconds, or what was left of the answer when it
    began. More than 64 clients that take at once may share one link, or one busy machine: together
    they must take as much as 64 do. 500 clients must take 1 KiB a second each.

    Args:
        span_s: seconds of a span.
    """

    def __init__(self, span_s: int) -> None:
        self._span_s = span_s
        self._begin: int | None = None  # bytes taken when the present span began
        self._left: int | None = None
        self._spans = 0

    def spans(self, taken: int, left: int | None, taking: int) -> int:
        """Return how many spans the client has begun; the number grows with what it takes.

        Args:
            taken: the bytes that the client has acknowledged, or any number that grows with them.
            left: the bytes of the answer that the client has still to take; None if more follow.
            taking: how many clients take answers of this process now.
        """
        rate = min(_TAKE_MIN_BYTES_PER_S, _TAKE_MIN_BYTES_PER_S * _WHOLE_SHARES // max(taking, 1))
        enough = self._span_s * max(rate, 1)
        if self._left is not None:
            enough = min(enough, self._left)
        if self._begin is None or taken >= self._begin + enough:
            self._begin, self._left = taken, left
            self._spans += 1
        return self._spans


def half_close(transport: Any) -> None:
    """Send what is queued, then the end of the stream; what the client still sends can be read."""
    if transport.can_write_eof():
        transport.write_eof()
    else:
        # TLS has no half of a close: its end reads what the client still sends, and drops it.
        transport.close()


class Sending(NamedTuple):
    """What the kernel says of a socket's sending.

    Attributes:
        in_kernel: bytes in the send queue, those that sendfile sent past the transport too.
        acknowledged: bytes that the client's side has.
        is_over: the connection was reset, which a transport that does not read never notices; the
            bytes in the send queue stay counted.
    """

    in_kernel: int = 0
    acknowledged: int = 0
    is_over: bool = False


def sending(transport: Any) -> Sending:
    """Return what the kernel says of a connection's sending; zeros if it says nothing."""
    sock = transport.get_extra_info("socket")
    try:
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4)
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.stop)
    except (OSError, AttributeError):
        return Sending()
    return Sending(
        int.from_bytes(queued, sys.byteorder),
        int.from_bytes(info[_BYTES_ACKED], sys.byteorder),
        info[0] == _TCP_CLOSE,
    )


def reset(transport: Any) -> None:
    """Cut the connection at once, for every holder of a descriptor.

    Streams send through a duplicated descriptor and wait on it; the shutdown wakes them.
    """
    with contextlib.suppress(OSError):
        copy = os.dup(transport.get_extra_info("socket").fileno())
        with socket.socket(fileno=copy) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            sock.shutdown(socket.SHUT_RDWR)
    transport.abort()
