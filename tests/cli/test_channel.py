"""`moorage channel`, on the data directory and through the server."""

import pytest

from tests.cli.port import Way


@pytest.fixture
def name(way: Way) -> str:
    return f"stable-{way.where}"


def test_a_channel_is_made_followed_shown_and_removed(way: Way, name: str, tenant: str) -> None:
    made = way("channel", "create", name, "--title", "For all")
    assert (made.code, made.out) == (0, f"channel {name} is made; `moorage channel set` is next\n")
    assert way.json("channel", "update", name, "--tenant", tenant)["tenants"] == [tenant]
    assert f"for       {tenant}\n" in way("channel", "show", name).out
    assert way.json("tenant", "update", tenant, "--toolchains", name)["toolchains"] == name
    assert f"channel   {name}, for toolchains\n" in way("tenant", "show", tenant).out
    assert way("channel", "remove", name, "--yes").code == 1
    assert way.json("tenant", "update", tenant, "--toolchains", "")["toolchains"] is None
    assert way.json("channel", "update", name, "--everybody")["tenants"] is None
    assert name in [c["name"] for c in way.json("channel", "list")]
    vkey = way("channel", "key").out
    assert vkey.startswith("moorage-fleet-")
    assert way("channel", "key", "--new").out != vkey
    assert way.json("channel", "remove", name, "--yes") == {"name": name, "removed": True}


def test_what_can_not_be_says_what_to_do(way: Way, name: str) -> None:
    assert way("channel", "create", name).code == 0
    unknown = way("channel", "set", name, "go1.99.1", "--also", "1.98.5", "--reason", "why")
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no release go1.99.1 in the release index" in unknown.err
    malformed = way("channel", "set", name, "latest")
    assert (malformed.code, "is not the version of one release" in malformed.err) == (2, True)
    refused = way("channel", "rollback", name)
    assert (refused.code, "has no revision yet" in refused.err) == (1, True)
    assert way("channel", "update", name).code == 2
    assert way("channel", "remove", name).code == 2
    assert way("channel", "remove", name, "--yes").code == 0
