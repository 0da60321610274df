"""Which route a module takes, and that a private name never takes a public one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.acl import Owners
from app.core.errors import DeniedError
from app.core.modulepattern import Pattern
from app.core.routing import OnAbsent, PrivateNames, Upstream, choose, route_for
from tests.nouns import an_owner
from tests.nouns import recorded_route as route

ROUTES = [
    route(1, "*"),
    route(2, "corp.example", private=True),
    route(3, "corp.example/open"),
    route(4, "github.com/acme-*", private=True),
    route(5, "*.example/team"),
]

CHOICES = [
    ("golang.org/x/mod", 1),
    ("corp.example/x", 2),
    ("corp.example", 2),
    ("corp.example/open/y", 3),
    ("corp.exampleevil/x", 1),
    ("github.com/acme-tools/z", 4),
    ("github.com/other/z", 1),
]


@pytest.mark.parametrize(("module", "number"), CHOICES)
def test_the_longest_pattern_wins(module: str, number: int) -> None:
    for routes in (ROUTES, ROUTES[::-1]):
        chosen = choose(routes, module)
        assert chosen is not None
        assert chosen.id == number


def test_of_two_equally_long_patterns_the_older_wins() -> None:
    chosen = choose([route(8, "a.?/c"), route(7, "a.b/?")], "a.b/c")
    assert chosen is not None
    assert chosen.id == 7


def test_without_a_route_a_module_is_denied_and_an_admin_is_named() -> None:
    with pytest.raises(DeniedError, match=r"no route of tenant acme serves a\.b/c; an admin"):
        route_for(ROUTES[1:2], PrivateNames(), "acme", "a.b/c")


PRIVATE = PrivateNames(
    (Pattern.parse("corp.example"),), Owners((an_owner("own.example/a", "globex"),))
)


@pytest.mark.parametrize(
    "module", ["corp.example", "corp.example/x/y", "own.example/a", "own.example/a/b"]
)
def test_F51_a_private_name_takes_no_public_route(module: str) -> None:
    with pytest.raises(DeniedError, match="is not asked for in public") as refused:
        route_for([route(1, "*")], PRIVATE, "acme", module)
    assert "globex" not in str(refused.value)


@pytest.mark.parametrize(
    "module", ["corp.example/open/y", "own.example/b", "own.example", "own.example/ab"]
)
def test_a_longer_public_route_does_not_open_a_private_name(module: str) -> None:
    if PRIVATE.why(module):
        with pytest.raises(DeniedError):
            route_for(ROUTES, PRIVATE, "acme", module)
    else:
        assert route_for(ROUTES, PRIVATE, "acme", module).id == 1


@pytest.mark.parametrize("name", ["Corp.example/x", "corp.example/X", "OWN.example/a"])
def test_F19_a_private_name_is_private_in_every_spelling(name: str) -> None:
    assert PRIVATE.why(name)
    if name != "corp.example/X":  # the tenant's own private route is for its spelling alone
        with pytest.raises(DeniedError):
            route_for(ROUTES, PRIVATE, "acme", name)


def test_a_private_name_takes_the_tenants_own_private_route() -> None:
    assert route_for(ROUTES, PRIVATE, "acme", "corp.example/x").id == 2


def test_an_upstreams_absence_means_the_next_unless_said_otherwise() -> None:
    assert Upstream(url="https://proxy.example").on_absent is OnAbsent.NEXT


_ELEMENT = st.sampled_from(["corp.example", "own.example", "a", "b", "open", "x.y"])


@settings(max_examples=200)
@given(st.lists(_ELEMENT, min_size=1, max_size=4).map("/".join))
def test_whatever_route_is_taken_a_private_name_goes_to_private_routes_alone(module: str) -> None:
    try:
        taken = route_for(ROUTES, PRIVATE, "acme", module)
    except DeniedError:
        return
    assert taken.private or PRIVATE.why(module) is None
