"""`moorage tenant` and `moorage owner`, on the data directory and through a server alike."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.port import Port, Way
from tests.e2e.process import Ended, Site
from tests.e2e.warm import terminal


def test_a_tenants_life(way: Way) -> None:
    name = f"life-{way.where}"
    made = way("tenant", "create", name, "--host", f"{way.where}.example")
    assert (made.code, made.err) == (0, "")
    # What was done, and what to do next.
    assert made.out.splitlines() == [
        f"tenant {name} is made; next:",
        f"  moorage rule add --tenant {name} allow PATTERN",
        f"  moorage token create --tenant {name} --name ci",
        f"  moorage tenant client-config {name}",
    ]
    shown = way.json("tenant", "show", name)
    assert (shown["default"], shown["anonymous_read"]) == ("deny", False)
    assert shown["hosts"] == [f"{way.where}.example"]
    changes = ("--default", "allow", "--anonymous-read", "--cold", "4", "--title", "Life")
    changed = way.json("tenant", "update", name, *changes)
    assert (changed["default"], changed["title"], changed["revision"]) == ("allow", "Life", 2)
    assert changed["limits"] == {"streams": None, "cold": 4, "rate": None, "quota_bytes": None}
    assert changed["hosts"] == shown["hosts"]
    again = way.json("tenant", "update", name, "--cold", "0", "--host", "")
    assert (again["limits"]["cold"], again["hosts"], again["title"]) == (None, [], "Life")
    hosts = ("--private-host", "athens.corp.example:3000", "--private-host", "10.1.2.3")
    listed = way.json("tenant", "update", name, *hosts)
    assert listed["private_hosts"] == ["10.1.2.3", "athens.corp.example:3000"]
    shown_text = way("tenant", "show", name).out
    assert "private   10.1.2.3 athens.corp.example:3000" in shown_text
    assert way.json("tenant", "update", name, "--private-host", "")["private_hosts"] == []
    assert name in [t["name"] for t in way.json("tenant", "list")]
    assert way("tenant", "remove", name, "--yes").out == f"tenant {name} is removed\n"
    assert name not in way("tenant", "list").out


def test_a_tenant_that_is_open_needs_no_token_next(way: Way) -> None:
    name = f"open-{way.where}"
    made = way("tenant", "create", name, "--anonymous-read", "--default", "allow", "--no-route")
    assert made.out.splitlines()[1:] == [f"  moorage tenant client-config {name}"]
    assert way("tenant", "remove", name, "--yes").code == 0


def test_removing_a_tenant_needs_a_yes_and_says_what_goes_with_it(way: Way, tenant: str) -> None:
    assert way("token", "create", "--tenant", tenant, "--name", "ci").code == 0
    prefix = f"corp.example/gone-{way.where}"
    assert way("owner", "set", prefix, tenant).code == 0
    refused = way("tenant", "remove", tenant)
    assert (refused.code, refused.out) == (2, "")
    lines = [line.removeprefix("moorage: ") for line in refused.err.splitlines()[:6]]
    assert lines == [
        f"with tenant {tenant} go, for good (stored modules stay):",
        "  1 tokens: ci",
        "  0 rules",
        "  1 routes: *",
        "  0 credentials",
        f"  1 prefixes: {prefix}",
    ]
    assert "give --yes" in refused.err
    assert way("tenant", "show", tenant).code == 0


@pytest.mark.parametrize(
    ("answer", "code", "is_kept"), [(b"y\n", 0, False), (b"\n", 1, True), (b"\x03", 130, True)]
)
def test_a_terminal_is_asked_before_a_tenant_is_removed(
    port: Port, answer: bytes, code: int, is_kept: bool
) -> None:
    name = f"asked-{code}"
    assert port.here("tenant", "create", name).code == 0
    with terminal() as (near, far):
        run = port.warm.start(port.site, "tenant", "remove", name, tty=far)
        shown = b""
        while b"? [y/N] " not in shown:
            shown += os.read(near, 4096)
        os.write(near, answer)
        assert run.wait().code == code
    assert (port.here("tenant", "show", name).code == 0) is is_kept


def test_client_config_is_what_a_shell_takes(way: Way, tenant: str) -> None:
    ended = way("tenant", "client-config", tenant, "--for", "env")
    assert (ended.code, ended.err) == (0, "")
    assert f"GOPROXY=https://moorage.example/goproxy/{tenant}\n" in ended.out
    assert ended.out.endswith("\n")
    assert not ended.out.endswith("\n\n")
    as_json = way.json("tenant", "client-config", tenant, "--for", "env")
    assert as_json == {"tenant": tenant, "for": "env", "text": ended.out}
    sh = way("tenant", "client-config", tenant)
    subprocess.run(["sh", "-n"], input=sh.out, text=True, check=True)


def test_owners_of_prefixes(way: Way, tenant: str) -> None:
    prefix = f"corp.example/{way.where}"
    put = way("owner", "set", prefix, tenant, "--grant", "default")
    assert put.out == f"{prefix} is tenant {tenant}'s, granted to default\n"
    listed = way.json("owner", "list")
    assert (prefix, tenant, ["default"]) in [
        (o["prefix"], o["tenant"], o["granted"]) for o in listed
    ]
    assert way("owner", "remove", prefix).out == f"{prefix} is everybody's\n"


def test_F28_a_tenants_admin_works_through_the_server_within_its_tenant(
    port: Port, tmp_path: Path
) -> None:
    assert port.here("tenant", "create", "inside").code == 0
    made = port.here("token", "create", "--tenant", "inside", "--scope", "admin").out
    environ = {"MOORAGE_TOKEN": made.strip(), "LC_ALL": "C.UTF-8"}
    remote = Site(tmp_path, environ)

    def run(*arguments: str) -> Ended:
        return port.warm.run(remote, *arguments, "--server", port.server.url)

    assert [t["name"] for t in run("tenant", "list", "--json").json] == ["inside"]
    assert run("tenant", "update", "inside", "--title", "Ours").code == 0
    assert run("token", "create", "--tenant", "inside", "--name", "ci").code == 0
    for command in (
        ("tenant", "show", "default"),
        ("tenant", "create", "more"),
        ("tenant", "remove", "inside", "--yes"),
        ("token", "list"),
        ("owner", "list"),
        ("audit", "list"),
    ):
        denied = run(*command)
        assert (denied.code, denied.out) == (1, "")
        assert "your" in denied.err or "platform token" in denied.err
    assert port.here("tenant", "remove", "inside", "--yes").code == 0
