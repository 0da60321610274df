"""Where an upstream may redirect to without being told so, and the setting that says more."""

from datetime import UTC, datetime

import pytest

from app.core.privatehost import PrivateHosts
from app.core.routing import Upstream
from app.services.tenants.checks import RouteCheck
from app.services.upstreams import HostAccess
from app.settings import Settings
from app.upstream.address import AddressGuard
from app.wiring.upstreams import public_upstream
from tests.nouns import a_route, a_tenant

BUCKETS = "storage.googleapis.com"
STORES = [
    (Settings().modules.upstream, {BUCKETS}),
    (f"{Settings().modules.upstream}/cached-only", {BUCKETS}),
    (f"{Settings().modules.upstream}:8443", set()),
    ("https://goproxy.cn", {BUCKETS}),
    ("https://proxy.corp.example", set()),
]


def recorded(upstream: Upstream) -> frozenset[str]:
    check = RouteCheck(AddressGuard([]), HostAccess(PrivateHosts(())))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    route = check.recordable(
        a_route("*", upstream), a_tenant("acme", ""), {}, now, before=None, is_platforms=True
    )
    return route.upstreams[0].redirect_to


@pytest.mark.parametrize(("url", "stores"), STORES)
def test_a_public_proxy_is_known_by_its_host_whatever_the_path(url: str, stores: set[str]) -> None:
    assert recorded(Upstream(url=url)) == stores


def test_what_is_said_replaces_what_is_known() -> None:
    upstream = Upstream(url="https://goproxy.cn", redirect_to=frozenset({"cdn.example"}))
    assert recorded(upstream) == {"cdn.example"}


def test_the_setting_is_for_the_route_of_new_tenants() -> None:
    modules = {
        "upstream": "https://a.example",
        "redirect_to": ["CDN.example", "https://b.example:8443"],
    }
    made = public_upstream(Settings(modules=modules))
    assert recorded(made) == {"cdn.example", "https://b.example:8443"}
