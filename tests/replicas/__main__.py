"""Real builds through two replicas while machines, PostgreSQL and S3 fail.

    python -m tests.replicas --seconds 180 --modules 200

Two replicas have one PostgreSQL and one S3 store (moto's server behind a proxy that spoils
answers), and no shared disk; HAProxy is in front. The real `go` builds a program again and again,
each time into an empty module cache, and each time a fifth of the modules has a new version.
Meanwhile, one after the other, a replica is killed, a replica is frozen, PostgreSQL restarts, S3 is
busy and spoils answers. A build that fails is repeated.

At the end every acknowledged module is asked of both replicas and compared, and `sumdb verify`,
`audit verify` and `fsck --deep` must be clean. Then 500 clients ask for one cold module at once,
divided over both replicas: there must be one fetch from upstream. The exit code is 0 only then.

    python -m tests.replicas --herd-only

does the last part alone, within a minute.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.gocommand import Go
from tests.e2e.process import ROOT, wait_until
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.s3 import FakeS3
from tests.fakes.s3faults import S3Fault, S3FaultProxy
from tests.postgres import Cluster, reason_to_skip
from tests.replicas.site import TENANT, Replicated

_UNDER = "example.com/many"
_BUILD_TRIES = 40


@dataclass
class Seen:
    """What the run has seen so far."""

    rounds: int = 0
    failed_builds: int = 0
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[tuple[str, str], Module] = field(default_factory=dict)
    slowest_build_s: float = 0.0


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.replicas")
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--frozen", type=float, default=20.0, help="seconds of a SIGSTOP")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between two faults")
    parser.add_argument("--clients", type=int, default=500, help="of the herd at the end")
    parser.add_argument("--herd-only", action="store_true", help="the herd, and nothing before")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="the folder of everything; kept")
    options = parser.parse_args()
    missing = reason_to_skip()
    if missing is not None:
        print(missing, file=sys.stderr)
        return 2
    with ExitStack() as stack:
        folder = options.keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="moorage-replicas-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        cluster = Cluster(fsync="on", full_page_writes="on")
        stack.callback(cluster.remove)
        cluster.start()
        s3 = stack.enter_context(FakeS3())
        faults = stack.enter_context(S3FaultProxy(s3.endpoint))
        upstream = stack.enter_context(FakeGoproxy())
        site = Replicated(folder, cluster, s3.endpoint, faults, upstream)
        for replica in site.replicas:
            stack.callback(replica.stop)
        site.wait_ready()
        report: dict[str, Any] = {"clean": True}
        if not options.herd_only:
            stack.enter_context(site.in_front())
            seen = Seen()
            _run(site, seen, options)
            report = _verify(site, seen)
        report["herd"] = _herd(site, options.clients)
        for replica in site.replicas:
            replica.stop()
        report["tracebacks"] = sum(replica.tracebacks() for replica in site.replicas)
        report["clean"] = report["clean"] and not report["tracebacks"]
        print(json.dumps(report, indent=1))
    return 0 if report["clean"] and report["herd"]["is_right"] else 1


def _run(site: Replicated, seen: Seen, options: argparse.Namespace) -> None:
    """Build in a loop beside the faults."""
    ending = threading.Event()
    go = Go(site.folder / "go", site.goproxy, GOSUMDB=site.vkey, GOFLAGS="-mod=mod")
    versions = [0] * options.modules
    choice = random.Random(options.seed)
    _build(site, seen, go, versions)  # the first one without a fault
    end = time.monotonic() + options.seconds

    def build_on() -> None:
        try:
            while time.monotonic() < end:
                for number in choice.sample(range(options.modules), max(1, options.modules // 5)):
                    versions[number] += 1
                _build(site, seen, go, versions)
        finally:
            ending.set()

    builds = threading.Thread(target=build_on)
    builds.start()
    # The faults stay in this thread: PostgreSQL ends with the thread that started it.
    try:
        _chaos(site, seen, options, ending)
    finally:
        builds.join()


def _build(site: Replicated, seen: Seen, go: Go, versions: list[int]) -> None:
    """Build a program of all modules into an empty cache, until it works; compare every sum."""
    modules = [
        module(f"{_UNDER}/m{number:04}", f"v1.{version}.0")
        for number, version in enumerate(versions)
    ]
    for one in modules:
        site.upstream.put(one)
    requires = "".join(f"\t{one.path} {one.version}\n" for one in modules)
    go.write("go.mod", f"module m\n\ngo 1.21\n\nrequire (\n{requires})\n")
    go.program(*(f"_ {one.path}" for one in modules), body='println("built")')
    (go.work / "go.sum").unlink(missing_ok=True)
    go.forget_modules()
    began = time.monotonic()
    for _ in range(_BUILD_TRIES):
        ended = go.run("build", "-o", "program", ".", timeout_s=600)
        if ended.code == 0:
            break
        seen.failed_builds += 1
        last = ended.err.strip().splitlines()[-1] if ended.err.strip() else "?"
        seen.errors[last[-90:]] += 1
        if "SECURITY ERROR" in ended.err or "checksum mismatch" in ended.err:
            seen.wrong.append(last)
        time.sleep(0.5)
    else:
        seen.wrong.append("a build never succeeded")
    seen.slowest_build_s = max(seen.slowest_build_s, time.monotonic() - began)
    seen.rounds += 1
    sums = set(go.go_sum())
    for one in modules:
        if f"{one.path} {one.version} {one.h1}" not in sums:
            seen.wrong.append(f"go.sum has another sum of {one.path} {one.version}, or none")
        seen.acknowledged[one.path, one.version] = one


def _chaos(
    site: Replicated, seen: Seen, options: argparse.Namespace, ending: threading.Event
) -> None:
    """Do one fault after the other, all kinds in each turn."""
    choice = random.Random(options.seed)
    kinds: list[Callable[[], None]] = []

    def killed() -> None:
        replica = choice.choice(site.replicas)
        replica.kill()
        ending.wait(3)
        replica.start()

    def frozen() -> None:
        replica = choice.choice(site.replicas)
        replica.signal_all(signal.SIGSTOP)
        ending.wait(options.frozen)
        replica.signal_all(signal.SIGCONT)

    def restarted() -> None:
        site.cluster.stop()
        ending.wait(2)
        site.cluster.start()

    def spoilt() -> None:
        spoil = random.Random(options.seed)
        rates = [S3Fault.BUSY, S3Fault.SHORT, S3Fault.CUT, S3Fault.FLIPPED, S3Fault.LOST]

        def choose(method: str, _path: str) -> S3Fault | None:
            if spoil.random() > 0.3:
                return None
            return spoil.choice(rates) if method == "GET" else S3Fault.BUSY

        site.faults.choose = choose
        ending.wait(10)
        site.faults.choose = lambda _method, _path: None

    kinds = [killed, frozen, restarted, spoilt]
    while not ending.is_set():
        choice.shuffle(kinds)
        for kind in kinds:
            if ending.wait(options.pause):
                break
            seen.faults[kind.__name__] += 1
            kind()
            for replica in site.replicas:
                wait_until(replica.is_ready, "readiness after a fault", 120)


def _verify(site: Replicated, seen: Seen) -> dict[str, Any]:
    """Return what there is to report, after asking both replicas for all that was acknowledged."""
    site.wait_ready()

    def ask(one: Module) -> None:
        for replica in site.replicas:
            path = f"/goproxy/{TENANT}/{one.path}/@v/{one.version}.zip"
            for _ in range(3):
                got = replica.server.get(path)
                if got.status == 200:
                    break
            if (got.status, got.body) != (200, one.zip):
                seen.wrong.append(f"{got.status} of {one.path} {one.version}: {got.text[:80]}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(ask, seen.acknowledged.values()))
    commands = {
        "sumdb verify": site.run("sumdb", "verify", "--all"),
        "audit verify": site.run("audit", "verify"),
        "fsck --deep": site.run("fsck", "--deep"),
    }
    ends = {name: ended.code for name, ended in commands.items()}
    for name, ended in commands.items():
        if ended.code:
            print(f"{name}:\n{ended.out}\n{ended.err}", file=sys.stderr)
    alarms = {
        name: sum(len(replica.events(name)) for replica in site.replicas)
        for name in (
            *("blob damaged", "blob mended", "module contradiction", "audit head not kept"),
            *("leadership lost", "database lost", "background work broke", "request broke"),
        )
    }
    return {
        "rounds": seen.rounds,
        "failed_builds": seen.failed_builds,
        "slowest_build_s": round(seen.slowest_build_s, 1),
        "faults": dict(seen.faults),
        "errors": dict(seen.errors.most_common(12)),
        "acknowledged": len(seen.acknowledged),
        "wrong": seen.wrong[:20],
        "commands": ends,
        "events": alarms,
        "s3_requests": site.faults.count,
        "clean": not seen.wrong and not any(ends.values()),
    }


def _herd(site: Replicated, clients: int) -> dict[str, Any]:
    """Have many clients ask both replicas for one cold module; upstream answers after all asked."""
    one = module(f"{_UNDER}/herd", "v1.0.0", padding_bytes=8 << 20)
    site.upstream.put(one)
    expected = site.folder / "herd.zip"
    expected.write_bytes(one.zip)
    path = f"/{one.path}/@v/{one.version}"
    site.upstream.fault(f"{path}.zip", Fault.delay_headers_until_released())
    with ExitStack() as stack:
        herds = []
        for number, replica in enumerate(site.replicas):
            share = clients // 2 + (clients % 2 if number else 0)
            arguments = [f"{replica.port}", f"/goproxy/{TENANT}{path}.zip", f"{share}"]
            command = [sys.executable, "-m", "tests.e2e.herd", *arguments, str(expected)]
            herd = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            herds.append(stack.enter_context(herd))
        for herd in herds:
            assert herd.stdout
            assert herd.stdout.readline() == "asked\n"
        site.upstream.wait_until(lambda: site.upstream.stalled > 0)
        site.upstream.release()
        results = [json.loads(herd.stdout.readline()) for herd in herds if herd.stdout]
    fetches = {end: site.upstream.hits[f"{path}{end}"] for end in (".zip", ".mod", ".info")}
    whole = sum(result["whole"] for result in results)
    return {
        "clients": clients,
        "statuses": [result["statuses"] for result in results],
        "whole": whole,
        "upstream_fetches": fetches,
        "is_right": whole == clients and max(fetches.values()) == 1,
    }


if __name__ == "__main__":
    sys.exit(main())
