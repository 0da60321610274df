"""`moorage rule`: on the data directory and through a server alike."""

import re
from collections.abc import Iterator

import pytest

from tests.cli.port import Port, served_port
from tests.e2e.process import Ended
from tests.e2e.warm import Warm

OF = ("--tenant", "default")
WHOSE = [OF, ("--platform",)]


@pytest.fixture(scope="module")
def port(warm: Warm) -> Iterator[Port]:
    with served_port(warm) as served:
        yield served


@pytest.mark.parametrize("way", ["here", "there"])
@pytest.mark.parametrize("whose", WHOSE, ids=["tenant", "platform"])
def test_a_rule_lives_from_add_to_remove(port: Port, way: str, whose: tuple[str, ...]) -> None:
    def run(*arguments: str) -> Ended:
        ended: Ended = getattr(port, way)("rule", *arguments, *whose)
        assert (ended.code, ended.err) == (0, ""), ended
        return ended

    pattern = f"{way}.example/x"
    output = run("add", "deny", pattern, "--versions", "<v1.2.0", "--reason", "CVE-1").out
    number = re.fullmatch(rf"rule (\d+) added: deny {pattern} <v1\.2\.0 \(CVE-1\)\n", output)
    assert number, output
    listed = run("list").out.splitlines()
    assert listed[0].split() == ["ID", "EFFECT", "PATTERN", "VERSIONS", "UNTIL", "REASON"]
    assert listed[-1].split() == [number[1], "deny", pattern, "<v1.2.0", "CVE-1"]
    changed = run("update", number[1], "--versions", "", "--until", "2099-01-31").out
    until = "2099-01-31 00:00 UTC"
    assert changed == f"rule {number[1]} is now: deny {pattern} (CVE-1), until {until}\n"
    assert until in run("show", number[1]).out
    assert run("update", number[1], "--until", "").out.endswith("(CVE-1)\n")
    assert run("remove", number[1]).out == f"rule {number[1]} is removed\n"
    assert run("list").out == "no rules; the tenant's default decides\n"


def test_local_and_remote_print_the_same(port: Port) -> None:
    made = port.done("rule", "add", "deny", "both.example", *OF)
    assert port.both("rule", "list", *OF, "--json").json == [made]
    assert port.both("rule", "show", str(made["id"]), *OF, "--json").json == made
    port.both("rule", "list", *OF)
    port.done("rule", "remove", str(made["id"]), *OF)


# What is wrong with it, the code that it ends with, and the line that tells it.
BAD = [
    (("add", "deny", "x[", *OF), 2, "malformed pattern 'x[': not a glob: an open \"[\""),
    (("add", "forbid", "a.b", *OF), 2, "effect: Input should be 'allow' or 'deny'"),
    (("add", "deny", "a.b", "--versions", ">=v1.2", *OF), 2, "needs a full version"),
    (("add", "deny", "a.b", "--until", "soon", *OF), 2, "--until takes a date such as"),
    (("add", "allow", "a.b", "--platform"), 2, "a platform rule can only deny"),
    (("add", "deny", "a.b"), 2, "either --tenant NAME or --platform"),
    (("list", *OF, "--platform"), 2, "either --tenant NAME or --platform"),
    (("list", "--tenant", "nobody"), 1, "there is no tenant 'nobody'; see `moorage tenant list`"),
    (("show", "999", *OF), 1, "tenant default has no rule 999; see `moorage rule list`"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[b[2][:40] for b in BAD])
def test_a_bad_rule_is_refused_in_one_line_and_the_same_everywhere(
    port: Port, arguments: tuple[str, ...], code: int, message: str
) -> None:
    ended = port.both("rule", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert message in ended.err
    assert ended.err.startswith("moorage: ")
    assert ended.err.count("\n") == 1


def test_the_same_rule_twice_is_a_failure(port: Port) -> None:
    port.done("rule", "add", "deny", "twice.example", *OF)
    ended = port.both("rule", "add", "deny", "twice.example", *OF)
    assert (ended.code, "says that already: deny twice.example" in ended.err) == (1, True)
