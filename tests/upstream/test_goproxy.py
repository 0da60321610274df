"""Asking GOPROXY upstreams: escaped paths, a client for each, limits of size and time."""

from collections.abc import AsyncIterator
from random import Random

import pytest

from app.core.errors import (
    BadInputError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamTimeoutError,
)
from app.core.goproxy import RequestKind
from app.core.routing import RecordedUpstream
from app.upstream.address import AddressGuard, AllowedNetwork
from app.upstream.goproxy import _MAX_CLIENTS, Goproxies, path_of
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Credential
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import module
from tests.nouns import recorded_upstream

X = module("example.com/Upper", "v1.0.0-RC1")

PATHS = [
    (("a.b/c", RequestKind.LIST, ""), "a.b/c/@v/list"),
    (("a.b/c", RequestKind.LATEST, ""), "a.b/c/@latest"),
    (("a.b/BurntSushi/toml", RequestKind.ZIP, "v1.4.0"), "a.b/!burnt!sushi/toml/@v/v1.4.0.zip"),
    (("a.b/c", RequestKind.MOD, "v1.0.0-RC1"), "a.b/c/@v/v1.0.0-!r!c1.mod"),
    (("a.b/c", RequestKind.INFO, "HEAD"), "a.b/c/@v/!h!e!a!d.info"),
    (("a.b/c", RequestKind.INFO, "v2.0.0+incompatible"), "a.b/c/@v/v2.0.0+incompatible.info"),
]


@pytest.mark.parametrize(("asked", "path"), PATHS)
def test_a_path_is_escaped_as_the_protocol_says(
    asked: tuple[str, RequestKind, str], path: str
) -> None:
    assert path_of(*asked) == path


@pytest.mark.parametrize(
    ("module_path", "version"), [("a.b/../c", "v1.0.0"), ("a.b", "../x"), ("a.b", "-x"), ("", "v1")]
)
def test_F4_F13_nothing_malformed_becomes_a_path(module_path: str, version: str) -> None:
    with pytest.raises(BadInputError):
        path_of(module_path, RequestKind.INFO, version)


class Into(bytearray):
    async def restart(self) -> None:
        self.clear()

    async def write(self, chunk: bytes) -> None:
        self += chunk


def make(limits: UpstreamLimits, ca_pem: str, _private_hosts: tuple[str, ...]) -> HttpClient:
    async def no_wait(_seconds: float) -> None:
        pass

    return HttpClient(
        guard=AddressGuard([AllowedNetwork.parse("127.0.0.0/8")]),
        user_agent="tests",
        random=Random(0),
        sleep=no_wait,
        ca_pem=ca_pem,
        limits=limits,
    )


@pytest.fixture
async def proxies() -> AsyncIterator[Goproxies]:
    made = Goproxies(make)
    yield made
    await made.aclose()


async def test_a_base_with_a_path_is_kept(proxies: Goproxies) -> None:
    with FakeGoproxy([X], prefix="/repo/go") as fake:
        source = proxies.open(recorded_upstream(1, fake.url), None)
        assert await source.get(path_of(X.path, RequestKind.INFO, X.version), 1000) == X.info
        sink = Into()
        await source.download(path_of(X.path, RequestKind.ZIP, X.version), sink, 1 << 20)
        assert bytes(sink) == X.zip
        assert fake.hits["/repo/go/example.com/!upper/@v/v1.0.0-!r!c1.zip"] == 1


async def test_a_credential_is_sent_with_each_request(proxies: Goproxies) -> None:
    with FakeGoproxy([X], credential=basic("ci", "pw")) as fake:
        upstream = recorded_upstream(1, fake.url, credential="nexus", credential_id=7)
        credential = Credential.basic("7", fake.base_url, "ci", "pw")
        path = path_of(X.path, RequestKind.MOD, X.version)
        assert await proxies.open(upstream, credential).get(path, 1000) == X.mod
        with pytest.raises(UpstreamError) as caught:
            await proxies.open(upstream, None).get(path, 1000)
        assert caught.value.status == 401


async def test_each_upstream_has_a_client_for_itself(proxies: Goproxies) -> None:
    one, other = (
        recorded_upstream(1, "http://127.0.0.1:1"),
        recorded_upstream(2, "http://127.0.0.1:1"),
    )
    slower = recorded_upstream(1, "http://127.0.0.1:1", connect_s=9.0)
    clients = []
    for upstream in (one, one, other, slower):
        async with proxies.lend(upstream) as client:
            clients.append(client)
    assert clients[0] is clients[1]
    assert len(set(map(id, clients))) == 3


class Closing(HttpClient):
    """A client that says whether it is closed."""

    is_closed = False

    async def aclose(self) -> None:
        self.is_closed = True


async def test_a_client_that_leaves_is_closed_after_its_last_request() -> None:
    made: list[Closing] = []

    def make_one(limits: UpstreamLimits, _: str, _hosts: tuple[str, ...]) -> HttpClient:
        made.append(
            Closing(guard=AddressGuard([]), user_agent="tests", random=Random(0), limits=limits)
        )
        return made[-1]

    def upstream(number: int) -> RecordedUpstream:
        return recorded_upstream(number, "http://127.0.0.1:1")

    proxies = Goproxies(make_one)
    async with proxies.lend(upstream(0)) as in_use:
        for number in range(1, _MAX_CLIENTS + 2):
            async with proxies.lend(upstream(number)):
                pass
        assert in_use is made[0]
        # The first one is still borrowed, and the second one had nobody.
        assert [client.is_closed for client in made[:3]] == [False, True, False]
        # Whoever asks for the first upstream now gets a client that is open.
        async with proxies.lend(upstream(0)) as another:
            assert another is not in_use
    assert made[0].is_closed
    assert sum(client.is_closed for client in made) == len(made) - _MAX_CLIENTS
    await proxies.aclose()
    assert all(client.is_closed for client in made)


@pytest.mark.parametrize("status", [404, 410])
async def test_F47_an_absence_keeps_its_status(proxies: Goproxies, status: int) -> None:
    with FakeGoproxy(not_found_status=status) as fake:
        with pytest.raises(UpstreamAbsentError) as caught:
            await proxies.open(recorded_upstream(1, fake.url), None).get("a.b/c/@v/list", 1000)
        assert caught.value.status == status


async def test_F42_a_body_over_its_limit_is_refused(proxies: Goproxies) -> None:
    with FakeGoproxy() as fake:
        fake.put_raw("/a.b/c/@v/list", b"v1.0.0\n" * 1000)
        with pytest.raises(UpstreamContentError):
            await proxies.open(recorded_upstream(1, fake.url), None).get("a.b/c/@v/list", 6999)


async def test_F43_an_upstream_has_its_own_deadline(proxies: Goproxies) -> None:
    with FakeGoproxy([X]) as fake:
        path = "/example.com/!upper/@v/v1.0.0-!r!c1"
        for tail in (".info", ".zip"):
            fake.fault(path + tail, Fault.stall(after=1), times=None)
        # Shorter than an admin may set them: a copy is not checked.
        hasty = {"metadata_s": 0.2, "zip_s": 0.2}
        source = proxies.open(recorded_upstream(1, fake.url).model_copy(update=hasty), None)
        with pytest.raises(UpstreamTimeoutError):
            await source.get(path_of(X.path, RequestKind.INFO, X.version), 1000)
        with pytest.raises(UpstreamTimeoutError):
            await source.download(path_of(X.path, RequestKind.ZIP, X.version), Into(), 1 << 20)
        with pytest.raises(UpstreamTimeoutError):
            await source.fetch_small(path_of(X.path, RequestKind.INFO, X.version), Into(), 1000)


async def test_F53_a_redirect_goes_to_its_own_origin_or_a_named_one(proxies: Goproxies) -> None:
    with FakeGoproxy([X]) as bucket, FakeGoproxy() as fake:
        path = path_of(X.path, RequestKind.INFO, X.version)
        for named, works in ((frozenset[str](), False), (frozenset({bucket.base_url}), True)):
            fake.fault(f"/{path}", Fault.redirect(f"{bucket.url}/{path}"))
            source = proxies.open(recorded_upstream(1, fake.url, redirect_to=named), None)
            if works:
                assert await source.get(path, 1000) == X.info
            else:
                with pytest.raises(UpstreamError, match="redirects to where it may not"):
                    await source.get(path, 1000)
                assert not bucket.requests
