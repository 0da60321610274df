"""`moorage route`: on the data directory and through a server alike."""

import re
from collections.abc import Iterator

import pytest

from tests.cli.port import Port, served_port
from tests.e2e.process import Ended
from tests.e2e.warm import Warm
from tests.fakes.tls import Authority

OF = ("--tenant", "default")
A, B = "https://a.example", "https://b.example"


@pytest.fixture(scope="module")
def port(warm: Warm) -> Iterator[Port]:
    with served_port(warm) as served:
        for name in ("git", "nexus"):
            body = {"kind": "bearer", "secret": "s3cret-canary"}
            path = f"/tenants/default/credentials/{name}"
            assert served.server.admin("PUT", path, body).status == 200
        yield served


@pytest.mark.parametrize("way", ["here", "there"])
def test_a_route_lives_from_add_to_remove(port: Port, way: str) -> None:
    def run(*arguments: str) -> Ended:
        ended: Ended = getattr(port, way)("route", *arguments, *OF)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended

    pattern = f"{way}.example"
    flags = ("--private", "--ttl", "60", "--stop", "--credential", "git", "--note", "for-tests")
    output = run("add", pattern, f"{A}/", *flags, "--redirect-to", "cdn.example").out
    number = re.fullmatch(rf"route (\d+) added: {pattern} -> {re.escape(A)} private\n", output)
    assert number, output
    assert run("list").out.splitlines()[-1].split() == [
        number[1],
        pattern,
        A,
        "60",
        "off",
        "private",
        "for-tests",
    ]
    shown = run("show", number[1]).out
    for line in (
        f"route         {number[1]} of default",
        "note          for-tests",
        f"upstream 1    {A}",
        "  credential  git",
        "  on 404      stop",
        "  redirects   cdn.example",
        "  time-outs   connect 5 s, metadata 60 s, zip 900 s",
    ):
        assert line in shown.splitlines()
    assert "s3cret-canary" not in shown

    # What is not given stays.
    before = run("show", number[1], "--json").json
    after = run("update", number[1], "--ttl", "0", "--json").json
    assert after == {**before, "ttl_s": 0, "revision": 2}
    changed = run("update", number[1], "--url", A, "--url", B, "--next", "--credential", "nexus",
                  "--credential", "-").out  # fmt: skip
    assert changed == f"route {number[1]} is now: {pattern} -> {A} {B} private\n"
    upstreams = run("show", number[1], "--json").json["upstreams"]
    assert [(u["credential"], u["on_absent"]) for u in upstreams] == [
        ("nexus", "next"),
        (None, "next"),
    ]
    assert run("update", number[1], "--note", "", "--json").json["note"] == ""
    assert run("update", number[1], "--public", "--off", "--json").json["log"] == "defer"
    assert run("remove", number[1]).out == f"route {number[1]} is removed\n"


def test_certificates_come_from_a_file(port: Port) -> None:
    pem = port.site.folder / "ca.pem"
    pem.write_bytes(Authority.new().pem)
    made = port.done("route", "add", "ca.example", A, "--ca-file", str(pem), *OF)
    assert made["upstreams"][0]["ca_pem"] == pem.read_text()
    assert "own CA" in port.both("route", "show", str(made["id"]), *OF).out
    port.done("route", "remove", str(made["id"]), *OF)


def test_local_and_remote_print_the_same(port: Port) -> None:
    [made] = port.both("route", "list", *OF, "--json").json
    assert (made["pattern"], made["upstreams"][0]["url"]) == ("*", "http://127.0.0.1:9")
    assert port.both("route", "show", str(made["id"]), *OF, "--json").json == made
    port.both("route", "list", *OF)


BAD = [
    (("add", "x.y", "http://x.example", *OF), 2, "use https://"),
    (("add", "x.y", A, "--log", "maybe", *OF), 2, "log: Input should be 'off', 'defer' or"),
    (("add", "x.y", A, "--ttl", "604801", *OF), 2, "ttl_s: Input should be less than or equal"),
    (("add", "x.y", A, "--note", "a\tb", *OF), 2, "the note has a control character"),
    (("add", "x.y", A, "--ca-file", "/absent", *OF), 2, "/absent: No such file or directory"),
    (("add", "x.y", A, "--credential", "nobody", *OF), 1, "see `moorage credential set`"),
    (
        ("add", "x.y", A, B, A, "--credential", "git", "--credential", "nexus", *OF),
        2,
        "give --credential once, or once for each URL",
    ),
    (("add", "*", A, *OF), 1, "has the pattern * already"),
    (("show", "999", *OF), 1, "tenant default has no route 999; see `moorage route list`"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_a_bad_route_is_refused_in_one_line_and_the_same_everywhere(
    port: Port, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = port.both("route", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.startswith("moorage: ")
    assert ended.err.count("\n") == 1
