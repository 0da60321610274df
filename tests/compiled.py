"""Statements are compiled once in a process, not once for the database of each test.

SQLAlchemy keeps what it compiled with the engine and under its dialect. A process of the product
has one database; one of the tests has a new one in each test, and spent a seventh of its time on
compiling the same statements again.
"""

from collections.abc import Callable
from functools import cache, wraps
from typing import Any

from sqlalchemy import Dialect, Engine, event
from sqlalchemy.util import LRUCache

from app.db import postgresql, sqlite

_STATEMENTS = 5_000  # several times of what the product has


def share() -> None:
    """Let all databases of this process share what is compiled, one for each kind of engine."""
    for module in (sqlite, postgresql):
        module.create_engine = _sharing(module.create_engine)  # type: ignore[attr-defined]


@cache
def _compiled() -> Any:
    return LRUCache(_STATEMENTS)


_dialects: dict[tuple[str, object], Dialect] = {}


def _sharing(create: Callable[..., Engine]) -> Callable[..., Engine]:
    @wraps(create)
    def shared(url: str, **more: Any) -> Engine:
        made = create(url, **more)
        kind = (made.dialect.name, more.get("isolation_level"))
        if kind in _dialects:
            made.dialect = _dialects[kind]
        else:  # the first connection tells a dialect which server it speaks to
            event.listen(made, "connect", lambda *_: _dialects.setdefault(kind, made.dialect))
        made.update_execution_options(compiled_cache=_compiled())
        return made

    return shared
