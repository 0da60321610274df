"""Applying a document through the API; what it does to the state is test_document's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.core.audit import AuditRecord
from app.core.principal import OPERATOR
from app.services.tenants.plan import Document
from tests.services.bench import audit_rows
from tests.web.api import ok, refused
from tests.web.harbour import harbour
from tests.web.wire import Site

DOCUMENT: dict[str, Any] = {
    "ownership": [{"prefix": "corp.example", "tenant": "acme", "granted": ["zeta"]}],
    "rules": [{"effect": "deny", "pattern": "evil.example", "reason": "malware"}],
    "tenants": {
        "acme": {
            "title": "Team A",
            "hosts": ["go.acme.example"],
            "limits": {"cold": 4},
            "rules": [{"effect": "allow", "pattern": "example.com"}],
            "routes": [{"pattern": "*", "upstreams": ["https://proxy.example"]}],
        },
        "zeta": {"default": "allow", "anonymous_read": True},
    },
}


@pytest.fixture(scope="module")
async def port(module_folder: Path) -> AsyncIterator[Site]:
    async with harbour(module_folder) as served:
        yield served


@pytest.fixture
async def site(port: Site) -> AsyncIterator[Site]:
    """One server for all; each test begins with nothing."""
    yield port
    await port.services.tenants.documents.apply(
        Document(ownership=(), rules=()), OPERATOR, prune=True
    )


async def apply(site: Site, document: Any, **more: Any) -> Any:
    return await ok(site, "POST", "/apply", {"document": document, **more})


def told(report: Any) -> list[tuple[str, str]]:
    return [(change["action"], change["object"]) for change in report["changes"]]


async def test_a_document_is_applied_and_again_changes_nothing(site: Site) -> None:
    dry = await apply(site, DOCUMENT, dry_run=True)
    assert dry["dry_run"] is True
    assert (await ok(site, "GET", "/tenants"))["items"] == []
    done = await apply(site, DOCUMENT)
    assert (
        told(done)
        == told(dry)
        == [
            ("create", "tenant acme"),
            ("create", "tenant zeta"),
            ("create", "ownership corp.example"),
            ("create", "rule platform: deny evil.example"),
            ("create", "rule acme: allow example.com"),
            ("create", "route acme: *"),
        ]
    )
    assert done["changes"][2] == {
        "action": "create",
        "object": "ownership corp.example",
        "before": None,
        "after": {"tenant": "acme", "granted": ["zeta"]},
    }
    before = await changes(site), await site.services.shared.watch.poll()
    assert (await apply(site, DOCUMENT))["changes"] == []
    assert (await changes(site), await site.services.shared.watch.poll()) == before
    assert (await ok(site, "GET", "/tenants/acme"))["limits"]["cold"] == 4


# A document, and what is told of it: with the place in it, so that an admin finds it.
BAD: list[tuple[Any, int, str]] = [
    (None, 422, "body.document"),
    ([], 422, "body.document"),
    ({"tennants": {}}, 422, "body.document.tennants: Extra inputs are not permitted"),
    ({"tenants": []}, 422, "body.document.tenants"),
    ({"tenants": {"acme": {"titel": ""}}}, 422, "body.document.tenants.acme.titel: Extra"),
    ({"tenants": {"acme": {"rules": [{"effect": "deny"}]}}}, 422, "acme.rules.0.pattern"),
    ({"tenants": {"acme": {"limits": {"cold": 0}}}}, 422, "acme.limits.cold"),
    ({"tenants": {"acme": {"limits": {"cold": 10**30}}}}, 422, "acme.limits.cold"),
    ({"tenants": {"Acme": {}}}, 400, "tenants.Acme: 'Acme' can't be a tenant's name"),
    ({"tenants": {"'; DROP TABLE x; --": {}}}, 400, "can't be a tenant's name"),
    ({"tenants": {"a" * 64: {}}}, 422, "at most 63 characters"),
    ({"tenants": {"sumdb": {}}}, 400, "has a meaning in URLs"),
    ({"rules": [{"effect": "allow", "pattern": "x.y"}]}, 400, "rules[0]: a platform rule can only"),
    (
        {"tenants": {"acme": {"rules": [{"effect": "deny", "pattern": "x["}]}}},
        400,
        "tenants.acme.rules[0]: malformed pattern 'x['",
    ),
    (
        {"tenants": {"acme": {"routes": [{"pattern": "*", "upstreams": ["http://x.example"]}]}}},
        400,
        "tenants.acme.routes[0]: http://x.example",
    ),
    (
        {
            "tenants": {
                "acme": {
                    "routes": [
                        {"pattern": "*", "upstreams": [{"url": "https://x.y", "credential": "z"}]}
                    ]
                }
            }
        },
        404,
        "tenants.acme.routes[0]: tenant acme has no credential 'z'; see `moorage credential set`",
    ),
    ({"ownership": [{"prefix": "x.y", "tenant": "nobody"}]}, 404, "ownership[0]: there is no"),
    ({"ownership": [{"prefix": "*.y", "tenant": "acme"}]}, 400, "ownership[0]: an owned prefix"),
]


async def changes(site: Site) -> list[AuditRecord]:
    """Return the audit rows of changes, but for the system's own, which may come meanwhile."""
    rows = await audit_rows(site.services)
    return [r for r in rows if r.actor != "system" and not r.action.startswith("access.")]


@pytest.mark.parametrize(("document", "status", "expected"), BAD, ids=range(len(BAD)))
async def test_F98_a_bad_document_changes_nothing_and_says_where(
    site: Site, document: Any, status: int, expected: str
) -> None:
    before = await changes(site)
    refusal = await refused(site, "POST", "/apply", {"document": document})
    assert refusal[0] == status, refusal
    assert expected in refusal[1]
    assert await changes(site) == before


@pytest.mark.parametrize("more", [{"dry_run": "yes"}, {"prune": 1}, {"force": True}])
async def test_F98_an_option_that_is_none_is_refused(site: Site, more: dict[str, Any]) -> None:
    refusal = await refused(site, "POST", "/apply", {"document": {}, **more})
    assert refusal[0] == 422


async def test_what_is_not_named_stays_but_for_prune(site: Site) -> None:
    await apply(site, DOCUMENT)
    assert (await apply(site, {}))["changes"] == []
    only = {"tenants": {"acme": DOCUMENT["tenants"]["acme"]}}
    assert (await apply(site, only))["changes"] == []
    assert told(await apply(site, only, prune=True)) == [
        ("remove", "tenant zeta"),
        ("update", "ownership corp.example"),  # its grant went with the tenant
    ]
