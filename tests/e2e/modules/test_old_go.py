"""An older go, 1.23: what differs from the present one, and that it works the same otherwise.

S55 of the acceptance table in the protocol reference: it repeats no request, and knows no GOAUTH.
"""

from pathlib import Path

import pytest

from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import SIGNED_IN, Secured, Served, netrc
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module

V = "v1.0.0"


def test_S55_the_old_go_gets_lists_and_resolves(
    make_go: MakeGo, served: Served, upstream: FakeGoproxy
) -> None:
    path = "example.com/S55/basics"
    first, second = module(path, V), module(path, "v1.1.0")
    for one in (first, second):
        upstream.put(one)
    go = make_go(served.url(), old=True)
    assert go.out("version").startswith("go version go1.23.")
    go.out("get", path)
    assert f"{path} v1.1.0 {second.h1}" in go.go_sum()
    assert go.out("list", "-m", "-versions", path) == f"{path} v1.0.0 v1.1.0"
    go.out("get", f"{path}@<v1.1.0")
    assert f"{path} v1.0.0 {first.h1}" in go.go_sum()


def test_S55_S36_the_old_go_signs_in_by_netrc_and_url(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    entry = netrc(tmp_path, f"machine {secured.host} login ci password {secured.token}")
    ca = secured.tls.ca_file
    make_go(secured.url(), old=True, SSL_CERT_FILE=ca, NETRC=entry).out("get", SIGNED_IN)
    by_url = secured.url(user=f"ci:{secured.token}@")
    make_go(by_url, old=True, SSL_CERT_FILE=ca).out("get", SIGNED_IN)
    wrong = make_go(secured.url(user="ci:wr0ng@"), old=True, SSL_CERT_FILE=ca)
    ended = wrong.run("get", SIGNED_IN)
    assert "401 Unauthorized" in ended.err
    assert "wr0ng" not in ended.err


def test_S55_S39_the_old_go_sends_one_request_for_a_404(make_go: MakeGo, secured: Secured) -> None:
    path = "example.com/s55/absent"
    go = make_go(secured.url("default"), old=True, SSL_CERT_FILE=secured.tls.ca_file)
    ended = go.run("list", "-m", f"{path}@{V}")
    assert "404 Not Found" in ended.err
    assert [line["status"] for line in secured.served.asked(path)] == [404]


@pytest.mark.parametrize("status", [403, 503])
def test_S55_the_old_go_shows_the_text_of_an_error(
    make_go: MakeGo, served: Served, upstream: FakeGoproxy, status: int
) -> None:
    path = f"example.com/s55/status{status}"
    upstream.put_raw(f"/{path}/@v/{V}.info", b"", status, {"Retry-After": "3600"})
    ended = make_go(served.url(), old=True).run("list", "-m", f"{path}@{V}")
    assert f"server response: {path}@{V} can't be had: upstream answered {status}" in ended.err
