"""PostgreSQL: connections whose every wait has a limit, the lock of all writes, what errors mean.

SQLite has one writer at a time, and all services rely on that: what a unit of work reads is still
right when the unit writes. Here the same promise comes from one advisory lock, which is the first
statement of every transaction that writes. Under READ COMMITTED each later statement sees what the
holders before have committed. Readers take no lock: READ ONLY, REPEATABLE READ.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

from app.core.errors import SettingsError

LOCK = int.from_bytes(b"moorage", "big")
"""The key of the advisory lock of all writes. Such keys belong to one database of a server."""

WITHOUT_LIMITS = "moorage_without_limits"
"""An execution option: the transaction may take its time, and waits for its turn without limit."""

_ROW_LOCK_MS = 1000
"""Under the lock of all writes, only a foreign session can hold a row: it must not stop others."""
_TABLE_LOCK_MS = 5000
_DISK_FULL = "53100"
_AGAIN = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected: with a foreign session, or with an earlier version
        "0A000",  # a cached plan from before a migration; the roll-back drops it
    }
)
_LOST = frozenset(
    {
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "25P03",  # idle_in_transaction_session_timeout
    }
)


@dataclass(frozen=True, slots=True)
class WaitLimits:
    """How long one wait for PostgreSQL may last, in seconds.

    Attributes:
        connect_s: to open a connection.
        lock_s: for the lock of all writes.
        statement_s: for a statement.
        idle_s: of a transaction between two statements; the server ends a frozen one.
    """

    connect_s: int = 3
    lock_s: float = 5
    statement_s: float = 15
    idle_s: float = 10

    @property
    def unit_s(self) -> float:
        """How long a caller waits for a unit of work, before it hears that nothing answers."""
        return self.lock_s + self.statement_s


def make_engine(url: str, limits: WaitLimits, *, connections: int, read_only: bool) -> Engine:
    """Return an engine with as many connections as threads will use it.

    A connection is not tried before each use: `Database` repeats a unit of work whose connection
    proves lost.
    """
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=limits.unit_s,
        hide_parameters=True,
        connect_args=connect_args(url, limits),
        isolation_level="REPEATABLE READ" if read_only else "READ COMMITTED",
    )
    if read_only:
        event.listen(engine, "connect", _read_only)
    else:
        event.listen(engine, "begin", partial(_begin_write, limits))
    return engine


def connect_args(url: str, limits: WaitLimits) -> dict[str, Any]:
    """Return the arguments of a connection, without those that the URL gives itself.

    Raises:
        SettingsError: see `require_url`.
    """
    require_url(url)
    query = make_url(url).query
    server = {
        "lock_timeout": limits.lock_s,
        "statement_timeout": limits.statement_s,
        "idle_in_transaction_session_timeout": limits.idle_s,
    }
    options = [f"-c {name}={round(seconds * 1000)}" for name, seconds in server.items()]
    own = query.get("options", ())
    defaults = {
        "connect_timeout": limits.connect_s,
        "application_name": "moorage",
        # A server that is gone without a word is noticed after some 10 seconds.
        "keepalives": 1,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": 10_000,
    }
    return {name: value for name, value in defaults.items() if name not in query} | {
        "options": " ".join([*options, *([own] if isinstance(own, str) else own)])
    }


def require_url(url: str) -> None:
    """Return if the driver can read a URL; nothing is connected.

    Raises:
        SettingsError: the driver is missing, or the URL has a part that it does not know. The
            message repeats nothing of the URL, which may hold a password.
    """
    try:
        parts = make_url(url)
        dialect: Any = parts.get_dialect()
        driver: Any = dialect.import_dbapi()
        arguments, named = dialect(dbapi=driver).create_connect_args(parts)
    except ImportError as error:
        raise SettingsError(
            "MOORAGE_DATABASE_URL: PostgreSQL needs the package psycopg: install moorage[postgres]"
        ) from error
    options = {name: value for name, value in named.items() if name != "context"}
    try:
        driver.conninfo.make_conninfo(*arguments, **options)
    except driver.Error as error:
        raise SettingsError(
            "MOORAGE_DATABASE_URL: PostgreSQL does not know an option behind the ?; its manual"
            " lists them (libpq, parameter key words)"
        ) from error


def _read_only(connection: Any, _record: object) -> None:
    connection.read_only = True


def _begin_write(limits: WaitLimits, connection: Connection) -> None:
    """Take the lock of all writes: the first statement, so that all others see what came before."""
    rows_ms = _ROW_LOCK_MS
    if connection.get_execution_options().get(WITHOUT_LIMITS, False):
        rows_ms = _TABLE_LOCK_MS
        for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
            connection.exec_driver_sql(f"SET LOCAL {name} = 0")
    connection.exec_driver_sql(
        f"SELECT pg_advisory_xact_lock({LOCK}), set_config('lock_timeout', '{rows_ms}', true)"
    )


def is_disk_full(error: DBAPIError) -> bool:
    """Report whether the server's disk is full."""
    return _state(error) == _DISK_FULL


def may_pass(error: DBAPIError) -> bool:
    """Report whether the same unit of work may succeed at once: the server has undone it."""
    return _state(error) in _AGAIN


def is_lost(error: DBAPIError) -> bool:
    """Report whether the connection ended; while it commits, the outcome is unknown."""
    return error.connection_invalidated or _state(error) in _LOST


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)
