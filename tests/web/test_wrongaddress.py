"""A GOPROXY that is not one: the line says which address is right."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.web.wrongaddress import is_misaddressed
from tests.web.harbour import add_tenant, harbour
from tests.web.wire import Site

MISADDRESSED = [
    b"/example.com/x/@v/list",
    b"/example.com/x/@v/v1.0.0.zip",
    b"/example.com/!burnt!sushi/%40v/v1.0.0%2Bincompatible.info",
    b"/example.com/x/@latest",
    b"/example.com/x/%40latest",
    b"/acme/example.com/x/@v/list",
    b"/dl/example.com/x/@v/list",
    b"/go/golang.org/toolchain/@v/v0.0.1-go1.27.1.linux-amd64.zip",
    b"/docs/example.com/x/@latest",
    b"/sumdb/sum.golang.org/supported",
    b"/acme/sumdb/sum.golang.org/lookup/example.com/x@v1.0.0",
    b"/sumdb/sum.golang.org/tile/8/0/000",
]
OTHERS = [
    b"/",
    b"/dl/",
    b"/dl/go1.27.1.linux-amd64.tar.gz",
    b"/api/v1/tenants/acme/x/@v/list",
    b"/api/v1/sumdb/x/latest",
    b"/docs",
    b"/@v/",
    b"/sumdb",
    b"/example.com/x/@v/%zz",
    b"/example.com/x%2F@v/%2F",
]


def test_what_looks_like_a_goproxys_request() -> None:
    assert [path for path in MISADDRESSED if not is_misaddressed(path)] == []
    assert [path for path in OTHERS if is_misaddressed(path)] == []


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with harbour(tmp_path) as site:
        await add_tenant(site.services, "lab")
        await add_tenant(site.services, "closed", open_to_all=False)
        yield site


ADDRESSES = [
    # path, and where it should have been: the only open tenant, or any that the client knows
    ("/example.com/x/@v/list", "lab"),
    ("/dl/example.com/x/@v/list", "lab"),
    ("/sumdb/sum.golang.org/supported", "lab"),
    ("/lab/example.com/x/@latest", "lab"),
    ("/closed/example.com/x/@latest", "<tenant>"),
    ("/absent/example.com/x/@latest", "<tenant>"),
]


@pytest.mark.parametrize(("path", "tenant"), ADDRESSES)
async def test_the_line_has_the_right_address_and_names_no_closed_tenant(
    site: Site, path: str, tenant: str
) -> None:
    got = await site.ask(path)
    assert (got.status, got.header("content-type")) == (400, "text/plain; charset=utf-8")
    right = f"set GOPROXY=http://mirror.example/goproxy/{tenant}"
    assert got.text.removesuffix(" with your tenant's name\n").strip().endswith(right)
    assert got.text.count("\n") == 1
    head = await site.ask(path, "HEAD")
    assert (head.status, head.body) == (400, b"")
    odd = await site.ask(path, headers={"Host": "<script>"})
    assert "<script>" not in odd.text


async def test_the_public_address_is_named_if_it_is_set(tmp_path: Path) -> None:
    async with harbour(tmp_path, public_url="https://moorage.example") as site:
        got = await site.ask("/example.com/x/@v/list")
        assert "GOPROXY=https://moorage.example/goproxy/<tenant> with" in got.text


async def test_a_stranger_is_told_the_same_of_a_closed_tenant_and_of_none(site: Site) -> None:
    lines = set()
    for tenant in ("closed", "absent"):
        got = await site.ask(f"/goproxy/{tenant}/example.com/x/@v/list")
        assert got.status == 401
        lines.add(got.text.replace(tenant, "TENANT"))
    assert lines == {
        "tenant TENANT does not exist, or needs a token: give the token as the password in .netrc "
        "or by GOAUTH\n"
    }
