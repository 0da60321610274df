"""Two processes append to one log and are killed, again and again, while a client follows.

    python -m tests.services.tenantlog.crashes URL FOLDER ROUNDS SEED

The log must be there. It prints {"told", "size", "followed", "findings", "lost"} as JSON: how many
appends were told to be done, the log's size, what the client looked up, what fsck found, and the
records that were told and are not there. A fork that the client sees ends it with a traceback.
"""

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

from app.core.errors import DatabaseBusyError
from app.core.tlog import Tree
from app.db.engine import Session
from app.db.tenantlogs import LogRecord, TenantLogTable
from tests.services.publiclog.bench import V1, sums
from tests.services.publiclog.goclient import EMPTY
from tests.services.tenantlog.owner import process


async def append_for_ever(url: str, folder: Path, start: int, pipe: int) -> None:
    """Append records and write the number of each one that is done to a pipe."""
    with process(url, folder) as owner:
        log = await owner.log()
        for number in range(start, sys.maxsize):
            # The other process may hold the database: as for a client, the next try does it.
            with suppress(DatabaseBusyError):
                await owner.put(log, number)
                os.write(pipe, f"{number}\n".encode())


async def follow(
    url: str, folder: Path, latest: Tree, random: Random, until: float
) -> tuple[Tree, int]:
    """Look up records as one client does that keeps its newest head; return it and how many."""
    with process(url, folder) as owner:
        log = await owner.log()
        client, count = owner.client(log, latest), 0

        def some(session: Session) -> list[LogRecord]:
            table = TenantLogTable(session)
            size = table.get(log.id).size
            return table.records(log.id, random.randrange(size), 1) if size else []

        while time.monotonic() < until or not count:
            for record in await owner.db.read(some):
                number = int(record.module.removeprefix("example.com/m"))
                assert await client.lookup(record.module, V1) == sums(number)
                count += 1
        return client.latest, count


def child(url: str, folder: Path, start: int, pipe: int) -> int:
    """Fork a process that appends; return its id."""
    pid = os.fork()
    if not pid:
        try:
            asyncio.run(append_for_ever(url, folder, start, pipe))
        finally:
            os._exit(1)
    return pid


def main(url: str, folder: Path, rounds: int, seed: int) -> None:
    random, latest, followed = Random(seed), EMPTY, 0
    acknowledged: set[int] = set()
    for _ in range(rounds):
        reading, writing = os.pipe()
        start = max(acknowledged, default=-1) + 1
        # Both append the same versions: one record each.
        children = [child(url, folder, start, writing) for _ in range(2)]
        os.close(writing)
        until = time.monotonic() + random.uniform(0.01, 0.3)
        latest, count = asyncio.run(follow(url, folder, latest, random, until))
        followed += count
        lines = _first_line(reading)
        for pid in random.sample(children, 2):
            os.kill(pid, signal.SIGKILL)
            time.sleep(random.choice((0, 0.02)))
        for pid in children:
            os.waitpid(pid, 0)
        with os.fdopen(reading) as rest:
            lines += rest.read()
        acknowledged |= {
            int(line) for line in lines.splitlines(keepends=True) if line.endswith("\n")
        }
    print(
        json.dumps(asyncio.run(judge(url, folder, latest, acknowledged)) | {"followed": followed})
    )


def _first_line(reading: int) -> str:
    """Return the first whole line that a pipe has, however busy the machine is."""
    text = ""
    while "\n" not in text:
        if not (byte := os.read(reading, 1)):
            raise EOFError("both processes ended by themselves")
        text += byte.decode()
    return text


async def judge(url: str, folder: Path, latest: Tree, acknowledged: set[int]) -> dict[str, object]:
    with process(url, folder) as owner:
        log = await owner.log()
        client, report = owner.client(log, latest), await owner.fsck(log)
        size = (await owner.fresh(log)).size
        records = await owner.db.read(lambda s: TenantLogTable(s).records(log.id, 0, size + 1))
        stored = {int(one.module.removeprefix("example.com/m")) for one in records}
        for number in sorted(acknowledged & stored):
            assert await client.lookup(f"example.com/m{number}", V1) == sums(number)
        await owner.put(log, max(stored, default=0) + 1)
        return {
            "told": len(acknowledged),
            "size": size,
            "findings": report.findings,
            "lost": sorted(acknowledged - stored),
        }


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
