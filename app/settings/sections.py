"""The sections of the settings as frozen models: names, types, ranges, defaults, meanings.

Nothing here reads the environment: `sources.py` does. Everything can be pickled, because every
worker process gets a copy. Lists are tuples, so that nothing can change them.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from app.settings import files, values
from app.settings.values import Form, Secret

YEAR_S = 31_536_000
GOOGLE_FINGERPRINT = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"

Whole = Annotated[int, BeforeValidator(values.whole_number)]
AnyPath = Annotated[Path, BeforeValidator(files.not_empty)]
TrustedFile = Annotated[
    AnyPath,
    AfterValidator(files.trusted_file),
]
_OwnFile = Annotated[AnyPath, AfterValidator(files.full_path)]
_OWN_FILE_FORM = Form("the path of a file")
_FILE_FORM = Form("the path of a file of up to 1 MiB that only its owner can change")
_Unique = AfterValidator(values.no_repeats)
_NotEmpty = AfterValidator(values.at_least_one)
_BaseUrl = Annotated[str, AfterValidator(values.base_url)]
_HttpUrl = Annotated[str, AfterValidator(values.http_url)]
_Word = Annotated[str, AfterValidator(values.platform_word)]
_Fingerprint = Annotated[str, AfterValidator(values.fingerprint)]
_Network = Annotated[str, AfterValidator(values.network)]
_Gateway = Annotated[str, AfterValidator(values.gateway)]
_PrivateHost = Annotated[str, AfterValidator(values.private_host)]
_Pin = Annotated[str, AfterValidator(values.pin)]
_URL_FORM = Form('an https:// URL without user, query and fragment: "https://go.dev/dl/"')


class Section(BaseModel):
    """A frozen table of settings; unknown names are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )


class Select(Section):
    """The selection of files that `releases sync` mirrors."""

    stable_only: Annotated[bool, Field(description="Leave out betas and release candidates.")] = (
        True
    )
    minors: Annotated[
        Whole,
        Field(ge=0, le=1000, description="How many of the newest minor lines (1.27, 1.26 …)."),
    ] = 2
    patches: Annotated[
        Whole, Field(ge=1, le=1000, description="How many of the newest patches of each minor.")
    ] = 1
    os: Annotated[
        tuple[_Word, ...],
        _NotEmpty,
        _Unique,
        Form('a JSON list of GOOS words, at least one: ["linux", "darwin"]'),
        Field(description="Operating systems (GOOS)."),
    ] = ("linux", "darwin", "windows")
    arch: Annotated[
        tuple[_Word, ...],
        _NotEmpty,
        _Unique,
        Form('a JSON list of GOARCH words, at least one: ["amd64", "arm64"]'),
        Field(description="Processor architectures (GOARCH)."),
    ] = ("amd64", "arm64")
    kinds: Annotated[
        tuple[Literal["archive", "installer", "source"], ...],
        _NotEmpty,
        _Unique,
        Form('a JSON list of "archive", "installer" and "source", at least one'),
        Field(description="Kinds of files: archive, installer, source."),
    ] = ("archive", "source")
    pins: Annotated[
        tuple[_Pin, ...],
        _Unique,
        Form('a JSON list of Go releases or lines: ["go1.25.3"]'),
        Field(description="Releases mirrored in addition, a company's own long-term choices."),
    ] = ()
    on_demand: Annotated[
        bool,
        Field(description="Also fetch, verify and offer any other file of the index when asked."),
    ] = True


class Zstd(Section):
    """The zstd forms of archives, which nodes fetch instead of the .tar.gz."""

    enabled: Annotated[
        bool,
        Field(
            description="Compress each verified .tar.gz archive anew with zstd, in the background."
        ),
    ] = True
    level: Annotated[
        Whole,
        Field(
            ge=1,
            le=19,
            description="Level of zstd. 19 makes the smallest files, takes one to two minutes of"
            " one core for an archive, and 130 MiB of memory meanwhile; 9 takes 5 seconds.",
        ),
    ] = 19
    niceness: Annotated[
        Whole,
        Field(
            ge=0,
            le=19,
            description="How far the one process that compresses stands behind all others for the"
            " processor.",
        ),
    ] = 19


class Releases(Section):
    """Go releases: sources, verification, selection, schedule."""

    index_url: Annotated[
        _HttpUrl,
        _URL_FORM,
        Field(description="The release index, the only source of metadata."),
    ] = "https://go.dev/dl/"
    files_urls: Annotated[
        tuple[_BaseUrl, ...],
        _NotEmpty,
        _Unique,
        Form('a JSON list of https:// URLs, at least one: ["https://dl.google.com/go/"]'),
        Field(description="Sources of archives and signatures, tried in this order; untrusted."),
    ] = ("https://dl.google.com/go/",)
    keyring: Annotated[
        TrustedFile | None,
        _FILE_FORM,
        Field(
            description="Armored public keys that sign releases. None: the built-in key of Google."
        ),
    ] = None
    keyring_url: Annotated[
        _HttpUrl | None,
        BeforeValidator(values.none_if_empty),
        Form('an https:// URL without user, query and fragment, or "" for none'),
        Field(description="Where `releases keys refresh --fetch` reads a newer key export."),
    ] = "https://dl.google.com/linux/linux_signing_key.pub"
    pinned_fingerprints: Annotated[
        tuple[_Fingerprint, ...],
        _NotEmpty,
        _Unique,
        Form(f'a JSON list of 40 hex characters each, at least one: ["{GOOGLE_FINGERPRINT}"]'),
        Field(description="Primary keys that a signature must lead to (OpenPGP fingerprints)."),
    ] = (GOOGLE_FINGERPRINT,)
    own_keyring: Annotated[
        TrustedFile | None,
        _FILE_FORM,
        Field(
            description="Armored public keys that sign releases of your own. None: no such keys."
        ),
    ] = None
    own_fingerprints: Annotated[
        tuple[_Fingerprint, ...],
        _Unique,
        Form("a JSON list of 40 hex characters each"),
        Field(
            description="Primary keys that a signature of an own release must lead to. go.dev's"
            " releases are never accepted by them, and own releases never by the keys of go.dev."
        ),
    ] = ()
    sha256_only: Annotated[
        tuple[Literal["tar.gz", "zip", "msi", "pkg"], ...],
        _Unique,
        Form('a JSON list of "tar.gz", "zip", "msi" and "pkg"'),
        Field(
            description="Suffixes offered on SHA-256 alone where upstream publishes no signature."
        ),
    ] = ("zip", "msi", "pkg")
    select: Annotated[Select, Field(description="Which files are mirrored.")] = Select()
    images_need_token: Annotated[
        bool,
        Field(
            description="Whether container images below /v2/ are pulled with a token only. False:"
            " by everybody, but for channels that are limited to tenants."
        ),
    ] = False
    zstd: Annotated[Zstd, Field(description="A smaller form of archives for nodes.")] = Zstd()
    refresh_s: Annotated[
        Whole, Field(ge=1, le=YEAR_S, description="Seconds between two reads of the index.")
    ] = 3600
    sync_s: Annotated[
        Whole,
        AfterValidator(values.zero_or_a_minute),
        Form(f"0, or a whole number from 60 to {YEAR_S}"),
        Field(
            ge=0,
            le=YEAR_S,
            description="Seconds between two syncs in the background. 0: only by command.",
        ),
    ] = 0
    retry_failed_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=86_400,
            description="Seconds for which a failed ingestion is answered from memory before"
            " upstream is asked again. 0: always ask.",
        ),
    ] = 30
    parallel: Annotated[Whole, Field(ge=1, le=64, description="Downloads at once.")] = 4
    archive_deadline_s: Annotated[
        Whole,
        Field(ge=1, le=86_400, description="Seconds after which the download of a file ends."),
    ] = 900


class Modules(Section):
    """The module proxy."""

    upstream: Annotated[
        Annotated[str, AfterValidator(values.upstream_url)],
        Form('an https:// URL without user, query and fragment: "https://proxy.golang.org"'),
        Field(description="GOPROXY upstream of a new tenant's route for everything."),
    ] = "https://proxy.golang.org"
    redirect_to: Annotated[
        tuple[Annotated[str, AfterValidator(values.redirect_target)], ...],
        _Unique,
        Form('a JSON list of hosts or origins: ["cdn.example", "https://cdn.example:8443"]'),
        Field(
            max_length=20,
            description="Where that upstream may redirect to besides its own host, in a new"
            " tenant's route. The stores of known public proxies need no entry.",
        ),
    ] = ()
    max_age_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=31_536_000,
            description="Seconds for which caches in front may keep module files of tenants with"
            " anonymous read. A denial takes up to that long to hold there.",
        ),
    ] = 3600


class Git(Section):
    """Modules from git."""

    repository_bytes: Annotated[
        Whole,
        Field(
            ge=1 << 20,
            le=1 << 40,
            description="Bytes of one repository at most: of each fetch, and of its mirror.",
        ),
    ] = 2 << 30
    mirrors_bytes: Annotated[
        Whole,
        Field(
            ge=1 << 20,
            le=1 << 50,
            description="Bytes of all mirrors together. Beyond it those that were used longest ago "
            "are removed; they are fetched again when they are needed.",
        ),
    ] = 50 << 30


class PublicLog(Section):
    """A checksum database that is relayed."""

    name: Annotated[str, AfterValidator(values.log_name)]
    vkey: str
    url: Annotated[str, AfterValidator(values.upstream_url)]


SUM_GOLANG_ORG = PublicLog(
    name="sum.golang.org",
    vkey="sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
    url="https://sum.golang.org",
)


class Sumdb(Section):
    """Checksum databases: public ones that are relayed, and the tenants' own."""

    upstreams: Annotated[
        tuple[PublicLog, ...],
        AfterValidator(values.logs_by_name),
        Form('a JSON list of {"name": …, "vkey": …, "url": …}; [] relays none'),
        Field(
            description="Relayed checksum databases; the first one verifies modules of public"
            " routes."
        ),
    ] = (SUM_GOLANG_ORG,)
    log_name: Annotated[
        Annotated[str, AfterValidator(values.log_name_pattern)],
        Form('a host, with a port or path, that has {tenant} in it: "sum.corp.example/{tenant}"'),
        Field(
            description="The name of a tenant's own checksum database, given once when it is made."
        ),
    ] = "moorage.internal/{tenant}"


class Network(Section):
    """Addresses that upstreams may have, authorities of their certificates, trusted gateways."""

    allow: Annotated[
        tuple[_Network, ...],
        _Unique,
        Form('a JSON list of "CIDR" or "CIDR:port": ["10.0.0.0/8", "127.0.0.1/32:8081"]'),
        Field(description="Private address ranges that upstreams may use; all others are refused."),
    ] = ()
    tenant_hosts: Annotated[
        tuple[_PrivateHost, ...],
        _Unique,
        Form('a JSON list of hosts: ["athens.corp.example:3000", "*.corp.example", "10.1.2.3"]'),
        Field(
            description="Hosts that may have an address of these ranges in routes of every tenant,"
            " besides that of `modules.upstream`; those of one tenant are its private hosts."
        ),
    ] = ()
    ca_file: Annotated[
        TrustedFile | None,
        _FILE_FORM,
        Field(
            description="PEM bundle of further authorities that upstreams' certificates may have."
        ),
    ] = None

    gateways: Annotated[
        tuple[_Gateway, ...],
        _Unique,
        Form('a JSON list of CIDRs: ["10.1.2.0/28"]'),
        Field(
            description="Addresses of gateways whose X-Tenant-ID and X-Forwarded-For are believed."
        ),
    ] = ()


class S3(Section):
    """The server that has the bucket of storage.url."""

    endpoint: Annotated[
        Annotated[str, AfterValidator(values.public_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an https:// URL without path: "https://s3.example:9000"'),
        Field(description="URL of the S3 server. None: that of AWS in the region."),
    ] = None
    region: Annotated[
        Annotated[str, AfterValidator(values.s3_region)] | None,
        BeforeValidator(values.none_if_empty),
        Form('the name of a region: "eu-central-1"'),
        Field(description="Region of the bucket. None: that of the environment, or us-east-1."),
    ] = None
    access_key: Annotated[
        Annotated[str, AfterValidator(values.s3_credential)] | None,
        Secret(),
        Form("an access key id"),
        Field(
            repr=False,
            description="Access key of the bucket. None: the ambient identity of the process, such"
            " as a role of the machine.",
        ),
    ] = None
    secret_key: Annotated[
        Annotated[str, AfterValidator(values.s3_credential)] | None,
        Secret(),
        Form("a secret access key"),
        Field(repr=False, description="Secret that belongs to the access key."),
    ] = None


class DatabaseWaits(Section):
    """Waits for PostgreSQL. SQLite waits for its one writer for 5 seconds at most."""

    connect_s: Annotated[Whole, Field(ge=1, le=60, description="Seconds to open a connection.")] = 3
    lock_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=300,
            description="Seconds that a change waits for its turn among those of all replicas.",
        ),
    ] = 5
    statement_s: Annotated[Whole, Field(ge=1, le=3600, description="Seconds of one statement.")] = (
        15
    )
    idle_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds after which the server ends a transaction in which nothing"
            " happens: a frozen replica must not hold up the others.",
        ),
    ] = 10
    outage_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=86400,
            description="Seconds for which a PostgreSQL that does not answer is bridged: what is"
            " stored and was allowed before is served.",
        ),
    ] = 60


class Storage(Section):
    """The blob store."""

    url: Annotated[
        Annotated[str, AfterValidator(values.storage_url)],
        Form('"file:" or "s3://bucket/prefix"'),
        Field(
            description="Where blobs are. file: is the data dir. With s3:// the data dir has a"
            " cache of them."
        ),
    ] = "file:"
    cache_bytes: Annotated[
        Whole,
        Field(
            ge=64 << 20,
            le=1 << 50,
            description="Bytes of blobs in S3 that the data dir keeps as a cache.",
        ),
    ] = 20 << 30
    redirect: Annotated[
        bool,
        Field(
            description="Answer requests for files over 1 MiB by a redirect to S3, with a link that"
            " anybody can use for 5 minutes."
        ),
    ] = False
    s3: Annotated[S3, Field(description="The S3 server.")] = S3()
    min_free_percent: Annotated[
        float,
        BeforeValidator(values.number),
        Field(
            ge=0,
            le=50,
            allow_inf_nan=False,
            description="Percent of the file system kept free; below it nothing is stored, neither"
            " in files nor in SQLite.",
        ),
    ] = 5.0
    scrub_days: Annotated[
        Whole,
        Field(
            ge=0,
            le=3650,
            description="Days within which every blob is hashed again at least once. 0: never.",
        ),
    ] = 30


class Backup(Section):
    """Backups."""

    url: Annotated[
        Annotated[str, AfterValidator(values.backup_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an absolute path, or "s3://bucket/prefix"'),
        Field(description="Where `moorage backup` keeps backups, unless --store names it."),
    ] = None


class Tls(Section):
    """TLS without a proxy in front."""

    cert_file: Annotated[
        _OwnFile | None,
        BeforeValidator(values.none_if_empty),
        _OWN_FILE_FORM,
        Field(
            description="PEM file with the server's certificate and those between it and its"
            " authority. Read anew within a minute when it changes. None: plain HTTP."
        ),
    ] = None
    key_file: Annotated[
        _OwnFile | None,
        BeforeValidator(values.none_if_empty),
        _OWN_FILE_FORM,
        Field(
            description="PEM file with the certificate's key, without a password. None: the key is"
            " in `tls.cert_file`."
        ),
    ] = None
    client_ca_file: Annotated[
        _OwnFile | None,
        BeforeValidator(values.none_if_empty),
        _OWN_FILE_FORM,
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


class Retention(Section):
    """Module zips that are let go: by default none, and never what only this installation has."""

    unused_days: Annotated[
        Whole,
        Field(
            ge=0,
            le=36500,
            description="Days without a download after which a zip is let go. 0: never.",
        ),
    ] = 0
    max_age_days: Annotated[
        Whole,
        Field(ge=0, le=36500, description="Days after which a zip is let go. 0: never."),
    ] = 0
    versions: Annotated[
        Whole,
        Field(
            ge=0,
            le=100_000,
            description="How many of the newest versions of a module keep their zips. 0: all.",
        ),
    ] = 0
    max_bytes: Annotated[
        Whole,
        Field(
            ge=0,
            le=1 << 60,
            description="Bytes of zips above which those that were used longest ago are let go. 0:"
            " no limit.",
        ),
    ] = 0
    releases: Annotated[
        bool,
        Field(
            description="Let go of release files that neither the selection nor a channel names."
        ),
    ] = False
    gc_hours: Annotated[
        Whole,
        Field(
            ge=0,
            le=8760,
            description="Hours between two runs of `moorage gc` by the leader. 0: by command only.",
        ),
    ] = 0


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
        Field(ge=1, le=3600, description="Seconds that a module's fetch waits for its turn."),
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
            " that is left of it; slower clients are cut.",
        ),
    ] = 60
    admin_body_bytes: Annotated[
        Whole, Field(ge=1024, le=1 << 30, description="Bytes of a request body of the admin API.")
    ] = 1 << 20


class Fleet(Section):
    """Nodes that follow channels."""

    check_s: Annotated[
        Whole,
        Field(
            ge=5,
            le=86_400,
            description="Seconds between two check-ins of a node, with a jitter of a tenth. A node"
            " that is not heard of for three times as long is silent.",
        ),
    ] = 60


class Otel(Section):
    """Traces of requests, sent to an OpenTelemetry collector."""

    endpoint: Annotated[
        Annotated[str, AfterValidator(values.upstream_url)] | None,
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
