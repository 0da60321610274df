"""Every Go-facing route of a tenant x every credential x every kind of tenant, cold and prepared.

The expected status is a small table; a kind of request that no route asks for fails here.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from app.core.goproxy import RequestKind
from app.core.principal import Scope
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.web.conftest import Log
from tests.web.harbour import (
    add_tenant,
    add_token,
    assert_one_line,
    basic,
    bearer,
    cooled,
    harbour,
    settled,
)
from tests.web.wire import Caller, Got, Site, request

PATH = "example.com/x"
X = module(PATH, "v1.0.0")

# Name, method, path below the tenant, and the status for whoever may read.
ROUTES: dict[str, tuple[RequestKind | None, str, str, int]] = {
    "root": (None, "GET", "", 200),
    "root, HEAD": (None, "HEAD", "/", 200),
    "list": (RequestKind.LIST, "GET", f"/{PATH}/@v/list", 200),
    "list, HEAD": (RequestKind.LIST, "HEAD", f"/{PATH}/@v/list", 200),
    "latest": (RequestKind.LATEST, "GET", f"/{PATH}/@latest", 200),
    "info": (RequestKind.INFO, "GET", f"/{PATH}/@v/v1.0.0.info", 200),
    "query": (RequestKind.INFO, "GET", f"/{PATH}/@v/master.info", 200),
    "mod": (RequestKind.MOD, "GET", f"/{PATH}/@v/v1.0.0.mod", 200),
    "zip": (RequestKind.ZIP, "GET", f"/{PATH}/@v/v1.0.0.zip", 200),
    "zip, HEAD": (RequestKind.ZIP, "HEAD", f"/{PATH}/@v/v1.0.0.zip", 200),
    "zip, go-get": (RequestKind.ZIP, "GET", f"/{PATH}/@v/v1.0.0.zip?go-get=1", 200),
    "list, go-get": (RequestKind.LIST, "GET", f"/{PATH}/@v/list?go-get=1", 200),
    "absent": (RequestKind.INFO, "GET", f"/{PATH}/@v/v9.9.9.info", 404),
    "malformed": (None, "GET", f"/{PATH}/@v/v1.zip", 400),
    "sumdb": (None, "GET", "/sumdb/sum.golang.org/supported", 404),
}

OK = 0  # the route's own status
# Credential by kind of tenant: open, closed, switched off, unknown.
EXPECTED: dict[str, tuple[int, int, int, int]] = {
    "none": (OK, 401, 401, 401),
    "malformed Basic": (401, 401, 401, 401),
    "Basic": (OK, OK, 401, 403),
    "Basic, no user": (OK, OK, 401, 403),
    "Bearer": (OK, OK, 401, 403),
    "token": (OK, OK, 401, 403),
    "GitHub's": (OK, 401, 401, 401),
    "a stranger's": (401, 401, 401, 401),
    "expired": (401, 401, 401, 401),
    "revoked": (401, 401, 401, 401),
    "another tenant's": (OK, 403, 403, 403),
    "another's admin": (OK, 403, 403, 403),
    "platform read": (OK, OK, 403, 404),
    "publish": (OK, 403, 401, 403),
    "admin": (OK, OK, 401, 403),
    "platform admin": (OK, OK, 403, 404),
    "in the query": (OK, 401, 401, 401),
}
TENANTS = ("open", "closed", "off", "unknown")


@dataclass(frozen=True)
class Matrix:
    site: Site
    credentials: dict[str, dict[str, dict[str, str]]]  # by tenant, then by name
    secrets: list[str]

    async def ask(self, tenant: str, route: str, credential: str) -> Got:
        async with self.site.calling() as caller:
            return await self.ask_on(caller, tenant, route, credential)

    async def ask_on(self, caller: Caller, tenant: str, route: str, credential: str) -> Got:
        _, method, tail, _ = ROUTES[route]
        target = f"/goproxy/{tenant}{tail}"
        if credential == "in the query":
            target += ("&" if "?" in target else "?") + f"token={self.secrets[0]}"
        await caller.send(request(target, method, self.credentials[tenant][credential]))
        return await caller.response(method)

    def expected(self, tenant: str, route: str, credential: str) -> int:
        return EXPECTED[credential][TENANTS.index(tenant)] or ROUTES[route][3]


@pytest.fixture(scope="module")
async def matrix(module_folder: Path) -> AsyncIterator[Matrix]:
    with FakeGoproxy([X]) as fake:
        fake.put_query(PATH, "master", info_of("v1.0.0"))
        async with harbour(module_folder) as site:
            services = site.services
            await add_tenant(services, "open", fake)
            await add_tenant(services, "closed", fake, open_to_all=False)
            await add_tenant(services, "off", fake, open_to_all=False, enabled=False)
            await add_tenant(services, "elsewhere", fake, open_to_all=False)
            credentials: dict[str, dict[str, dict[str, str]]] = {}
            secrets = []
            _, others = await add_token(services, "elsewhere")
            _, others_admin = await add_token(services, "elsewhere", [Scope.ADMIN])
            _, platforms = await add_token(services, None)
            past = services.shared.now() - timedelta(seconds=1)
            stranger = (
                others[:-10] + ("A" * 4 if others[-10:-6] != "AAAA" else "B" * 4) + others[-6:]
            )
            for tenant in TENANTS:
                own = "elsewhere" if tenant == "unknown" else tenant
                _, read = await add_token(services, own, name=f"read {tenant}")
                _, publish = await add_token(
                    services, own, [Scope.PUBLISH], name=f"publish {tenant}"
                )
                _, admin = await add_token(services, own, [Scope.ADMIN], name=f"admin {tenant}")
                _, expired = await add_token(
                    services, own, name=f"expired {tenant}", expires_at=past
                )
                gone, revoked = await add_token(services, own, name=f"revoked {tenant}")
                await services.tenants.tokens.revoke(gone)
                secrets.append(read)
                credentials[tenant] = {
                    "none": {},
                    "malformed Basic": {"Authorization": "Basic !!!"},
                    "Basic": basic(read),
                    "Basic, no user": basic(read, ""),
                    "Bearer": bearer(read),
                    "token": {"Authorization": f"token {read}"},
                    "GitHub's": {"Authorization": "token ghs_16C7e42F292c6912E7710c838347Ae178B4a"},
                    "a stranger's": {"Authorization": f"Digest {stranger}"},
                    "expired": bearer(expired),
                    "revoked": basic(revoked),
                    "another tenant's": basic(others),
                    "another's admin": bearer(others_admin),
                    "platform read": bearer(platforms),
                    "publish": bearer(publish),
                    "admin": basic(admin),
                    "platform admin": bearer(site.secret),
                    "in the query": {},
                }
            await settled(services)
            yield Matrix(site, credentials, secrets)


def test_every_kind_of_request_is_in_the_matrix() -> None:
    assert {kind for kind, _, _, _ in ROUTES.values()} == {*RequestKind, None}


@pytest.mark.parametrize("tenant", TENANTS)
@pytest.mark.parametrize("route", ROUTES)
async def test_F20_F22_F23_F25_the_same_status_cold_prepared_and_after_any_other(
    matrix: Matrix, tenant: str, route: str
) -> None:
    services = matrix.site.services
    for credential in EXPECTED:
        await cooled(services)
        expected = matrix.expected(tenant, route, credential)
        async with matrix.site.calling() as caller:
            for _ in ("cold", "prepared"):
                got = await matrix.ask_on(caller, tenant, route, credential)
                assert got.status == expected, (credential, got.body)
                if expected >= 400 and "HEAD" not in route:
                    assert_one_line(got, expected)
                    assert not any(secret in got.text for secret in matrix.secrets)
    # Now all of them after one another, as a proxy in front sends them on one connection: what one
    # credential prepared is no other's.
    await cooled(services)
    async with matrix.site.calling() as caller:
        for credential in ("Bearer", *EXPECTED, *reversed(EXPECTED)):
            got = await matrix.ask_on(caller, tenant, route, credential)
            assert got.status == matrix.expected(tenant, route, credential), (credential, got.body)


@pytest.mark.parametrize("route", ROUTES)
async def test_what_a_path_answers_is_prepared_for_this_path_alone(
    matrix: Matrix, route: str
) -> None:
    await cooled(matrix.site.services)
    credential = matrix.credentials["closed"]["Bearer"]
    _, method, tail, status = ROUTES[route]
    assert (await matrix.ask("closed", route, "Bearer")).status == status
    for tenant, expected in (("off", 403), ("elsewhere", 403), ("open", status)):
        got = await matrix.site.ask(f"/goproxy/{tenant}{tail}", method, credential)
        assert got.status == expected, (tenant, got.body)


CREDENTIALS = [
    ("F23", b"Basic"),
    ("F23", b"Basic "),
    ("F23", b"Basic bm9jb2xvbg=="),  # no colon
    ("F23", b"Basic Og=="),  # neither user nor password
    ("F23", b"Basic OmZvbw=="),  # no user, a wrong password
    ("F23", b"Basic YTpiAGM="),  # a NUL
    ("F23", b"Basic YTrDpA=="),  # not ASCII
    ("F23", b"Basic YTpi\xe4"),
    ("F23", b"Basic YTpi YTpi"),
    ("F23", b"Bearer"),
    ("F23", b"Bearer "),
    ("F23", b"Bearer \xff"),
    ("F23", b"Bearer a,b"),
    ("F23", b"Negotiate YII="),
    ("F23", b"\tBasic"),
    ("F23", b"Bearer " + b"a" * 5000),
]


@pytest.mark.parametrize(("number", "value"), CREDENTIALS, ids=range(len(CREDENTIALS)))
async def test_F23_a_credential_that_is_none_gets_401(
    matrix: Matrix, number: str, value: bytes
) -> None:
    head = (
        b"GET /goproxy/closed/example.com/x/@v/list HTTP/1.1\r\nHost: a\r\nAuthorization: "
        + value
        + b"\r\nConnection: close\r\n\r\n"
    )
    answer = await matrix.site.raw(head)
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 ")), (number, answer[:200])
    assert (b"\n401" in answer[:20]) or b"www-authenticate" in answer or b" 400 " in answer[:20]


async def test_F23_a_megabyte_of_credential_is_refused_by_its_size(matrix: Matrix) -> None:
    got = await matrix.site.raw(
        b"GET /goproxy/closed/ HTTP/1.1\r\nHost: a\r\nAuthorization: Basic "
        + b"A" * 2**20
        + b"\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("is_prepared", [False, True])
@pytest.mark.parametrize("first", [b"", b"Basic !!!", b"Bearer x"])
async def test_F24_two_credentials_contradict_each_other(
    matrix: Matrix, first: bytes, is_prepared: bool
) -> None:
    await cooled(matrix.site.services)
    good = matrix.credentials["closed"]["Bearer"]
    if is_prepared:
        assert (await matrix.ask("closed", "mod", "Bearer")).status == 200
    value = good["Authorization"].encode()
    for one, other in ((first, value), (value, first), (value, value)):
        head = (
            b"GET /goproxy/closed/example.com/x/@v/v1.0.0.mod HTTP/1.1\r\nHost: a\r\n"
            b"Authorization: "
            + one
            + b"\r\nAuthorization: "
            + other
            + b"\r\nConnection: close\r\n\r\n"
        )
        assert (await matrix.site.raw(head)).startswith(b"HTTP/1.1 400 "), (one, other)


async def test_F24_what_two_credentials_were_refused_is_nobody_elses_refusal(
    matrix: Matrix,
) -> None:
    two = b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\nConnection: close\r\n\r\n"
    for path, status in ((b"/goproxy/", b"400"), (b"/goproxy/closed/", b"400")):
        got = await matrix.site.raw(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n" + two)
        assert got.startswith(b"HTTP/1.1 " + status)


async def test_T12_long_credentials_fill_no_memory_and_are_told_apart(matrix: Matrix) -> None:
    app, target = matrix.site.application.surfaces.goproxy, f"/goproxy/open/{PATH}/@v/v1.0.0.mod"
    app._forget()
    token = matrix.credentials["closed"]["Bearer"]["Authorization"].removeprefix("Bearer ")
    for user in ("a", "b"):
        long = basic(token, user * 2000)
        for _ in range(2):
            assert (await matrix.site.ask(target, headers=long)).status == 200
            closed = target.replace("/open/", "/closed/")
            assert (await matrix.site.ask(closed, headers=long)).status == 200
            wrong = basic(token + "x", user * 2000)
            assert (await matrix.site.ask(closed, headers=wrong)).status == 401
    assert len(app._hot._answers) == 4
    assert max(map(len, app._hot._answers)) < 1024
    assert max(len(key) for key, _ in app._refused) < 1024


async def test_F25_a_token_in_the_query_is_in_no_log_line(matrix: Matrix, log: Log) -> None:
    got = await matrix.ask("closed", "list", "in the query")
    assert got.status == 401
    matrix.site.application.surfaces.goproxy.decisions.flush()
    [line] = log.events("decision")[-1:]
    assert (line["status"], line["decision"]) == (401, "deny")
    assert matrix.secrets[0] not in log.text


async def test_F28_a_read_token_changes_nothing(matrix: Matrix) -> None:
    token = matrix.credentials["closed"]["Bearer"]["Authorization"].removeprefix("Bearer ")
    for target in ("/api/v1/tokens", "/api/v1/audit"):
        got = await matrix.site.admin(target, token=token)
        assert got.status in (403, 404)
    assert (await matrix.site.admin("/api/v1/tokens", "POST", token=token, body=b"{}")).status in (
        403,
        404,
        405,
    )
