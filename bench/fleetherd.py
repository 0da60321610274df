"""`python -m bench.fleetherd URL FILE`: nodes that check in, until SIGTERM; then print JSON.

Each check-in has a connection of its own, as that of a node has. The file says how often a node
checks in, what it runs, and the tokens by node; "new" is the release that a grant brings.
"""

import asyncio
import json
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

_UPDATE_S = 2.0


class Herd:
    """All nodes, and how long their check-ins took."""

    def __init__(self, url: str, facts: dict[str, Any]) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._interval_s = float(facts["interval_s"])
        self._current, self._new = str(facts["current"]), str(facts["new"])
        self._tokens: dict[str, str] = facts["tokens"]
        self._random = Random(1)
        self.waits_ms: list[float] = []
        self.updates: list[float] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for node, token in self._tokens.items():
                group.create_task(self._node(node, token, self._random.random()))

    async def _node(self, node: str, token: str, phase: float) -> None:
        await asyncio.sleep(phase * self._interval_s)
        current, seen, last = self._current, 1, None
        while True:
            message = {
                "node": node, "program": "bench", "channel": "stable", "current": current,
                "installed": [current], "seen_revision": seen, "drift": False, "last": last,
                "facts": {"os": "linux", "arch": "amd64", "hostname": node, "python": "3.11"},
            }  # fmt: skip
            began = time.perf_counter()
            answer = await self._post("check", message, token)
            self.waits_ms.append((time.perf_counter() - began) * 1000)
            if answer["action"] != "update":
                await asyncio.sleep(self._interval_s)
                continue
            for event in ("downloaded", "verified", "unpacked", "tested", "switched"):
                await asyncio.sleep(_UPDATE_S / 5)
                report = {"node": node, "grant": answer["grant"], "event": event, "seconds": {}}
                await self._post("report", report, token)
            current, seen = self._new, 2
            last = {"grant": answer["grant"], "result": "succeeded", "stage": "", "reason": ""}
            self.updates.append(time.perf_counter())

    async def _post(self, name: str, message: dict[str, Any], token: str) -> Any:
        body = json.dumps(message).encode()
        head = (
            f"POST /fleet/v1/{name} HTTP/1.1\r\nHost: {self._host}\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write(head.encode() + body)
            answer = await reader.read()
        finally:
            writer.close()
        status, _, content = answer.partition(b"\r\n\r\n")
        if status.split(b" ")[1] not in (b"200", b"204"):
            sys.exit(f"a node was answered {answer[:300]!r}")
        return json.loads(content) if content else None


async def main() -> None:
    """Run the herd until SIGTERM."""
    herd = Herd(sys.argv[1], json.loads(Path(sys.argv[2]).read_text()))
    running = asyncio.ensure_future(herd.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    with suppress(asyncio.CancelledError):
        await running
    json.dump({"waits_ms": herd.waits_ms, "updates": herd.updates}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
