"""Start the fake go.dev by hand: `python -m tests.fakes.godev --dir FOLDER --port 9091`."""

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.fakes.faults import Fault, FaultKind, Pace, Position
from tests.fakes.godev import FakeGodev, RecordedRequest

_EPILOG = """
FOLDER holds index.json in the schema of go.dev's ?mode=json&include=all and beside it the archives
that it names, each with its signature in NAME.asc if there is one. A file that is missing is
listed and answers 404.

faults, for ever, or for the first N requests with *N at the end; AT is a count of bytes, "half"
or "last":
  truncate[:AT]  truncate-chunked[:AT]  truncate-unframed[:AT]  stall[:AT]  reset[:AT]
  reset-at-once  flip-byte[:AT]  longer[:BYTES]  wrong-length[:BYTES]  oversized[:BYTES]
  drip[:BYTES_PER_S]  hold-headers  status:CODE  html  empty  redirect:URL  redirect-loop
  partial-206  gzip  huge-header[:BYTES]  wrong-content[:TEXT]

examples:
  python -m tests.fakes.godev --dir ~/releases --port 9091 --rate 5000000
  python -m tests.fakes.godev --dir ~/releases --fault '/go/go1.99.1.src.tar.gz=truncate:half*2' \\
      --fault '/dl/=status:503'
"""


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; return 0, or 2 where an option or the folder is unusable."""
    options = _parser().parse_args(arguments)
    stopped = _stopped_by_signal()
    fake = FakeGodev(
        port=options.port, pace=Pace.of_rate(options.rate) if options.rate else None, log=_log
    )
    try:
        fake.from_directory(options.dir)
        for path, fault, times in options.fault:
            fake.fault(path, fault, times=times)
        fake.start()
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with fake:
        _print_exports(fake)
        stopped.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fakes.godev",
        description="Imitate go.dev and dl.google.com on 127.0.0.1 and log every request.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, required=True, metavar="FOLDER", help="what to serve")
    parser.add_argument(
        "--port", type=int, default=9091, help="port on 127.0.0.1; 0 takes a free one [9091]"
    )
    parser.add_argument(
        "--rate", type=_count, metavar="BYTES_PER_S", help="limit each connection to this rate"
    )
    parser.add_argument(
        "--fault",
        type=parse_fault,
        action="append",
        default=[],
        metavar="PATH=KIND[:ARG][*N]",
        help="spoil the answers of a path; repeatable, faults of one path queue up",
    )
    return parser


def parse_fault(text: str) -> tuple[str, Fault, int | None]:
    """Return path, fault and number of requests of "/go/x.tar.gz=truncate:half*2".

    Raises:
        argparse.ArgumentTypeError: no such kind, or its argument is malformed.
    """
    path, _, rest = text.partition("=")
    # An asterisk with digits ends the argument; any other one belongs to it (a URL may have one).
    head, star, digits = rest.rpartition("*")
    spec, times = (head, int(digits)) if star and digits.isdecimal() else (rest, None)
    kind, _, argument = spec.partition(":")
    try:
        return path, _MAKERS[FaultKind(kind)](argument), times
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from error


def _position(text: str) -> Position:
    if text in ("", "half"):
        return "half"
    if text == "last":
        return "last"
    return 0 if text == "0" else _count(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return int(text)


def _url(text: str) -> str:
    if not text:
        raise ValueError("redirect needs a URL")
    return text


_MAKERS: dict[FaultKind, Callable[[str], Fault]] = {
    FaultKind.TRUNCATE: lambda text: Fault.truncate(_position(text)),
    FaultKind.TRUNCATE_CHUNKED: lambda text: Fault.truncate_chunked(_position(text)),
    FaultKind.TRUNCATE_UNFRAMED: lambda text: Fault.truncate_unframed(_position(text)),
    FaultKind.STALL: lambda text: Fault.stall(_position(text)),
    FaultKind.HOLD_HEADERS: lambda _: Fault.delay_headers_until_released(),
    FaultKind.DRIP: lambda text: Fault.drip(_count(text or "1"), 1.0),
    FaultKind.RESET: lambda text: Fault.reset(_position(text)),
    FaultKind.RESET_AT_ONCE: lambda _: Fault.reset_at_once(),
    FaultKind.FLIP_BYTE: lambda text: Fault.flip_byte(_position(text)),
    FaultKind.LONGER: lambda text: Fault.longer_than_length(bytes(_count(text or "5"))),
    FaultKind.WRONG_LENGTH: lambda text: Fault.wrong_length(int(text or "1")),
    FaultKind.OVERSIZED: lambda text: Fault.oversized(_count(text or "100000000")),
    FaultKind.STATUS: lambda text: Fault.status(_count(text)),
    FaultKind.HTML_200: lambda _: Fault.html_200(),
    FaultKind.EMPTY_200: lambda _: Fault.empty_200(),
    FaultKind.REDIRECT: lambda text: Fault.redirect(_url(text)),
    FaultKind.REDIRECT_LOOP: lambda _: Fault.redirect_loop(),
    FaultKind.PARTIAL_206: lambda _: Fault.partial_206(),
    FaultKind.GZIP: lambda _: Fault.gzip_encoded(),
    FaultKind.HUGE_HEADER: lambda text: Fault.huge_header(_count(text or "300000")),
    FaultKind.WRONG_CONTENT: lambda text: Fault.wrong_content(text.encode()),
}


def _print_exports(fake: FakeGodev) -> None:
    """Print what a shell needs to point Moorage here, one export per line."""
    exports = {
        "MOORAGE_RELEASES__INDEX_URL": fake.index_url,
        "MOORAGE_RELEASES__FILES_URLS": json.dumps([fake.files_url]),
        "MOORAGE_NETWORK__ALLOW": json.dumps(["127.0.0.0/8"]),
    }
    for name, value in exports.items():
        print(f"export {name}={shlex.quote(value)}", flush=True)


def _log(request: RecordedRequest, status: int, body_bytes: int) -> None:
    print(f"{request.method} {request.target!r} {status} {body_bytes}", flush=True)


def _stopped_by_signal() -> threading.Event:
    """Return an event that SIGINT or SIGTERM sets."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    return stopped


if __name__ == "__main__":
    sys.exit(main())
