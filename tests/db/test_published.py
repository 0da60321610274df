"""Rows of published versions, and of messages of git hosts, in both shapes."""

from datetime import UTC, datetime, timedelta

import pytest

from app.core.published import PublishedState, PublishedVersion
from app.db.engine import Database
from app.db.published import PublishedTable

pytestmark = pytest.mark.both_shapes
AT = datetime(2026, 11, 25, tzinfo=UTC)


def version(module: str, version: str, tenant: str = "acme") -> PublishedVersion:
    return PublishedVersion(
        module=module,
        version=version,
        tenant=tenant,
        publisher="token:1",
        published_at=AT,
        sha256="0" * 64,
        size_bytes=500 << 20,
        h1="h1:x",
        changed_at=AT,
    )


async def test_versions_are_listed_by_tenant_in_pages_and_their_state_changes(
    database: Database,
) -> None:
    a, b, c = version("a.b/x", "v1.0.0"), version("a.b/x", "v1.1.0"), version("a.b/y", "v1.0.0")
    other = version("o.b/x", "v1.0.0", "other")
    await database.write(lambda s: [PublishedTable(s).add(one) for one in (c, a, other, b)])
    pages = []
    after = ("", "")
    while page := await database.read(
        lambda s: PublishedTable(s).of_tenant("acme", None, after, 2)  # noqa: B023 (awaited)
    ):
        pages.append(page)
        after = (page[-1].module, page[-1].version)
    assert pages == [[a, b], [c]]
    assert await database.read(
        lambda s: PublishedTable(s).of_tenant("acme", "a.b/y", ("", ""), 9)
    ) == [c]
    later = AT + timedelta(days=1)
    await database.write(
        lambda s: PublishedTable(s).set_state("a.b/x", "v1.0.0", PublishedState.GONE, "why", later)
    )
    changed = await database.read(lambda s: PublishedTable(s).get("a.b/x", "v1.0.0"))
    assert changed is not None
    assert (changed.state, changed.reason, changed.changed_at) == (
        PublishedState.GONE,
        "why",
        later,
    )
    assert changed.size_bytes == 500 << 20
