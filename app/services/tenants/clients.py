"""What clients of a tenant are told, taken from the policy. The texts: `core.clientconfig`."""

from collections.abc import Mapping

from app.core.clientconfig import ClientConfig
from app.core.clientconfig.checks import PUBLIC_LOGS
from app.core.errors import BadInputError, UnknownError
from app.core.principal import Principal
from app.services.authorization import require_admin
from app.services.policy import PolicyReader, TenantPolicy
from app.services.publiclog.relay import LogRelay

OFF = "off"


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
    if policy.log is not None:
        return policy.log.vkey
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
