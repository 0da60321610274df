"""The operator: whom a command in this process is, and no request over the network."""

import json
from typing import Any

import pytest

from app.web.admin.context import Operator, operator_of
from tests.web.wire import Site

KEY = "moorage.operator"
FORGED: list[Any] = [
    True,
    1,
    "operator",
    b"operator",
    {"progress": None},
    [None],
    object(),
    Operator,  # the class, not an object of it
]


def test_an_object_of_this_process_makes_the_operator() -> None:
    operator = Operator()
    assert operator_of(operator.sign({"type": "http"})) is operator
    assert operator_of({"type": "http"}) is None


@pytest.mark.parametrize("forged", FORGED, ids=lambda forged: type(forged).__name__)
def test_nothing_else_in_the_scope_makes_the_operator(forged: Any) -> None:
    assert operator_of({"type": "http", KEY: forged}) is None
    for place in ("extensions", "state", "headers", "path_params", "query_string"):
        assert operator_of({"type": "http", place: {KEY: forged}}) is None


NAMES = [KEY, "Moorage-Operator", "moorage_operator", "operator", "X-Operator", "OPERATOR"]
VALUES = ["1", "true", "cli", "Operator(progress=None)", json.dumps({"actor": "cli"})]


async def test_no_header_query_or_cookie_makes_a_request_the_operators(site: Site) -> None:
    for name in NAMES:
        for value in VALUES:
            quoted = value.replace(" ", "%20").replace('"', "%22")
            for target, headers in [
                ("/api/v1/tenants", {name: value}),
                (f"/api/v1/tenants?{name}={quoted}", {}),
                ("/api/v1/tenants", {"Cookie": f"{name}={quoted}"}),
                ("/api/v1/tenants", {"Authorization": f"Bearer {quoted}"}),
            ]:
                got = await site.ask(target, "GET", headers)
                assert got.status == 401, (target, headers)


async def test_the_scope_of_a_network_request_holds_no_object_of_ours(site: Site) -> None:
    """What a server fills in are texts, bytes and plain collections, whatever the request."""
    scopes: list[Any] = []
    admin = site.application.surfaces.admin

    async def looking(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await admin(scope, receive, send)

    site.application.surfaces.admin = looking
    got = await site.ask(f"/api/v1/tenants?{KEY}=1", "GET", {KEY: "1", "Cookie": f"{KEY}=1"})
    assert got.status == 401
    [scope] = scopes
    assert KEY not in scope
    assert operator_of(scope) is None
