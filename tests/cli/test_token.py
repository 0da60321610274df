"""`moorage token`, on the data directory and through a server alike."""

import re

import pytest

from tests.cli.port import Port, Way

TOKEN = re.compile(r"moor_[0-9A-Za-z]{49}\n")


def test_a_tenants_tokens(way: Way, tenant: str) -> None:
    made = way("token", "create", "--tenant", tenant)
    assert made.code == 0
    assert TOKEN.fullmatch(made.out)
    facts = rf"moorage: token [0-9a-f]+: read for tenant {tenant}, valid until [-0-9]+; it is .*\n"
    assert re.fullmatch(facts, made.err)
    scopes = ("--scope", "admin", "--scope", "read")
    admin = way.json("token", "create", "--tenant", tenant, "--name", "ops", *scopes, "--days", "3")
    assert TOKEN.fullmatch(admin["token"] + "\n")
    listed = way.json("token", "list", "--tenant", tenant)
    assert [(t["name"], t["scopes"], t["tenant"]) for t in listed] == [
        ("read", ["read"], tenant),
        ("ops", ["admin", "read"], tenant),
    ]
    rotated = way("token", "rotate", listed[0]["id"], "--tenant", tenant, "--grace-hours", "0")
    assert TOKEN.fullmatch(rotated.out)
    assert rotated.out != made.out
    revoked = way("token", "revoke", admin["id"], "--tenant", tenant)
    assert revoked.out == f"token {admin['id']} is revoked\n"
    table = way("token", "list").out
    assert re.search(rf"^{admin['id']} +ops +{tenant} ", table, re.MULTILINE)
    assert "moor_" not in table


@pytest.mark.parametrize("whose", [(), ("--tenant", ""), ("--tenant", "default", "--platform")])
def test_a_token_is_made_only_if_its_tenant_or_the_platform_is_named(
    port: Port, whose: tuple[str, ...]
) -> None:
    before = port.here("token", "list").out
    ended = port.here("token", "create", "--name", "ci", *whose)
    assert (ended.code, ended.out) == (2, "")
    assert "--tenant NAME" in ended.err
    assert port.here("token", "list").out == before


def test_a_token_works_as_soon_as_it_is_printed(port: Port) -> None:
    """Before, the server answered 401 until it had polled."""
    for number in range(3):
        tenant = f"fresh-{number}"
        assert port.here("tenant", "create", tenant).code == 0
        token = port.here("token", "create", "--tenant", tenant).out.strip()
        got = port.server.get(f"/goproxy/{tenant}/", Authorization=f"Bearer {token}")
        assert got.status == 200, got.text


def test_a_platform_token_is_an_admins_by_default(way: Way) -> None:
    made = way.json("token", "create", "--platform", "--name", f"ops {way.where}")
    assert (made["tenant"], made["scopes"]) == (None, ["admin"])
    text = way("token", "create", "--platform", "--days", "1")
    assert "admin for the whole platform, valid until" in text.err
    assert way("token", "rotate", made["id"]).code == 0
    assert way("token", "revoke", made["id"]).code == 0
