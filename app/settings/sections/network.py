"""Settings of addresses, TLS, and what tells others about this process."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from app.settings import urls, values
from app.settings.sections.fields import (
    FILE_FORM,
    OWN_FILE_FORM,
    OwnFile,
    Section,
    TrustedFile,
    Unique,
)
from app.settings.values import Form

_Network = Annotated[str, AfterValidator(values.network)]
_Gateway = Annotated[str, AfterValidator(values.gateway)]
_PrivateHost = Annotated[str, AfterValidator(values.private_host)]


class Network(Section):
    """Addresses that upstreams may have, authorities of their certificates, trusted gateways."""

    allow: Annotated[
        tuple[_Network, ...],
        Unique,
        Form('a JSON list of "CIDR" or "CIDR:port": ["10.0.0.0/8", "127.0.0.1/32:8081"]'),
        Field(description="Private address ranges that upstreams may use; all others are refused."),
    ] = ()
    tenant_hosts: Annotated[
        tuple[_PrivateHost, ...],
        Unique,
        Form('a JSON list of hosts: ["athens.corp.example:3000", "*.corp.example", "10.1.2.3"]'),
        Field(
            description="Hosts that may have an address of these ranges in routes of every tenant,"
            " besides that of `modules.upstream`; those of one tenant are its private hosts."
        ),
    ] = ()
    ca_file: Annotated[
        TrustedFile | None,
        FILE_FORM,
        Field(
            description="PEM bundle of further authorities that upstreams' certificates may have."
        ),
    ] = None

    gateways: Annotated[
        tuple[_Gateway, ...],
        Unique,
        Form('a JSON list of CIDRs: ["10.1.2.0/28"]'),
        Field(
            description="Addresses of gateways whose X-Tenant-ID and X-Forwarded-For are believed."
        ),
    ] = ()


class Tls(Section):
    """TLS without a proxy in front."""

    cert_file: Annotated[
        OwnFile | None,
        BeforeValidator(values.none_if_empty),
        OWN_FILE_FORM,
        Field(
            description="PEM file with the server's certificate and those between it and its"
            " authority. Read anew within a minute when it changes. None: plain HTTP."
        ),
    ] = None
    key_file: Annotated[
        OwnFile | None,
        BeforeValidator(values.none_if_empty),
        OWN_FILE_FORM,
        Field(
            description="PEM file with the certificate's key, without a password. None: the key is"
            " in `tls.cert_file`."
        ),
    ] = None
    client_ca_file: Annotated[
        OwnFile | None,
        BeforeValidator(values.none_if_empty),
        OWN_FILE_FORM,
        Field(
            description="PEM file with authorities. Set, a connection needs a client certificate"
            " of one of them; tokens and rules hold as without."
        ),
    ] = None


class Metrics(Section):
    """A listener of its own for metrics and health."""

    port: Annotated[
        Annotated[int, Field(ge=1, le=65535), BeforeValidator(values.whole_number)] | None,
        BeforeValidator(values.none_if_empty),
        Form("a whole number from 1 to 65535"),
        Field(
            description="TCP port of a plain HTTP listener, one for all workers, which answers"
            " /metrics, /healthz, /readyz and /version; the other listener then has no /metrics."
            " None: no such listener."
        ),
    ] = None
    host: Annotated[
        Annotated[str, AfterValidator(values.listen_host)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an address or a host name: "127.0.0.1"'),
        Field(description="Address that this listener binds to. None: that of `host`."),
    ] = None


class Otel(Section):
    """Traces of requests, sent to an OpenTelemetry collector."""

    endpoint: Annotated[
        Annotated[str, AfterValidator(urls.upstream_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('the base URL of a collector, "http://otel-collector:4318", or "" for none'),
        Field(
            description="Where traces are sent by OTLP over HTTP; the path /v1/traces is added."
            " None: nothing is traced. Needs the extra `otel`."
        ),
    ] = None
    sample: Annotated[
        float,
        BeforeValidator(values.number),
        Field(
            ge=0,
            le=1,
            allow_inf_nan=False,
            description="Share of requests whose spans are sent, 0 to 1. A request that comes with"
            " a `traceparent` follows it.",
        ),
    ] = 0.01
