"""The admin API answers what its description declares: status, Content-Type and shape.

schemathesis makes requests from the description, good ones and bad ones, seeded and few: what a run
finds is found by every run. `EXAMPLES` may be raised by hand to look further.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.core.effect import Effect
from app.core.principal import Scope
from app.web.admin.openapi import complete
from tests.web.harbour import add_rule, add_tenant, add_token, harbour
from tests.web.wire import Site

EXAMPLES = {GenerationMode.POSITIVE: 2, GenerationMode.NEGATIVE: 1}
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# Values that exist, so that a request comes further than to "there is no such tenant".
KNOWN = {"tenant": "acme", "rule_id": 1, "route_id": 1}
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


@dataclass(frozen=True)
class Api:
    """The API over the network, and its description."""

    site: Site
    document: dict[str, Any]
    token: str

    @property
    def operations(self) -> dict[str, dict[str, Any]]:
        return {
            f"{method.upper()} {path}": operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }


@pytest.fixture(scope="module")
async def api(module_folder: Path) -> AsyncIterator[Api]:
    async with harbour(module_folder) as site:
        await add_tenant(site.services, "acme", "http://127.0.0.1:9/")
        await add_rule(site.services, "acme", Effect.DENY, "x.example/*")
        await site.services.sumdb.logs.create("acme")
        _, token = await add_token(site.services, None, {Scope.ADMIN})
        document = json.loads((await site.ask("/openapi.json")).body)
        yield Api(site, document, token)


@pytest.mark.slow
async def test_every_answer_is_declared(api: Api) -> None:
    schema = schemathesis.openapi.from_dict(api.document)
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {api.token}"
    statuses: set[int] = set()
    failures: list[str] = []

    def check(case: schemathesis.Case) -> None:
        response = case.call(base_url=f"http://127.0.0.1:{api.site.port}", session=session)
        statuses.add(response.status_code)
        if response.status_code == 500:
            failures.append(case.as_curl_command())
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as group:
            failures.append(str(group))

    def run() -> None:
        operations = [result.ok() for result in schema.get_all_operations()]
        # Removals last: what others need is still there.
        for operation in sorted(operations, key=lambda one: one.method == "delete"):
            for mode, examples in EXAMPLES.items():
                ask(operation, mode, examples, check)

    with session:
        await anyio.to_thread.run_sync(run)
    assert not failures, "\n".join(failures)
    # The requests came far enough to mean something.
    assert {200, 201, 202, 400, 404, 422} <= statuses


def ask(operation: Any, mode: GenerationMode, examples: int, check: Any) -> None:
    """Send some requests of one operation, the same in each run."""
    known = {p.name: KNOWN[p.name] for p in operation.path_parameters if p.name in KNOWN}
    is_good = mode is GenerationMode.POSITIVE
    cases = operation.as_strategy(mode, path_parameters=known if is_good and known else None)
    quick = settings(
        max_examples=examples,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(1)
    @quick
    @given(cases)
    def each(case: schemathesis.Case) -> None:
        check(case)

    # Some operations have nothing that could be bad.
    try:
        each()
    except Unsatisfiable:
        assert not is_good


async def test_every_route_declares_what_comes_from_around_it(api: Api) -> None:
    for name, operation in api.operations.items():
        responses = operation["responses"]
        assert {"400", "414", "431"} <= set(responses), name
        if "/api/v1/" in name:
            assert {"429", "500", "503"} <= set(responses), name
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= set(responses), name
        assert ("507" in responses) is ("/api/v1/" in name and not name.startswith("GET")), name
        assert ("security" in operation) is ("401" in responses), name
        for status, response in responses.items():
            if status[0] in "45" and name != "GET /readyz":
                assert response["content"] == PROBLEM, (name, status)
    assert "HTTPValidationError" not in json.dumps(api.document)


async def test_what_is_too_large_for_the_admin_api_is_a_problem(api: Api) -> None:
    for path, headers, status in (
        ("/api/v1/tenants?" + "x" * 5000, {}, 414),
        ("/api/v1/tenants", {f"X-{n}": "x" for n in range(200)}, 431),
    ):
        got = await api.site.ask(path, headers=headers)
        assert (got.status, got.header("content-type")) == (status, "application/problem+json")
        assert json.loads(got.body)["status"] == status


def test_a_description_is_completed_once() -> None:
    document: dict[str, Any] = {
        "paths": {"/api/v1/x": {"get": {"responses": {"200": {"description": "OK"}}}}}
    }
    complete(document)
    once = json.dumps(document)
    complete(document)
    assert json.dumps(document) == once
