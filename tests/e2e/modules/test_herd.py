"""Fifty clients ask for a version at the same moment that nobody has asked for before (S66).

Upstream is asked once for each file, by one server and by two that share a data directory.
"""

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest

from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served, site_for
from tests.e2e.process import Reply, Server
from tests.e2e.warm import Warm
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module

CLIENTS = 50
V = "v1.0.0"


@pytest.fixture(scope="module")
def two(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Served]]:
    """Two servers on one data directory."""
    with FakeGoproxy(prefix="/repo") as fake, ExitStack() as stack:
        site = site_for(tmp_path_factory.mktemp("herd"), fake)
        first = stack.enter_context(warm.serve(site))
        second = stack.enter_context(warm.serve(site))
        yield Served(site, first, fake), Served(site, second, fake)


def ask_at_once(fake: FakeGoproxy, path: str, servers: list[Server]) -> list[Reply]:
    """Return the answers to 50 requests, all sent before upstream answers the first."""
    fake.fault(f"/repo/{path}", Fault.delay_headers_until_released(), times=None)
    all_sent = threading.Barrier(CLIENTS + 1)

    def ask(server: Server) -> Reply:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)) as one:
            one.request("GET", f"/goproxy/default/{path}")
            all_sent.wait(60)
            with one.getresponse() as answer:
                return Reply(answer.status, answer.headers, answer.read())

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = pool.map(ask, [servers[number % len(servers)] for number in range(CLIENTS)])
        try:
            all_sent.wait(60)
            fake.wait_until(lambda: fake.stalled >= 1)
        finally:
            fake.clear_faults()
            fake.release()
        return list(answers)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("file", [f"{V}.zip", f"{V}.mod", f"{V}.info", "list", "master.info"])
def test_S66_F38_fifty_first_requests_are_one_fetch_and_equal_bytes(
    two: tuple[Served, Served], file: str, count: int
) -> None:
    fake = two[0].fake
    one = module(f"example.com/s66/{file.partition('.')[2] or file}{count}x", V)
    fake.put(one)
    fake.put_query(one.path, "master", one.info)
    path = f"{one.path}/@v/{file}"
    replies = ask_at_once(fake, path, [served.server for served in two[:count]])
    body = {"zip": one.zip, "mod": one.mod, "info": one.info, "list": f"{V}\n".encode()}
    assert {reply.status for reply in replies} == {200}
    assert {reply.body for reply in replies} == {body[file.rpartition(".")[2]]}
    assert fake.hits[f"/repo/{path}"] == 1


def test_S66_six_go_commands_at_once_are_one_fetch_of_each_file(
    two: tuple[Served, Served], make_go: MakeGo
) -> None:
    one = module("example.com/s66/go", V, padding_bytes=300_000)
    two[0].fake.put(one)
    clients = [make_go(two[number % 2].url()) for number in range(6)]
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda go: go.out("get", one.path), clients))
    assert all(f"{one.path} {V} {one.h1}" in go.go_sum() for go in clients)
    fetched = {path: n for path, n in two[0].fake.hits.items() if one.path in path}
    assert set(fetched.values()) == {1}, fetched
