"""`moorage explain` and `moorage refresh`, as a person reads them."""

from collections.abc import Iterator
from urllib.request import urlopen

import pytest

from tests.cli.port import Port, served_port
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module

X = module("example.com/x", "v1.0.0")
OF = ("--tenant", "acme")


@pytest.fixture(scope="module")
def fake_proxy() -> Iterator[FakeGoproxy]:
    with FakeGoproxy([X]) as fake:
        yield fake


@pytest.fixture(scope="module")
def port(warm: Warm, fake_proxy: FakeGoproxy) -> Iterator[Port]:
    with served_port(warm) as served:
        body = {
            "document": {
                "ownership": [{"prefix": "corp.example", "tenant": "acme"}],
                "tenants": {
                    "acme": {
                        "default": "allow",
                        "anonymous_read": True,
                        "rules": [
                            {"effect": "deny", "pattern": "example.com/bad", "reason": "CVE-1"}
                        ],
                        "routes": [
                            {"pattern": "*", "upstreams": [fake_proxy.url]},
                            {
                                "pattern": "corp.example",
                                "upstreams": [{"url": fake_proxy.url, "on_absent": "stop"}],
                                "private": True,
                                "off": True,
                                "note": "moves in May",
                            },
                        ],
                    }
                },
            }
        }
        answer = served.server.admin("POST", "/apply", body)
        assert answer.status == 200, answer.text
        yield served


def test_it_is_read_from_the_top_down_with_the_deciding_line_marked(
    port: Port, fake_proxy: FakeGoproxy
) -> None:
    ended = port.both("explain", "example.com/bad/x@v1.0.0", *OF)
    assert (ended.code, ended.err) == (0, "")
    reason = "example.com/bad/x@v1.0.0 is denied by rule 1 (deny example.com/bad): CVE-1"
    assert (
        ended.out
        == f"""\
403: {reason}
next: use another version, or moorage rule remove 1 --tenant acme

example.com/bad/x@v1.0.0 for acme: DENIED by rule 1
  {reason}

rules, in order
      platform rules  does not apply  no platform rule is about this module
      ownership       does not apply  no owned prefix covers this module
  ->  deny rules      denies          rule 1: deny example.com/bad (CVE-1)
      allow rules     does not apply  no allow rule is about this module
      default         allows          default of acme: allow

routes, the first is taken
  ->  route 2  *

upstreams, in order
  1.  {fake_proxy.url}  anonymous  after a 404 the next

stored
  nothing yet
"""
    )


def test_a_private_name_and_its_route_are_told(port: Port) -> None:
    out = port.both("explain", "corp.example/x", *OF).out
    assert "corp.example/x for acme: allowed by default\n" in out
    assert "  this is about the module as a whole; each version is judged by itself\n" in out
    assert "  a private name: its prefix has an owner\n" in out
    assert "  ->  route 3  corp.example  private off  moves in May\n" in out
    assert "a 404 ends the search" in out
    elsewhere = port.both("explain", "corp.example/x", "--tenant", "default").out
    assert elsewhere.startswith("403: corp.example/x ")
    assert (
        "next: moorage owner set corp.example OWNER --grant default; a grant needs a" in elsewhere
    )
    assert "corp.example/x for default: DENIED by ownership of corp.example\n" in elsewhere
    assert "  nothing is asked: corp.example/x is a private name" in elsewhere


def test_it_begins_with_what_a_request_gets_and_with_the_next_command(port: Port) -> None:
    """A grant alone serves nothing: the tenant that it was given to needs a private route."""
    assert port.here("owner", "set", "corp.example", "acme", "--grant", "default").code == 0
    try:
        granted = port.both("explain", "corp.example/x@v1.0.0", "--tenant", "default").out
    finally:
        assert port.here("owner", "set", "corp.example", "acme").code == 0
    assert granted.splitlines()[:3] == [
        "403: allowed by the rules, not served: no private route: it is a private name "
        "(its prefix has an owner)",
        "next: moorage route add --tenant default corp.example/x URL --private",
        "",
    ]
    heads = {
        "corp.example/x@v1.0.0": (
            "403: allowed by the rules, not served: it is not stored",
            "--on",
        ),
        "example.com/x@v1.9.0": ("200 or what upstream says: ", "client-config acme"),
        "corp.example/x": ("200: allowed by the rules, and served", "client-config acme"),
    }
    for name, (answer, command) in heads.items():
        first, second, *_ = port.both("explain", name, *OF).out.splitlines()
        assert first.startswith(answer)
        assert second.startswith("next: moorage ")
        assert second.endswith(command)
    assert port.here("tenant", "create", "bare", "--no-route", "--default", "allow").code == 0
    bare = port.both("explain", "example.com/x", "--tenant", "bare", "--json").json
    assert (bare["status"], bare["cause"]) == (403, "no-route")
    assert port.here("tenant", "update", "bare", "--disabled").code == 0
    off = port.both("explain", "example.com/x", "--tenant", "bare").out.splitlines()[:2]
    assert off == [
        "403: tenant bare is switched off; ask an admin",
        "next: moorage tenant update bare --enabled",
    ]


def test_a_query_is_said_to_be_judged_again(port: Port) -> None:
    out = port.both("explain", "example.com/x@master", *OF).out
    assert "master is a query: the version that it resolves to is judged again" in out
    assert "did you mean" not in out
    without_v = port.both("explain", "example.com/x@0.30.0", *OF).out
    assert "  did you mean example.com/x@v0.30.0?\n" in without_v
    assert "stored" not in out


def test_what_is_stored_and_what_was_refused_are_told(port: Port, fake_proxy: FakeGoproxy) -> None:
    one = module("example.com/y", "v1.0.0")
    fake_proxy.put(one)
    for kind in ("info", "mod", "zip"):
        url = f"{port.server.url}/goproxy/acme/{one.path}/@v/{one.version}.{kind}"
        with urlopen(url) as answer:
            assert answer.status == 200
    name = f"{one.path}@{one.version}"
    stored = port.both("explain", name, *OF).out
    facts = [line.split()[:3] for line in stored.partition("\nstored\n")[2].splitlines()]
    assert [fact[0] for fact in facts] == [".info", ".mod", ".zip"]
    assert facts[1:] == [[".mod", one.mod_h1, "unverified"], [".zip", one.h1, "unverified"]]
    same = port.both("refresh", name, *OF)
    assert same.out == (
        ".info upstream sends the same\n"
        f".mod  upstream sends the same  {one.mod_h1}\n.zip  upstream sends the same  {one.h1}\n"
    )
    other = module(one.path, one.version, {"y.go": b"package y // another\n"})
    fake_proxy.put(other)
    for ended in (port.here("refresh", name, *OF), port.there("refresh", name, *OF)):
        assert (ended.code, ended.out) == (1, "")
        assert f"recorded with {one.h1}, and upstream sent {other.h1}" in ended.err
    output = port.both("explain", name, *OF).out
    assert "refused, since it contradicts what is stored\n" in output
    assert output.count(other.h1) == 1


def test_refreshing_a_module_forgets_its_list(port: Port, fake_proxy: FakeGoproxy) -> None:
    assert port.both("refresh", X.path, *OF).out == (
        "forgotten; the next request for example.com/x asks upstream\n"
    )


BAD = [
    (("explain", "UPPER", *OF), 2),
    (("explain", "example.com/x@", *OF), 2),
    (("explain", "example.com/x@a/b", *OF), 2),
    (("explain", "example.com/x", "--tenant", "nobody"), 1),
    (("refresh", "UPPER", *OF), 2),
    (("refresh", "example.com/x@master", *OF), 2),
    (("refresh", "example.com/x@v1.9.9", *OF), 1),
    (("refresh", "example.com/x", "--tenant", "nobody"), 1),
]


@pytest.mark.parametrize(("arguments", "code"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_a_bad_question_ends_in_one_line_and_the_same_everywhere(
    port: Port, arguments: tuple[str, ...], code: int
) -> None:
    ended = port.both(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert ended.err.startswith("moorage: ")
    assert ended.err.count("\n") == 1
