"""Settings of limits: times, sizes, rates, shares."""

from typing import Annotated

from pydantic import Field

from app.settings.sections.fields import Section, Whole


class Limits(Section):
    """Limits on load, on the size of requests, and on the time of clients."""

    streams: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Bodies over 1 MiB sent at once, for each process; one tenant, or one"
            " address that downloads archives, has at most half of them.",
        ),
    ] = 1000
    tenant_streams: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Module zips over 1 MiB sent to one tenant at once, for each process; one"
            " address has at most half of them.",
        ),
    ] = 64
    stream_wait_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds that a body waits until it is its turn to be sent; longer than"
            " `limits.send_s`, after which slow clients give their turns back.",
        ),
    ] = 90
    tenant_cold: Annotated[
        Whole,
        Field(
            ge=1,
            le=1024,
            description="Fetches of one tenant from one upstream at once; further ones wait.",
        ),
    ] = 8
    tenant_rate: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Requests a second of one tenant that are not answered from memory, with a"
            " burst of four seconds' worth; more get 429.",
        ),
    ] = 500
    bad_tokens: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Wrong tokens a minute from one address (IPv6: one /64), at the proxy and"
            " the admin API together; then 429.",
        ),
    ] = 100
    admin_token_rate: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Requests a second of the admin API with one token, with a burst of four"
            " seconds' worth; more get 429.",
        ),
    ] = 50
    admin_address_rate: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="The same from one address (IPv6: one /64), whatever the token.",
        ),
    ] = 100
    connections: Annotated[
        Whole,
        Field(
            ge=16,
            le=1_000_000,
            description="Open connections, for each process; at most half of the files that it may"
            " open. Beyond it, health alone is answered.",
        ),
    ] = 16_384
    address_connections: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Open connections from one address (IPv6: one /64), for each process;"
            " gateways of `network.gateways` may have more. Beyond it, health alone is answered.",
        ),
    ] = 4096
    fetches: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Fetches of modules from all upstreams at once, for each process. One"
            " tenant has at most half of them, and 64 are made to one upstream at most.",
        ),
    ] = 1024
    waiters_per_key: Annotated[
        Whole,
        Field(ge=1, le=1_000_000, description="Requests that wait for one file being fetched."),
    ] = 1000
    cold_queue: Annotated[
        Whole,
        Field(
            ge=1,
            le=1_000_000,
            description="Files that are fetched, or wait for it, because of requests: of releases, "
            "and as many of modules, which tenants share fairly. How many at once is "
            "`releases.parallel`, and `limits.tenant_cold` of each tenant.",
        ),
    ] = 4096
    memory_bytes: Annotated[
        Whole,
        Field(
            ge=1 << 20,
            le=1 << 40,
            description="Bytes that lists, .info and .mod files on their way from upstreams, and"
            " bodies of the admin API, hold in memory together, for each process; beyond it files"
            " are staged on disk, and admin requests get 503. One tenant, or one address that calls"
            " the admin API, holds half at most.",
        ),
    ] = 128 * 1024 * 1024
    cold_wait_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds that a module's fetch waits for its turn while no other fetch of"
            " its tenant from its upstream succeeds; it waits ten times as long at most.",
        ),
    ] = 60
    url_bytes: Annotated[
        Whole, Field(ge=128, le=65_536, description="Bytes of a request's path and query.")
    ] = 2048
    header_bytes: Annotated[
        Whole, Field(ge=1024, le=1 << 20, description="Bytes of a request's headers together.")
    ] = 16_384
    headers: Annotated[
        Whole, Field(ge=10, le=1000, description="Headers of a request, in number.")
    ] = 100
    header_s: Annotated[
        Whole,
        Field(ge=1, le=3600, description="Seconds for a request's head, from its first byte on."),
    ] = 10
    body_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds in which a request's body must end or bring 1 KiB for each.",
        ),
    ] = 30
    send_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds in which a client must take 8 KiB of its response for each, or all"
            " that is left of it; slower clients are cut. More than 64 clients at once must take"
            " as much as 64 together: 500 clients 1 KiB each.",
        ),
    ] = 60
    admin_body_bytes: Annotated[
        Whole, Field(ge=1024, le=1 << 30, description="Bytes of a request body of the admin API.")
    ] = 1 << 20
