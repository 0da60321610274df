"""Applying a document takes as many statements for 100 tenants as for 10."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.principal import OPERATOR
from app.services.assembly import Services
from app.services.tenants.plan import Document
from tests.installation import running
from tests.many import FEW, MANY, document
from tests.statements import watched
from tests.web.harbour import proxy_settings

# At most 1,000 rows are inserted by one statement, so that many tenants may need a few more.
# On PostgreSQL a removal takes one statement more.
_BATCHES = 4


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Services]:
    async with running(proxy_settings(tmp_path)) as services:
        yield services


async def count(services: Services, applied: Document, **options: bool) -> tuple[int, int]:
    """Return how many statements and how many changes applying a document makes."""
    with watched(services.shared.db) as seen:
        changes = await services.tenants.documents.apply(applied, OPERATOR, **options)
    return seen.count, len(changes)


async def test_statements_do_not_grow_with_the_document(empty: Services) -> None:
    steps = {
        "made": lambda size: (document(size), {}),
        "applied again": lambda size: (document(size), {}),
        "shown": lambda size: (document(size, "changed"), {"dry_run": True}),
        "changed": lambda size: (document(size, "changed"), {}),
        "removed": lambda size: (Document(ownership=(), rules=()), {"prune": True}),
    }
    counts: dict[int, dict[str, tuple[int, int]]] = {}
    for size in (FEW, MANY):
        counts[size] = {}
        for name, step in steps.items():
            applied, options = step(size)
            counts[size][name] = await count(empty, applied, **options)
    for name in steps:
        (of_few, few_changes), (of_many, many_changes) = counts[FEW][name], counts[MANY][name]
        assert many_changes >= 9 * few_changes, name
        assert of_many <= of_few + _BATCHES <= 52, (name, of_few, of_many)
    assert counts[MANY]["applied again"][0] == counts[FEW]["applied again"][0] <= 16
    assert counts[MANY]["shown"][0] == counts[MANY]["applied again"][0]


async def test_a_dry_run_takes_no_write_lock(
    empty: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_work: object) -> None:
        raise AssertionError("a write transaction was begun")

    monkeypatch.setattr(type(empty.shared.db), "write", fail)
    assert (await count(empty, document(FEW), dry_run=True))[1] > FEW
