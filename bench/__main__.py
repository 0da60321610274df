"""`python -m bench [NAME [SCENARIO …]] [--rounds N] [--seconds S] [--json]`: run benchmarks.

Only `victim` takes scenarios; `fleet` stands for its scenarios `fleet` and `rollout`. `peers` and
`ansible` run where they are named: most rows of `peers` are of `modules`, and `ansible` takes as
many minutes as it has turns, or more.
`node` runs where it is named, too: it needs the real archive. So do `cold` (of `peers` the rows of
misses alone), `tls` (`downloads` with TLS) and `replicas` (PostgreSQL, S3 and a second replica
against the single shape).
"""

import argparse
import json
import sys

from bench import ansible, downloads, modules, node, peers, replicas, sumdb, traces, victim
from bench.report import Result, render

BENCHMARKS = {"downloads": downloads.run, "modules": modules.run, "sumdb": sumdb.run}
_TLS = "tls"
_PEERS, _VICTIM, _NODE, _ANSIBLE, _FLEET = "peers", "victim", "node", "ansible", "fleet"
_TRACES, _REPLICAS, _COLD = "traces", "replicas", "cold"
_NAMED = (_ANSIBLE, _COLD, _FLEET, _NODE, _PEERS, _REPLICAS, _TLS, _TRACES, _VICTIM)


def main() -> None:
    """Run what is asked for and print a table."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument(
        "name",
        nargs="?",
        choices=sorted([*BENCHMARKS, *_NAMED]),
        help="default: all",
    )
    parser.add_argument("scenario", nargs="*", help="what runs beside the victim; default: all")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (5)")
    parser.add_argument("--seconds", type=int, default=5, help="length of one turn (5)")
    parser.add_argument("--hosts", type=int, default=ansible.HOSTS, help="of `ansible` (500)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    asked = parser.parse_args()
    results: list[Result] = []
    for name, run in BENCHMARKS.items():
        if asked.name in (None, name):
            results += run(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _PEERS:
        results += peers.run(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _COLD:
        results += peers.run_cold(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _TRACES:
        results += traces.run(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _REPLICAS:
        results += replicas.run(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _TLS:
        results += downloads.run_tls(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _NODE:
        results += node.run(rounds=asked.rounds, seconds=asked.seconds)
    if asked.name == _ANSIBLE:
        results += ansible.run(rounds=asked.rounds, hosts=asked.hosts)
    if asked.name in (None, _VICTIM, _FLEET):
        scenarios = ["fleet", "rollout"] if asked.name == _FLEET else asked.scenario
        results += victim.run(rounds=asked.rounds, seconds=asked.seconds, scenarios=scenarios)
    if asked.json:
        json.dump([result.as_dict() for result in results], sys.stdout, indent=2)
        print()
    else:
        print(render(results))


if __name__ == "__main__":
    main()
