"""Which tenant a request is for: the path, a trusted gateway's header, or the Host."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.core.errors import BadInputError
from app.web.tenancy import Gateways, TenantPath, in_path, parse_tenant_path
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.web.harbour import add_tenant, add_token, assert_one_line, bearer, harbour
from tests.web.wire import Site

HOSTS = {"go.acme.example": "acme"}
NOBODY, TRUSTED = Gateways([]), Gateways(["10.0.0.0/8", "fd00::/8"])
PEER = "10.1.2.3"

PATHS = [
    (b"/goproxy/acme/a.b/c/@v/list", TenantPath("acme", b"a.b/c/@v/list")),
    (b"/goproxy/acme", TenantPath("acme", b"")),
    (b"/goproxy/acme/", TenantPath("acme", b"")),
    (b"/goproxy/acme//a.b/@v/list", TenantPath("acme", b"/a.b/@v/list")),
    (b"/goproxy/ACME/x", TenantPath("ACME", b"x")),
    (b"/goproxy/", None),
    (b"/goproxy//x", None),
    (b"/goproxy/a.b/c/@v/list", None),
    (b"/goproxy/sumdb/sum.golang.org/supported", None),
    (b"/goproxy/..", None),
]


@pytest.mark.parametrize(("path", "expected"), PATHS)
def test_the_first_element_is_a_tenant_unless_it_has_a_dot(
    path: bytes, expected: TenantPath | None
) -> None:
    assert in_path(path) == expected


TOLD = [
    # path, X-Tenant-ID, Host, peer is trusted; the tenant
    ("/goproxy/acme/a.b/@v/list", None, "x.example", False, "acme"),
    ("/goproxy/acme/a.b/@v/list", "globex", "x.example", False, "acme"),
    ("/goproxy/acme/a.b/@v/list", "acme", "x.example", True, "acme"),
    ("/goproxy/acme/a.b/@v/list", "globex", "x.example", True, BadInputError),
    ("/goproxy/acme/a.b/@v/list", None, "go.acme.example", False, "acme"),
    ("/goproxy/globex/a.b/@v/list", None, "go.acme.example", False, "globex"),
    ("/goproxy/a.b/@v/list", None, "go.acme.example", False, "acme"),
    ("/goproxy/a.b/@v/list", None, "GO.ACME.example:8443", False, "acme"),
    ("/goproxy/a.b/@v/list", None, "x.example", False, BadInputError),
    ("/goproxy/a.b/@v/list", None, "go.acme.example.evil.example", False, BadInputError),
    ("/goproxy/a.b/@v/list", "globex", "x.example", False, BadInputError),
    ("/goproxy/a.b/@v/list", "globex", "x.example", True, "globex"),
    ("/goproxy/a.b/@v/list", "globex", "go.acme.example", True, "globex"),
]


@pytest.mark.parametrize(
    ("path", "header", "host", "trusted", "expected"), TOLD, ids=range(len(TOLD))
)
def test_the_path_then_a_gateway_then_the_host(
    path: str, header: str | None, host: str, trusted: bool, expected: object
) -> None:
    headers = [(b"host", host.encode())]
    if header is not None:
        headers.append((b"x-tenant-id", header.encode()))
    peer, gateways = (PEER, TRUSTED) if trusted else ("192.0.2.1", TRUSTED)
    if isinstance(expected, type):
        with pytest.raises(expected):
            parse_tenant_path(path.encode(), headers, peer, gateways, HOSTS)
        return
    assert parse_tenant_path(path.encode(), headers, peer, gateways, HOSTS).tenant == expected


def test_two_tenant_headers_are_no_answer() -> None:
    headers = [(b"x-tenant-id", b"acme"), (b"x-tenant-id", b"globex")]
    with pytest.raises(BadInputError, match="more than once"):
        TRUSTED.tenant_named(PEER, headers)
    assert TRUSTED.tenant_named("192.0.2.1", headers) is None


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (PEER, True),
        ("fd00::1", True),
        ("11.0.0.1", False),
        ("::ffff:10.1.2.3", True),
        ("::ffff:11.0.0.1", False),
        ("", False),
        ("x", False),
    ],
)
def test_a_gateway_is_known_by_its_address(peer: str, trusted: bool) -> None:
    assert TRUSTED.trusts(peer) is trusted
    assert not NOBODY.trusts(peer)


FORWARDED = [
    ([], PEER),
    ([b"192.0.2.7"], "192.0.2.7"),
    ([b"1.1.1.1, 192.0.2.7"], "192.0.2.7"),
    ([b"1.1.1.1", b"192.0.2.7"], "192.0.2.7"),
    ([b"evil\r\n"], PEER),
    ([b"\xff"], PEER),
    ([b""], PEER),
    ([b"2001:db8::1"], "2001:db8::1"),
]


@pytest.mark.parametrize(("values", "client"), FORWARDED, ids=range(len(FORWARDED)))
def test_F102_a_gateway_tells_whom_it_speaks_for(values: list[bytes], client: str) -> None:
    headers = [(b"x-forwarded-for", value) for value in values]
    assert TRUSTED.client_behind(PEER, headers) == client
    assert TRUSTED.client_behind("192.0.2.1", headers) == "192.0.2.1"


X = module("example.com/x", "v1.0.0")
TARGET = "/goproxy/example.com/x/@v/v1.0.0.zip"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path, network={"gateways": ["127.0.0.1/32"]}) as made:
        with FakeGoproxy([X]) as mine, FakeGoproxy() as theirs:
            await add_tenant(made.services, "acme", mine, hosts=("go.acme.example",))
            await add_tenant(made.services, "globex", theirs)
            await add_tenant(made.services, "shut", mine, open_to_all=False)
            yield made


async def test_what_is_prepared_for_one_gateways_tenant_is_no_others(site: Site) -> None:
    for _ in range(2):
        for tenant, status in (("acme", 200), ("globex", 404), ("shut", 401), ("none", 401)):
            got = await site.ask(TARGET, headers={"X-Tenant-ID": tenant})
            assert got.status == status, tenant
        assert (await site.ask(TARGET, headers={"Host": "go.acme.example"})).status == 200
        assert (await site.ask(TARGET)).status == 400


async def test_a_gateways_tenant_still_needs_its_token(site: Site) -> None:
    _, secret = await add_token(site.services, "shut")
    _, others = await add_token(site.services, "acme")
    for _ in range(2):
        for token, status in ((secret, 200), (others, 403)):
            got = await site.ask(TARGET, headers={"X-Tenant-ID": "shut", **bearer(token)})
            assert got.status == status


async def test_a_contradiction_of_path_and_gateway_is_refused(site: Site) -> None:
    target = TARGET.replace("/goproxy/", "/goproxy/acme/")
    assert (await site.ask(target)).status == 200
    for _ in range(2):
        assert_one_line(await site.ask(target, headers={"X-Tenant-ID": "globex"}), 400)
    assert (await site.ask(target, headers={"X-Tenant-ID": "acme"})).status == 200


async def test_nobody_but_a_gateway_names_a_tenant(tmp_path: Path) -> None:
    with FakeGoproxy([X]) as fake:
        async with harbour(tmp_path) as site:
            await add_tenant(site.services, "acme", fake)
            for _ in range(2):
                got = await site.ask(TARGET, headers={"X-Tenant-ID": "acme"})
                assert_one_line(got, 400)
