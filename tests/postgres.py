"""A PostgreSQL cluster of this test process's own, with a migrated template that tests copy.

The cluster is made at the first use, lives in memory where there is a file system in memory, is
reached through a socket in its folder, and ends with the process. No fsync: a test that kills the
machine's memory has no use for it. PostgreSQL refuses to run as root: then it runs as another user.
"""

import atexit
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg

from app.db.engine import Database
from app.db.schema import upgrade
from tests.installation import memory

_PROGRAMS = Path("/usr/lib/postgresql")
_START_S = 60.0
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, 15 or newer; None if they are not installed."""
    beside = shutil.which("initdb")
    folders = [p.parent for p in _PROGRAMS.glob("*/bin/initdb")]
    folders.sort(key=lambda folder: int(folder.parent.name), reverse=True)
    for folder in [*folders, *([Path(beside).resolve().parent] if beside else [])]:
        if (folder / "postgres").exists():
            return folder
    return None


def reason_to_skip() -> str | None:
    """Return what is missing for a cluster, or None."""
    if programs() is None:
        return "postgresql is not installed"
    if shutil.which("setpriv") is None:
        return "setpriv (util-linux) is not installed"
    return None


class Cluster:
    """A PostgreSQL server in a folder of its own.

    `stop`, `crash` and `start` are for tests of faults, each with a cluster of its own.

    Args:
        options: of the server, in addition: {"fsync": "on"}.
    """

    def __init__(self, **options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="moorage-pg-", dir=memory()))
        self._programs = programs() or _PROGRAMS
        self._options = _OPTIONS | options
        self._server: subprocess.Popen[bytes] | None = None
        self._names = count()
        if os.getuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        quick = ["--no-sync", "--no-instructions", "--auth=trust", "--username=moorage"]
        self._run("initdb", "-D", str(self.folder / "data"), "-E", "UTF8", "--locale=C", *quick)

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        self._server = subprocess.Popen(
            self._command(
                "postgres",
                *("-D", str(self.folder / "data"), "-k", str(self.folder)),
                *(
                    part
                    for name, value in self._options.items()
                    for part in ("-c", f"{name}={value}")
                ),
            ),
            cwd=self.folder,
        )
        end = time.monotonic() + _START_S
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        """Stop the server as its service manager would: connections end at once."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Stop the server without a checkpoint; the next start recovers from its log."""
        self._end(signal.SIGQUIT)

    def remove(self) -> None:
        """Stop the server and remove its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, name: str) -> str:
        """Return the URL of a database for `MOORAGE_DATABASE_URL`."""
        return f"postgresql+psycopg://moorage@/{name}?host={self.folder}"

    def connect(self, name: str = "postgres") -> "psycopg.Connection[tuple[object, ...]]":
        """Return a connection of its own, in which every statement is a transaction."""
        return psycopg.connect(
            host=str(self.folder), user="moorage", dbname=name, autocommit=True, connect_timeout=10
        )

    def create(self, template: str = "template0") -> str:
        """Return the name of a new database, a copy of another one."""
        name = f"test{next(self._names)}"
        with closing(self.connect()) as connection:
            # By far the fastest way where nothing is synced.
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def drop(self, name: str) -> None:
        """Remove a database, also under open connections."""
        with closing(self.connect()) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """Return the URL of a new database that is dropped at the end."""
        name = self.create(template)
        try:
            yield self.url(name)
        finally:
            self.drop(name)

    def _end(self, how: signal.Signals) -> None:
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(_START_S)
            self._server = None

    def _command(self, program: str, *args: str) -> list[str]:
        # The server must not outlive a test process that was killed.
        drop: list[str] = ["setpriv", "--pdeathsig", "QUIT"]
        if os.getuid() == 0:
            drop += ["--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups"]
        return [*drop, "--", str(self._programs / program), *args]

    def _run(self, program: str, *args: str) -> None:
        subprocess.run(
            self._command(program, *args), cwd=self.folder, check=True, capture_output=True
        )


@cache
def cluster() -> Cluster:
    """Return the running cluster of this test process."""
    made = Cluster()
    atexit.register(made.remove)
    made.start()
    return made


@cache
def migrated_template() -> str:
    """Return the name of a database at the schema of this program, to copy."""
    name = cluster().create()
    database = Database(cluster().url(name))
    upgrade(database.engine)
    database.close()
    return name
