"""What go makes of an upstream's trouble as Moorage tells it, and where it looks next.

Only what is known to be absent is a 404 or 410, so that `go` and the routes move on for nothing
else. S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the bad
inputs.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from app.core.effect import Effect
from app.core.principal import OPERATOR
from app.core.routing import OnAbsent
from app.services.assembly import Services
from tests.e2e.gocommand import Go
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, add_route, add_rule, add_tenant, serving
from tests.e2e.process import Ended, free_port
from tests.e2e.warm import Warm
from tests.fakes.faults import HTML, Fault, Reply, rope
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import info_of, module
from tests.fakes.tls import TlsFront
from tests.fakes.wire import RecordedRequest
from tests.nouns import a_credential, an_upstream

V = "v1.0.0"
REASON = "left by its author"
INTERNAL = "http://internal.example/secret"

# What upstream answers, what go sees, what it reads, and how often upstream was asked.
STATUSES: dict[int, tuple[str, str, int]] = {
    400: ("502 Bad Gateway", "upstream answered 400", 1),
    401: ("502 Bad Gateway", "upstream answered 401, it does not let this server in", 1),
    403: ("502 Bad Gateway", "see http://(hidden)/secret", 1),
    404: ("404 Not Found", "see http://(hidden)/secret", 1),
    410: ("410 Gone", "see http://(hidden)/secret", 1),
    418: ("502 Bad Gateway", "upstream answered 418", 1),
    429: ("503 Service Unavailable", "upstream answered 429; try again in 30 s", 4),
    500: ("503 Service Unavailable", "upstream answered 500; try again in 30 s", 4),
    502: ("503 Service Unavailable", "upstream answered 502; try again in 30 s", 4),
    503: ("503 Service Unavailable", "upstream answered 503; try again in 30 s", 4),
    504: ("503 Service Unavailable", "upstream answered 504; try again in 30 s", 4),
    204: ("502 Bad Gateway", "upstream answered 204 where only 200 makes sense", 1),
    206: ("502 Bad Gateway", "upstream answered 206 where only 200 makes sense", 1),
}


class Failing(FakeGoproxy):
    """Answers everything with one status and a text with an address that no client is to see."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self._status = status

    def answer(self, request: RecordedRequest) -> Reply:
        body = b"" if self._status == 204 else f"see {INTERNAL}\n".encode()
        return Reply(self._status, {"Content-Type": "text/plain"}, rope(body))


@dataclass(frozen=True)
class Sources:
    """Upstreams of one Moorage; each has a breaker and a retry budget of its own.

    Attributes:
        failing: by the status that each answers to everything.
        second: holds every module of `next.example`, `stop.example` and the like.
        https: `second` behind TLS.
        elsewhere: where upstreams redirect to.
    """

    failing: dict[int, FakeGoproxy]
    second: FakeGoproxy
    https: TlsFront
    elsewhere: FakeGoproxy

    async def arrange(self, services: Services) -> None:
        await add_tenant(services, "default")
        await add_rule(
            services, "default", Effect.DENY, "denied.example", reason="left by its author"
        )
        for status, fake in self.failing.items():
            await add_route(services, "default", f"status.example/c{status}", fake.url)
        absent = self.failing[404].url
        stopping = an_upstream(absent, on_absent=OnAbsent.STOP)
        await add_route(services, "default", "next.example", absent, self.second.url)
        await add_route(services, "default", "stop.example", stopping, self.second.url)
        await add_route(
            services, "default", "fails.example", self.failing[502].url, self.second.url
        )
        down = f"http://127.0.0.1:{free_port()}"
        await add_route(services, "default", "down.example", down, self.second.url)
        secret = a_credential("basic", "upstream-password", "robot")
        await services.tenants.credentials.put("default", "repo", secret, OPERATOR)
        elsewhere = self.elsewhere.base_url.replace("127.0.0.1", "localhost")
        await add_route(
            services, "default", "moved.example",
            an_upstream(self.second.url, "repo", redirect_to=(elsewhere,)),
        )  # fmt: skip
        ca = self.https.ca_file.read_text()
        await add_route(services, "default", "tls.example", an_upstream(self.https.url, ca_pem=ca))


@pytest.fixture(scope="module")
def sources() -> Iterator[Sources]:
    with ExitStack() as stack:
        failing = {status: stack.enter_context(Failing(status)) for status in STATUSES}
        second, elsewhere = (stack.enter_context(FakeGoproxy()) for _ in range(2))
        https = stack.enter_context(TlsFront(second.base_url))
        yield Sources(failing, second, https, elsewhere)


@pytest.fixture(scope="module")
def served(
    warm: Warm, sources: Sources, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("errors")
    with (
        FakeGoproxy(prefix="/repo") as fake,
        serving(warm, folder, fake, sources.arrange) as running,
    ):
        yield running


def shown(ended: Ended) -> str:
    """Return the text of ours that a failed go prints."""
    assert ended.code == 1, ended
    _, separator, message = ended.err.partition("\tserver response:")
    assert separator, ended.err
    return message.strip()


def test_S12_F50_a_failing_list_is_an_error_with_a_text(go: Go, served: Served) -> None:
    path = "example.com/s12"
    served.fake.put(module(path, V))
    served.fake.fault(f"/repo/{path}/@v/list", Fault.status(500), times=4)
    ended = go.run("get", path)
    assert "503 Service Unavailable" in ended.err
    assert "upstream answered 500; try again in 30 s" in shown(ended)
    go.out("get", path)


@pytest.mark.parametrize("status", STATUSES)
def test_S30_F47_F48_F49_F50_F58_each_status_has_its_answer_and_text(
    go: Go, served: Served, sources: Sources, status: int
) -> None:
    answer, message, asked = STATUSES[status]
    path = f"status.example/c{status}/x"
    ended = go.run("get", f"{path}@{V}")
    assert f"/{path}/@v/{V}.info: {answer}\n" in ended.err
    assert message in shown(ended)
    assert INTERNAL not in ended.err
    assert sources.failing[status].base_url not in ended.err
    assert len(sources.failing[status].asked_for(path)) == asked


BODIES = {
    "json": ("application/json", b'{"error": "nothing here"}'),
    "html": ("text/html; charset=utf-8", HTML),
    "12 lines": ("text/plain", b"line\n" * 12),
    "700 bytes": ("text/plain", b"x" * 700),
    "a bell": ("text/plain", b"ding \a dong\n"),
    "a blank line first": ("text/plain", b"\nnothing to see\n"),
    "latin-1": ("text/plain; charset=iso-8859-1", b"d\xe9fendu\n"),
}
PASSED_ON = {
    "12 lines": "line",
    "700 bytes": "x" * 648,
    "a bell": "ding   dong",
    "a blank line first": "nothing to see",
}


@pytest.mark.parametrize("name", BODIES)
def test_S31_the_text_is_always_shown_whatever_upstream_says(
    go: Go, served: Served, name: str
) -> None:
    path, (content_type, body) = f"example.com/s31/{name.replace(' ', '')}", BODIES[name]
    headers = {"Content-Type": content_type}
    served.fake.put_raw(f"/{path}/@v/{V}.info", body, 404, headers)
    expected = PASSED_ON.get(name, f"{path}@{V} is not found upstream")
    assert shown(go.run("get", f"{path}@{V}")).startswith(expected)


# What Moorage answers for a path, and whether go then asks its next proxy.
LISTS = {
    "S32 404": ("example.com/s32", ",", True),
    "S32 410": ("status.example/c410/s32", ",", True),
    "S32 403": ("denied.example/s32", ",", False),
    "S32 503": ("status.example/c500/s32", ",", False),
    "S32 502": ("status.example/c401/s32", ",", False),
    "S32 403 pipe": ("denied.example/s32", "|", True),
    "S32 503 pipe": ("status.example/c503/s32", "|", True),
}


@pytest.mark.parametrize("name", LISTS)
def test_S32_F51_go_asks_the_next_proxy_only_for_what_is_absent(
    make_go: MakeGo, served: Served, name: str
) -> None:
    path, separator, moves_on = LISTS[name]
    with FakeGoproxy([module(path, V)]) as other:
        go = make_go(f"{served.url()}{separator}{other.url}")
        ended = go.run("get", f"{path}@{V}")
        assert (ended.code == 0) is moves_on, ended.err
        assert bool(other.requests) is moves_on
    if path.startswith("denied"):
        assert moves_on or REASON in shown(ended)


@pytest.mark.parametrize(("separator", "code"), [(",", 1), ("|", 0)])
def test_S33_go_asks_the_next_proxy_of_a_moorage_that_is_down_only_after_a_pipe(
    make_go: MakeGo, separator: str, code: int
) -> None:
    with FakeGoproxy([module("example.com/s33", V)]) as other:
        nobody = f"http://127.0.0.1:{free_port()}/goproxy/default"
        ended = make_go(f"{nobody}{separator}{other.url}").run("get", f"example.com/s33@{V}")
        assert ended.code == code
        assert code == 0 or "connection refused" in ended.err


def test_S32_a_route_asks_its_next_upstream_for_what_the_first_has_not(
    go: Go, sources: Sources
) -> None:
    sources.second.put(module("next.example/s32", V))
    go.out("get", "next.example/s32")
    assert f"next.example/s32 {V}" in go.go_mod()


@pytest.mark.parametrize("query", ["", f"@{V}", "@master"])
@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("stop.example", "404 Not Found"),
        ("fails.example", "503 Service Unavailable"),
        ("down.example", "503 Service Unavailable"),
    ],
)
def test_S32_S33_F51_a_route_stops_where_it_says_so_and_at_every_trouble(
    go: Go, sources: Sources, host: str, answer: str, query: str
) -> None:
    path = f"{host}/s32{query.replace('@', '-')}"
    sources.second.put(module(path, V))
    sources.second.put_query(path, "master", info_of(V))
    ended = go.run("get", path + query)
    assert ended.code == 1
    assert f": {answer}\n" in ended.err
    assert not sources.second.asked_for(path)


def redirect(fake: FakeGoproxy, path: str, to: str) -> None:
    fake.fault(f"/{path}/@v/{V}.info", Fault.redirect(to), times=None)


def test_S34_a_redirect_of_upstream_is_followed(go: Go, sources: Sources) -> None:
    one = module("moved.example/once", V)
    sources.second.put(one)
    sources.second.put_raw("/elsewhere.info", one.info)
    redirect(sources.second, one.path, "/elsewhere.info")
    go.out("get", one.path)
    assert sources.second.hits["/elsewhere.info"] == 1


def test_S34_F52_a_redirect_loop_is_refused(go: Go, sources: Sources) -> None:
    path = "moved.example/loop"
    sources.second.fault(f"/{path}/@v/{V}.info", Fault.redirect_loop(), times=None)
    assert "upstream redirects in a circle" in shown(go.run("get", f"{path}@{V}"))


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("unlisted", "http://127.0.0.2:9/x.info"),
        ("file", "file:///etc/passwd"),
        ("metadata", "http://169.254.169.254/latest/meta-data"),
    ],
)
def test_S34_F53_a_redirect_to_where_it_may_not_go_is_refused(
    go: Go, sources: Sources, name: str, to: str
) -> None:
    path = f"moved.example/{name}"
    redirect(sources.second, path, to)
    ended = go.run("get", f"{path}@{V}")
    assert "502 Bad Gateway" in ended.err
    assert to not in shown(ended)


def test_S34_F53_a_redirect_from_https_to_http_is_refused(go: Go, sources: Sources) -> None:
    good, bad = module("tls.example/good", V), module("tls.example/bad", V)
    for one in (good, bad):
        sources.second.put(one)
    redirect(sources.second, bad.path, f"{sources.second.base_url}/{good.path}/@v/{V}.info")
    go.out("get", good.path)
    assert "502 Bad Gateway" in go.run("get", f"{bad.path}@{V}").err


def test_S34_F53_a_listed_host_gets_no_credential_of_the_first(go: Go, sources: Sources) -> None:
    one = module("moved.example/listed", V)
    sources.second.put(one)
    sources.elsewhere.put(one)
    elsewhere = sources.elsewhere.base_url.replace("127.0.0.1", "localhost")
    redirect(sources.second, one.path, f"{elsewhere}/{one.path}/@v/{V}.info")
    go.out("get", one.path)
    first, *_ = sources.second.asked_for(one.path)
    assert first.headers["authorization"] == basic("robot", "upstream-password")
    (followed,) = sources.elsewhere.requests
    assert "authorization" not in followed.headers
