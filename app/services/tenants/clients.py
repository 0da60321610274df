"""What clients of a tenant are told, taken from the policy. The texts: `core.clientconfig`."""

from collections.abc import Mapping
from dataclasses import dataclass

from app.core.clientconfig import ClientConfig
from app.core.clientconfig.checks import PUBLIC_LOGS
from app.core.errors import BadInputError, UnknownError
from app.core.principal import Principal
from app.core.tenant import DEFAULT_TENANT
from app.services.authorization import require_admin
from app.services.policy import Policy, PolicyReader, TenantPolicy
from app.services.publiclog.relay import LogRelay

OFF = "off"
EXAMPLE_TENANT = "your-tenant"
"""Stands for the tenant's name in what strangers are shown of tenants that need a token."""


@dataclass(frozen=True, slots=True)
class PublicConfig:
    """What everybody may know of how to use this service as a GOPROXY.

    Attributes:
        config: of a tenant that needs no token, without its private patterns; else of
            EXAMPLE_TENANT.
        is_example: the tenant's name, and perhaps its checksum database, have to be replaced.
        has_private_names: the tenant has private modules that `config` does not name.
    """

    config: ClientConfig
    is_example: bool
    has_private_names: bool = False


def public_config(
    policy: Policy, relays: Mapping[str, LogRelay], base_url: str, host: str
) -> PublicConfig:
    """Return what a page for everybody may say about the `go` command's settings.

    The tenant is the one that the host name leads to, the only one that needs no token, or the
    tenant of the first start. Other tenants are not told apart from those that do not exist.

    Args:
        policy: of which only tenants with anonymous read are shown.
        relays: public logs by name, in the order of the settings.
        base_url: scheme, host and port as clients see them.
        host: of the request, lower-case, without its port.

    Raises:
        BadInputError: base_url is not an address.
    """
    every = policy.tenants.values()
    tenants = {
        one.tenant.name: one for one in every if one.tenant.anonymous_read and one.tenant.enabled
    }
    by_host = tenants.get(policy.hosts.get(host, ""))
    only = next(iter(tenants.values())) if len(tenants) == 1 else tenants.get(DEFAULT_TENANT)
    shown = by_host or only
    sumdb = _public_sumdb(relays) if shown is None else _sumdb(shown, relays)
    has_log = shown is not None and shown.log is not None
    config = ClientConfig(
        base_url=base_url,
        tenant=EXAMPLE_TENANT if shown is None else shown.tenant.name,
        tenant_in_path=by_host is None,
        authenticated=shown is None and base_url.startswith("https:"),
        sumdb=sumdb,
        sumdb_covers_private=has_log,
        toolchain="local" if sumdb == OFF else "auto",
    )
    has_private_names = shown is not None and not has_log and bool(_private_patterns(shown))
    return PublicConfig(config, shown is None, has_private_names)


async def client_config(
    policies: PolicyReader,
    relays: Mapping[str, LogRelay],
    tenant: str,
    base_url: str,
    who: Principal,
) -> ClientConfig:
    """Return how the clients of a tenant reach this service.

    A tenant with a log of its own verifies everything there; else the first relayed log verifies
    what is public. Without either nothing vouches for a toolchain: GOTOOLCHAIN is local.

    Args:
        policies: asked for the newest policy.
        relays: public logs by name, in the order of the settings.
        tenant: its name.
        base_url: scheme, host and port as clients see them.
        who: an admin of the tenant.

    Raises:
        DeniedError: the tenant is not who's.
        UnknownError: there is no such tenant.
        BadInputError: clients can't be told so: go sends no token over http.
    """
    require_admin(who, tenant)
    policy = (await policies.current(fresh=True)).tenants.get(tenant)
    if policy is None:
        raise UnknownError(f"there is no tenant {tenant[:80]!a}; see `moorage tenant list`")
    authenticated = not policy.tenant.anonymous_read
    if authenticated and base_url.startswith("http:"):
        raise BadInputError(
            f"tenant {tenant} asks for a token, and go never sends one to {base_url}: put an "
            "https address in front, and name it in MOORAGE_PUBLIC_URL"
        )
    sumdb = _sumdb(policy, relays)
    return ClientConfig(
        base_url=base_url,
        tenant=tenant,
        authenticated=authenticated,
        private_patterns=_private_patterns(policy),
        sumdb=sumdb,
        sumdb_covers_private=policy.log is not None,
        toolchain="local" if sumdb == OFF else "auto",
    )


def _sumdb(policy: TenantPolicy, relays: Mapping[str, LogRelay]) -> str:
    """Return GOSUMDB: a vkey, or the name of a log whose key `go` knows; or "off"."""
    return _public_sumdb(relays) if policy.log is None else policy.log.vkey


def _public_sumdb(relays: Mapping[str, LogRelay]) -> str:
    for name, relay in relays.items():
        return name if name in PUBLIC_LOGS else relay.verifier.vkey
    return OFF


def _private_patterns(policy: TenantPolicy) -> tuple[str, ...]:
    """Return the names that no public log may hear of: private routes', and owned prefixes."""
    patterns = {route.pattern.text for route in policy.routes if route.private}
    patterns |= {
        owned.prefix
        for owned in policy.access.platform.owners.ownerships
        if owned.opens_to(policy.tenant.name)
    }
    return tuple(sorted(patterns))
