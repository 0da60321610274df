"""Processes that keep tenants' logs, over one database and folder."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.services.tenantlog.owner import Owner, process


@pytest.fixture
def make_owner(database_url: str, tmp_path: Path) -> Iterator[Callable[[], Owner]]:
    """Return a function that starts another process over the one database and folder."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(process(database_url, tmp_path))


@pytest.fixture
def owner(make_owner: Callable[[], Owner]) -> Owner:
    return make_owner()
