"""`moorage token`, on the data directory and through a server alike."""

import re

from tests.cli.port import Way

TOKEN = re.compile(r"moor_[0-9A-Za-z]{49}\n")


def test_a_tenants_tokens(way: Way, tenant: str) -> None:
    made = way("token", "create", "--tenant", tenant)
    assert (made.code, made.err) == (0, "")
    assert TOKEN.fullmatch(made.out)
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


def test_a_platform_token_is_an_admins_by_default(way: Way) -> None:
    made = way.json("token", "create", "--name", f"ops {way.where}")
    assert (made["tenant"], made["scopes"]) == (None, ["admin"])
    assert way("token", "rotate", made["id"]).code == 0
    assert way("token", "revoke", made["id"]).code == 0
