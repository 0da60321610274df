"""What traces cost a hit: CPU seconds of a server that samples 1 % against one that traces nothing.

Both serve the same .mod from memory, in alternating turns of the same load; a collector in a
process of its own takes the spans. CPU seconds for each answer are compared, since rates depend on
whatever else the machine does.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.modules import CONNECTIONS, HIT, VERSION, Tenant, fill_upstreams, served
from bench.report import Comparison, Result
from bench.servers import Served, cpu_s, require_programs, upstream, wrk

_SHARES = ("0.01", "1")


def run(*, rounds: int, seconds: int) -> list[Result]:
    """Return the figures."""
    require_programs()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        fill_upstreams(folder / "upstream", 0)
        return [_compare(folder, share, rounds, seconds) for share in _SHARES]


def _compare(folder: Path, share: str, rounds: int, seconds: int) -> Result:
    log = folder / f"{share}.log"
    with upstream(folder / "upstream", log) as url, _collector() as collector:
        tenant = Tenant("hits", url, log, is_open=False)
        on = {"MOORAGE_OTEL__ENDPOINT": collector, "MOORAGE_OTEL__SAMPLE": share}
        with (
            served(folder / f"on{share}", (tenant,), workers=1, **on) as (traced, traced_token),
            served(folder / f"off{share}", (tenant,), workers=1) as (plain, plain_token),
        ):
            sides = ((traced, traced_token), (plain, plain_token))
            for side in sides:
                _us_a_hit(*side, 1)
            figures: tuple[list[float], list[float]] = ([], [])
            for turn in range(rounds):
                order = (0, 1) if turn % 2 == 0 else (1, 0)
                for which in order:
                    figures[which].append(_us_a_hit(*sides[which], seconds))
    what = f"CPU of a hit, {float(share):.0%} sampled"
    aim = 1.03 if share != "1" else 10.0
    return Comparison(what, "untraced", "µs", *figures, aim=aim, less_is_better=True)


def _us_a_hit(server: Served, token: str, seconds: int) -> float:
    """Return the microseconds of CPU that an answer takes, exporting included."""
    url = f"{server.url}goproxy/hits/{HIT}/@v/{VERSION}.mod"
    began = cpu_s(server.pid)
    load = wrk(url, connections=CONNECTIONS, seconds=seconds, headers=(token,))
    return (cpu_s(server.pid) - began) / (load.requests_s * seconds) * 1e6


@contextmanager
def _collector() -> Iterator[str]:
    """Run a collector that takes everything; yield its base URL."""
    command = [sys.executable, "-m", "tests.fakes.collector"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
