"""Wrong paths through a real socket: F1 to F17, F20, F21 and F25; they leave no trace."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import text

from app.core.effect import Effect
from tests.core.test_goproxy import BAD
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module
from tests.nouns import an_upstream
from tests.web.harbour import add_rule, add_tenant, assert_one_line, cooled, harbour
from tests.web.wire import Site

X = module("github.com/Azure/x", "v1.0.0")
PLAIN = "/goproxy/open/github.com/!azure/x"


@dataclass(frozen=True)
class Served:
    site: Site
    fake: FakeGoproxy

    async def rows(self) -> list[int]:
        def count(session: object) -> list[int]:
            tables = ("module_files", "module_answers", "module_conflicts", "blobs")
            return [session.execute(text(f"select count(*) from {t}")).scalar_one() for t in tables]  # type: ignore[attr-defined]

        return await self.site.services.shared.db.read(count)


@pytest.fixture(scope="module")
async def served(module_folder: Path) -> AsyncIterator[Served]:
    with FakeGoproxy([X]) as fake:
        async with harbour(module_folder) as site:
            await add_tenant(site.services, "open", an_upstream(fake.url), hosts=("go.example",))
            await add_tenant(site.services, "shut", fake, default=Effect.DENY)
            await add_rule(site.services, "shut", Effect.ALLOW, "corp.example/team")
            yield Served(site, fake)


def _through_a_socket(path: bytes) -> bool:
    return not any(byte in path for byte in b"\n ")  # those end the target: see the raw ones below


@pytest.mark.parametrize(
    ("path", "status"),
    [pytest.param(p, s, id=f"{n}-{i}") for i, (n, p, s) in enumerate(BAD) if _through_a_socket(p)],
)
async def test_a_malformed_path_gets_one_line_and_leaves_no_trace(
    served: Served, path: bytes, status: int
) -> None:
    before, hits = await served.rows(), len(served.fake.requests)
    got = await served.site.ask(b"/goproxy/open/" + path)
    assert_one_line(got, status)
    assert (await served.site.ask(b"/goproxy/open/" + path, "HEAD")).status == status
    by_host = await served.site.ask(b"/goproxy/" + path, headers={"Host": "go.example"})
    # Without a dot the first element is taken for a tenant, of which strangers learn nothing.
    assert by_host.status in (status, 401, 404)
    assert await served.rows() == before
    assert len(served.fake.requests) == hits


RAW = [
    ("F7", b"a.b/c d/@v/list"),
    ("F7", b"a.b/\x00/@v/list"),
    ("F7", b"a.b/\xe4/@v/list"),
    ("F13", b"a.b/@v/v1.0.0\n.info"),
]


@pytest.mark.parametrize(("number", "path"), RAW)
async def test_bytes_that_end_a_target_are_no_request(
    served: Served, number: str, path: bytes
) -> None:
    hits = len(served.fake.requests)
    head = b"GET /goproxy/open/" + path + b" HTTP/1.1\r\nHost: mirror.example\r\n\r\n"
    answer = await served.site.raw(head)
    assert answer.startswith(b"HTTP/1.1 400 "), (number, answer[:100])
    assert len(served.fake.requests) == hits


async def test_F10_a_long_path_gets_414(served: Served) -> None:
    for size, status in ((2049, 414), (2048, 400)):
        path = b"/goproxy/open/a.b/" + b"c" * size
        got = await served.site.ask(path[: size - len(b"/@v/x.mod")] + b"/@v/x.mod")
        assert got.status == status
        assert got.text.count("\n") == 1


async def test_F3_both_spellings_of_a_capital_are_one_blob(served: Served) -> None:
    plain = await served.site.ask(f"{PLAIN}/@v/v1.0.0.zip")
    assert plain.status == 200
    assert plain.body == X.zip
    encoded = await served.site.ask("/goproxy/open/github.com/%21azure/x/@v/v1.0.0.zip")
    assert (encoded.status, encoded.body) == (200, X.zip)
    assert encoded.header("etag") == plain.header("etag")
    assert sum(n for p, n in served.fake.hits.items() if p.endswith(".zip")) == 1


@pytest.mark.parametrize(
    "path",
    [
        "corp.example/teamevil/x/@v/list",
        "corp.example/@v/list",
        "evil.example/corp.example/team/@v/list",
    ],
)
async def test_F17_an_allowed_prefix_ends_at_an_element(served: Served, path: str) -> None:
    hits = len(served.fake.requests)
    assert_one_line(await served.site.ask(f"/goproxy/shut/{path}"), 403)
    assert len(served.fake.requests) == hits


@pytest.mark.parametrize(
    "tail",
    [
        "",
        "/",
        "/@v/list",
        "/@latest",
        "/@v/v1.0.0.info",
        "/@v/v1.0.0.mod",
        "/@v/v1.0.0.zip",
        "/@v/v9.9.9.info",
        "/@v/x.tar",
    ],
)
@pytest.mark.parametrize("tenant", ["open", "shut", "none"])
async def test_F20_a_query_changes_nothing(served: Served, tenant: str, tail: str) -> None:
    path = (
        f"/goproxy/{tenant}{tail}"
        if tail in ("", "/")
        else f"/goproxy/{tenant}/github.com/!azure/x{tail}"
    )
    await cooled(served.site.services)
    plain = await served.site.ask(path)
    for query in ("?go-get=1", "?x=%2f..%2f", "?", "?tenant=open"):
        other = await served.site.ask(path + query)
        assert (other.status, other.body) == (plain.status, plain.body), query


async def test_a_query_is_no_way_around_the_prepared_answers(served: Served) -> None:
    """Else each new query would be parsed, authorised and looked up anew."""
    path = "/goproxy/open/github.com/!azure/x/@v/list"
    await served.site.ask(path + "?first=1")
    app = served.site.application
    head = app.plain_head([(b"host", b"x")], "")
    assert head is not None
    answers = {app.instant(path.encode() + query, head) for query in (b"", b"?", b"?y=2")}
    assert len(answers) == 1
    assert None not in answers


METHODS = [
    ("GET", 200),
    ("HEAD", 200),
    ("POST", 405),
    ("PUT", 401),  # publishing, which needs a token
    ("DELETE", 405),
    ("PATCH", 405),
    ("TRACE", 405),
    ("OPTIONS", 405),
    ("PROPFIND", 405),
]


@pytest.mark.parametrize(("method", "status"), METHODS)
@pytest.mark.parametrize("is_hot", [False, True])
async def test_F21_only_GET_and_HEAD_are_answered(
    served: Served, method: str, status: int, is_hot: bool
) -> None:
    path = f"{PLAIN}/@v/v1.0.0.mod"
    await cooled(served.site.services)
    if is_hot:
        await served.site.ask(path)
    got = await served.site.ask(path, method)
    assert got.status == status
    if status == 405:
        assert got.header("allow") == "GET, HEAD"
    if method == "HEAD":
        assert got.header("content-length") == str(len(X.mod))


async def test_F21_CONNECT_is_no_request(served: Served) -> None:
    head = f"CONNECT {PLAIN}/@v/list HTTP/1.1\r\nHost: mirror.example\r\n\r\n".encode()
    assert (await served.site.raw(head)).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "path",
    [
        "/goproxy",
        "/goproxy/",
        "/goproxy/example.com/x/@v/list",
        "/goproxy/sumdb/sum.golang.org/supported",
    ],
)
async def test_a_path_without_a_tenant_says_what_a_proxy_url_is(served: Served, path: str) -> None:
    got = await served.site.ask(path)
    assert_one_line(got, 400)
    assert "/goproxy/<tenant>" in got.text


@pytest.mark.parametrize(
    "path",
    ["/goproxy/open//", "/goproxy/open//github.com/!azure/x/@v/list", "/goproxy//open/a.b/@v/list"],
)
async def test_F6_a_doubled_slash_is_no_other_spelling(served: Served, path: str) -> None:
    got = await served.site.ask(path)
    assert got.status in (400, 404)
    assert got.text.count("\n") == 1


@pytest.mark.parametrize(
    "name", ["OPEN", "%6Fpe", "open%2f", "%2570pen", "op\u0000en", "-", "a" * 80, "open;x"]
)
async def test_a_tenants_name_has_one_spelling(served: Served, name: str) -> None:
    got = await served.site.ask(f"/goproxy/{name}/github.com/!azure/x/@v/list".encode("latin-1"))
    assert got.status in (400, 401)


async def test_F5_each_spelling_of_a_path_is_one_stored_answer(served: Served) -> None:
    spellings = [
        "/goproxy/open/github.com/!azure/x/@v/list",
        "/goproxy/open/github.com/%21azure/x/%40v/list",
        "/goproxy/%6fpen/github%2Ecom/!a%7Aure/x/@v/lis%74",
    ]
    first = await served.site.ask(spellings[0])
    kept = len(served.site.application.surfaces.goproxy._hot._answers)
    for path in spellings[1:]:
        got = await served.site.ask(path)
        assert (got.status, got.body) == (first.status, first.body) == (200, b"v1.0.0\n")
    assert len(served.site.application.surfaces.goproxy._hot._answers) == kept
    assert sum(n for p, n in served.fake.hits.items() if p.endswith("/list")) == 1


async def test_a_branch_of_any_name_is_asked_for_in_one_encoding(served: Served) -> None:
    for asked, sent in (("fix%231", "fix%231"), ("a%20%28b%29", "a%20%28b%29"), ("x~y", "x~y")):
        await served.site.ask(f"{PLAIN}/@v/{asked}.info")
        assert f"/github.com/!azure/x/@v/{sent}.info" in [
            request.target for request in served.fake.requests
        ]


async def test_malformed_paths_at_once_leave_the_service_well(served: Served) -> None:
    paths = [b"/goproxy/open/" + p for _, p, _ in BAD if _through_a_socket(p)]
    got = await asyncio.gather(*(served.site.ask(p) for p in paths))
    assert max(one.status for one in got) < 500
    assert (await served.site.ask(f"{PLAIN}/@v/list")).body == b"v1.0.0\n"
