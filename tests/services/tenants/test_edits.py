"""The lines that audit rows say about routes."""

from typing import Any

import pytest

from app.services.tenants.edits import route_words
from tests.nouns import a_route

URL = "https://proxy.example"


@pytest.mark.parametrize(
    ("facts", "rest"),
    [
        ({}, ""),
        ({"ttl_s": 300, "log": "defer"}, ""),
        ({"private": True, "log": "off"}, " private"),
        ({"off": True, "forks": True}, " off forks"),
        ({"ttl_s": 0}, " ttl 0 s"),
        ({"log": "require"}, " log require"),
        ({"log": "off"}, " log off"),
        ({"note": "ask Ann"}, " (ask Ann)"),
        (
            {"private": True, "ttl_s": 60, "note": "ask Ann"},
            " private ttl 60 s (ask Ann)",
        ),
    ],
)
def test_a_routes_line_says_what_is_not_the_default(facts: dict[str, Any], rest: str) -> None:
    assert route_words(a_route("corp.example", URL, **facts)) == f"corp.example -> {URL}{rest}"
