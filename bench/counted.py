"""Moorage with counters: `python -m bench.counted OUT serve` runs `moorage serve` in one process.

At SIGUSR2 it writes what it has counted so far to the file OUT, as JSON: CPU seconds of threads by
their names, SQL statements, transactions, hops to threads, syncs asked for by Python, log lines.
SQLite's own syncs are not among them; strace sees these.
"""

import json
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event

from app import logs
from app.cli.program import main
from app.web.decisions import DecisionLog

_counts: Counter[str] = Counter()
_NUMBER = re.compile(r"[-_]\d+$")


def _cpu_s() -> dict[str, float]:
    """Return the CPU seconds of this process's threads, by name without number."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    spent: Counter[str] = Counter()
    for task in Path("/proc/self/task").iterdir():
        nanoseconds = int((task / "schedstat").read_text().split()[0])
        name = names.get(int(task.name), "others")
        spent[_NUMBER.sub("", name)] += nanoseconds / 1e9  # type: ignore[assignment]
    return dict(spent)


def _count_calls(owner: Any, name: str, of: Callable[..., str]) -> None:
    """Have each call of a function counted under of(its arguments)."""
    original = getattr(owner, name)

    def counted(*arguments: Any, **named: Any) -> Any:
        _counts[of(*arguments)] += 1
        return original(*arguments, **named)

    setattr(owner, name, counted)


def _hop_of(pool: ThreadPoolExecutor, *_: object) -> str:
    return f"hops to {pool._thread_name_prefix}"


def _on_statement(_c: object, _cursor: object, statement: str, *_: object) -> None:
    _counts["statements"] += 1
    _counts[f"sql {' '.join(statement.split())[:100]}"] += 1


def _on_commit(connection: Connection) -> None:
    is_writer = connection.engine.pool.size() == 1  # type: ignore[attr-defined]
    _counts["commits of writes" if is_writer else "ends of reads"] += 1


def _write(out: Path) -> None:
    seen = {"cpu_s": _cpu_s(), "counts": dict(_counts)}
    temp = out.with_suffix(".new")
    temp.write_text(json.dumps(seen))
    temp.replace(out)


def run() -> None:
    """Serve, counting."""
    out = Path(sys.argv.pop(1))
    _count_calls(ThreadPoolExecutor, "submit", _hop_of)
    _count_calls(os, "fsync", lambda *_: "syncs by Python")
    _count_calls(DecisionLog, "add", lambda *_: "decision lines")
    _count_calls(logs._Lines, "write", lambda *_: "log lines")
    event.listen(Engine, "before_cursor_execute", _on_statement)
    event.listen(Engine, "commit", _on_commit)
    signal.signal(signal.SIGUSR2, lambda *_: _write(out))
    main()


if __name__ == "__main__":
    run()
