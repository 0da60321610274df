"""Hosts in the own network: their grammar, and which of them a list covers."""

import pytest

from app.core.errors import BadInputError
from app.core.privatehost import PrivateHosts, check_private_host

GOOD = [
    "athens",
    "athens.corp.example",
    "athens.corp.example:3000",
    "*.corp.example",
    "*.corp.example:443",
    "10.1.2.3",
    "10.1.2.3:8080",
    "[fd00::1]",
    "[fd00::1]:443",
]
BAD = [
    "",
    "*",
    "*.",
    "a.*.example",
    "Athens",
    "https://athens",
    "athens:",
    "athens:0",
    "athens:65536",
    "10.0.0.0/8",
    "fd00::1",
    "[fd00::1",
    "[10.1.2.3]",
    "[::g]",
    "a b",
    "a\n",
    "ä.example",
    "a" * 64,
]


@pytest.mark.parametrize("text", GOOD)
def test_a_host_is_accepted(text: str) -> None:
    check_private_host(text)


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        check_private_host(text)


@pytest.mark.parametrize(
    ("text", "host", "port", "expected"),
    [
        ("athens.corp", "athens.corp", 443, True),
        ("athens.corp", "x.athens.corp", 443, False),
        ("athens.corp:80", "athens.corp", 80, True),
        ("athens.corp:80", "athens.corp", 443, False),
        ("*.corp", "athens.corp", 443, True),
        ("*.corp", "a.b.corp", 443, True),
        ("*.corp", "corp", 443, False),
        ("*.corp", "evilcorp", 443, False),
        ("*.corp:80", "athens.corp", 443, False),
        ("10.1.2.3", "10.1.2.3", 80, True),
        ("10.1.2.3", "10.1.2.30", 80, False),
        ("[fd00:0::1]", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00:0:0::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 81, False),
    ],
)
def test_a_list_covers_its_hosts_and_ports(text: str, host: str, port: int, expected: bool) -> None:
    assert PrivateHosts([text, "other.example"]).covers(host, port) is expected
    assert not PrivateHosts().covers(host, port)
