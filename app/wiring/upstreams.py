"""What requests to upstreams go through: clients, and the addresses that they may reach."""

from random import Random

from app import __version__, metrics
from app.core.privatehost import PrivateHosts
from app.core.routing import Upstream
from app.services.clock import Pause
from app.settings import Settings
from app.upstream.address import AddressGuard, AllowedNetwork, OwnListener
from app.upstream.http import HttpClient
from app.upstream.limits import UpstreamLimits
from app.upstream.url import Url


def public_upstream(settings: Settings) -> Upstream:
    """Return the upstream of a new tenant's catch-all route."""
    modules = settings.modules
    return Upstream(url=modules.upstream, redirect_to=frozenset(modules.redirect_to))


def shared_hosts(settings: Settings) -> tuple[str, ...]:
    """Return the private hosts that every tenant may have: its catch-all route leads to one."""
    url = Url.parse(settings.modules.upstream)
    host = f"[{url.host}]" if ":" in url.host else url.host
    return *settings.network.tenant_hosts, f"{host}:{url.port}"


def address_guard(settings: Settings, hosts: PrivateHosts | None = None) -> AddressGuard:
    """Return the guard of connections; hosts: the private ones that are allowed, None for any."""
    url = None if settings.public_url is None else Url.parse(settings.public_url)
    public = None if url is None else (url.host, url.port)
    return AddressGuard(
        [AllowedNetwork.parse(text) for text in settings.network.allow],
        hosts=hosts,
        own=OwnListener(settings.port, public),
    )


def tenants_client(
    settings: Settings,
    pause: Pause,
    limits: UpstreamLimits,
    ca_pem: str,
    private_hosts: tuple[str, ...] | None,
) -> HttpClient:
    """Return a client of an upstream of those tenants that have these private hosts, or all."""
    if private_hosts is None:
        return http_client(settings, pause, limits, ca_pem)
    hosts = PrivateHosts((*shared_hosts(settings), *private_hosts))
    return http_client(settings, pause, limits, ca_pem, hosts)


def tenants_guard(settings: Settings, private_hosts: tuple[str, ...] | None) -> AddressGuard:
    """Return the guard of connections that are not HTTP; as `tenants_client`."""
    if private_hosts is None:
        return address_guard(settings)
    return address_guard(settings, PrivateHosts((*shared_hosts(settings), *private_hosts)))


def http_client(
    settings: Settings,
    pause: Pause,
    limits: UpstreamLimits | None = None,
    ca_pem: str = "",
    hosts: PrivateHosts | None = None,
) -> HttpClient:
    """Return a client; see `address_guard`.

    Args:
        settings: of the process.
        pause: sleeps between two tries.
        limits: times and sizes; None for the defaults.
        ca_pem: certificates of authorities beside those of the settings.
        hosts: private ones that may be asked; None for any.
    """
    return HttpClient(
        guard=address_guard(settings, hosts),
        user_agent=f"Moorage/{__version__}",
        random=Random(),  # noqa: S311 (jitter, not secrets)
        sleep=pause,
        ca_file=settings.network.ca_file,
        ca_pem=ca_pem,
        observe=metrics.observe_upstream,
        on_breaker=lambda origin, is_open: metrics.set_breaker(origin, is_open=is_open),
        limits=limits or UpstreamLimits(),
    )
