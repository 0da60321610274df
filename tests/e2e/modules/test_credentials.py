"""How go signs in to a tenant that wants a token: netrc, userinfo and GOAUTH over TLS.

S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the bad inputs.
"""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.gocommand import Go
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import SIGNED_IN, Secured, netrc
from tests.e2e.process import Reply
from tests.fakes.modules import module

V = "v1.0.0"


def client(make_go: MakeGo, secured: Secured, goproxy: str = "", **environ: str | Path) -> Go:
    """Return a go that trusts the certificate and uses `acme` unless told otherwise."""
    return make_go(goproxy or secured.url(), SSL_CERT_FILE=secured.tls.ca_file, **environ)


@pytest.mark.parametrize(
    ("entry", "signs_in"),
    [
        ("machine localhost:{port}", True),
        ("machine localhost", False),
        ("machine localhost:{port}/goproxy/acme", True),
        ("machine localhost:{port}/goproxy/acm", False),
        ("default", False),
    ],
)
def test_S35_netrc_names_the_host_with_its_port(
    make_go: MakeGo, secured: Secured, tmp_path: Path, entry: str, signs_in: bool
) -> None:
    line = f"{entry.format(port=secured.tls.port)} login ci password {secured.token}"
    go = client(make_go, secured, NETRC=netrc(tmp_path, line))
    ended = go.run("get", SIGNED_IN)
    assert (ended.code == 0) is signs_in, ended.err
    if not signs_in:
        assert "401 Unauthorized" in ended.err
        assert "tenant acme does not exist, or needs a token: give the token" in ended.err


def test_S35_netrc_tells_tenants_on_one_host_apart_by_path(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    entries = netrc(
        tmp_path,
        f"machine {secured.host}/goproxy/acme login ci password {secured.token}",
        f"machine {secured.host}/goproxy/other login ci password {secured.others}",
    )
    for tenant in ("acme", "other"):
        client(make_go, secured, secured.url(tenant), NETRC=entries).out("get", SIGNED_IN)


def test_S35_F22_a_token_of_another_tenant_is_told_apart_from_a_wrong_one(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    entry = netrc(tmp_path, f"machine {secured.host} login ci password {secured.others}")
    ended = client(make_go, secured, NETRC=entry).run("get", SIGNED_IN)
    assert "403 Forbidden" in ended.err
    assert "this token is not one for tenant acme" in ended.err


def test_S36_a_token_in_the_url_works_and_wins_over_netrc(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    wrong = netrc(tmp_path, f"machine {secured.host} login ci password wrong")
    go = client(make_go, secured, secured.url(user=f"ci:{secured.token}@"), NETRC=wrong)
    go.out("get", SIGNED_IN)


def test_S36_F22_a_wrong_token_in_the_url_fails_and_is_shown_to_nobody(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    right = netrc(tmp_path, f"machine {secured.host} login ci password {secured.token}")
    go = client(make_go, secured, secured.url(user="ci:wr0ng-password@"), NETRC=right)
    ended = go.run("get", SIGNED_IN)
    assert ended.code == 1
    assert "ci:xxxxx@" in ended.err
    assert "401 Unauthorized" in ended.err
    assert "that is not a Moorage token" in ended.err
    assert "wr0ng-password" not in ended.err + secured.served.server.told()


def test_S37_go_passes_no_credentials_over_plain_http(make_go: MakeGo, secured: Secured) -> None:
    plain = f"http://ci:{secured.token}@127.0.0.1:{secured.served.server.port}/goproxy/acme"
    ended = make_go(plain).run("get", "example.com/s37")
    assert ended.code == 1
    assert "refusing to pass credentials to insecure URL" in ended.err
    assert secured.served.asked("example.com/s37") == []


def script(folder: Path, *lines: str) -> Path:
    path = folder / "goauth"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def test_S38_a_goauth_command_signs_in_with_a_bearer_token(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    said = rf"{secured.url()}\n\nAuthorization: Bearer {secured.token}\n\n"
    go = client(make_go, secured, GOAUTH=script(tmp_path, f"printf '{said}'"))
    go.out("get", SIGNED_IN)


def test_S38_a_goauth_command_names_the_tenant_on_every_request(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    one = module("example.com/s38/header", V)
    secured.served.fake.put(one)
    gateway = f"{secured.tls.url}/goproxy"
    headers = rf"Authorization: Bearer {secured.token}\nX-Tenant-ID: acme"
    said = rf"{gateway}\n\n{headers}\n\n"
    go = client(make_go, secured, gateway, GOAUTH=script(tmp_path, f"printf '{said}'"))
    go.out("get", one.path)
    lines = secured.served.asked(one.path)
    assert {line["kind"] for line in lines} == {"list", "info", "mod", "zip"}
    assert {line["tenant"] for line in lines} == {"acme"}


def test_S38_a_goauth_command_gets_a_second_chance_after_a_401(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    one = module("example.com/s38/second", V)
    secured.served.fake.put(one)
    said = rf"{secured.url()}\n\nAuthorization: Bearer {secured.token}\n\n"
    seen = tmp_path / "seen"
    command = script(tmp_path, f"[ -n \"$1\" ] && cat > {seen} && printf '{said}'", "exit 0")
    go = client(make_go, secured, GOAUTH=command)
    go.out("get", f"{one.path}@{V}")
    assert "401" in seen.read_text()
    assert 'www-authenticate: basic realm="moorage"' in seen.read_text().lower()


def test_S38_git_is_asked_for_a_token_that_a_head_request_proves(
    make_go: MakeGo, secured: Secured, tmp_path: Path
) -> None:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    helper = f"!f() {{ echo username=ci; echo password={secured.token}; }}; f"
    for command in (["init", "--quiet"], ["config", "credential.helper", helper]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    go = client(make_go, secured, GOAUTH=f"git {tmp_path}")
    go.out("get", SIGNED_IN)


@pytest.mark.parametrize("goauth", ["netrc", "off"])
def test_S39_go_repeats_each_404_over_https(make_go: MakeGo, secured: Secured, goauth: str) -> None:
    path = f"example.com/s39/{goauth}"
    go = client(make_go, secured, secured.url("default"), GOAUTH=goauth)
    assert "404 Not Found" in go.run("list", "-m", f"{path}@{V}").err
    assert [line["status"] for line in secured.served.asked(path)] == [404, 404]
    assert len(secured.served.fake.asked_for(path)) == 1


def test_S39_the_repetition_counts_only_once_in_a_tenants_rate(
    make_go: MakeGo, secured: Secured
) -> None:
    # One request a second, with a burst of four: eight would be too many.
    go = client(make_go, secured, secured.url("slow"))
    paths = [f"example.com/s39/rate{number}" for number in range(4)]
    for path in paths:
        ended = go.run("list", "-m", f"{path}@{V}")
        assert "404 Not Found" in ended.err, ended.err
    statuses = [line["status"] for line in secured.served.asked(*paths)]
    assert statuses == [404] * 8


def test_S39_more_than_the_rate_is_a_429_with_a_text(secured: Secured) -> None:
    def ask(number: int) -> Reply:
        return secured.served.get(f"example.com/s39/more{number}/@v/list", "slow")

    with ThreadPoolExecutor(8) as threads:  # at once: one a second is let through
        replies = list(threads.map(ask, range(40)))
    last = next(reply for reply in replies if reply.status == 429)
    assert last.text == "tenant slow sends more requests than it may; try again\n"
    assert int(last.headers["Retry-After"]) >= 1
