"""Rules between settings: values that are valid alone, and contradict each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol
from urllib.parse import urlsplit

from app.core.hostname import DEFAULT_PORTS
from app.settings.sections.modules import Modules, Sumdb
from app.settings.sections.network import Metrics, Network, Tls
from app.settings.sections.releases import Releases
from app.settings.sections.storage import Backup, Storage
from app.settings.values import parse_network

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two settings that cannot both hold.

    Attributes:
        path: the setting in the message: ("releases", "files_urls", 0).
        text: what is wrong, and what would be right.
        others: dotted names of the other settings involved.
    """

    path: Path
    text: str
    others: tuple[str, ...]


class _AllSettings(Protocol):
    """The part of `Settings` that the rules read; importing `Settings` would make a circle."""

    @property
    def port(self) -> int: ...
    @property
    def workers(self) -> int: ...
    @property
    def secrets_key(self) -> str | None: ...
    @property
    def secrets_key_before(self) -> str | None: ...
    @property
    def releases(self) -> Releases: ...
    @property
    def modules(self) -> Modules: ...
    @property
    def sumdb(self) -> Sumdb: ...
    @property
    def network(self) -> Network: ...
    @property
    def storage(self) -> Storage: ...
    @property
    def backup(self) -> Backup: ...
    @property
    def tls(self) -> Tls: ...
    @property
    def metrics(self) -> Metrics: ...


def contradictions(settings: _AllSettings) -> Iterator[Contradiction]:
    """Yield every contradiction between settings."""
    if settings.workers > 1 and settings.port == 0:
        yield Contradiction(
            ("port",),
            f"0 gives each of the {settings.workers} workers another port;"
            " give a number from 1 to 65535, or set workers to 1",
            ("workers",),
        )
    if settings.metrics.port is not None and settings.metrics.port == settings.port:
        yield Contradiction(
            ("metrics", "port"), "it is the port of the other listener, too", ("port",)
        )
    if settings.secrets_key is None and settings.secrets_key_before is not None:
        yield Contradiction(
            ("secrets_key_before",),
            "there is no secrets_key that it came before; set both, or use keys/secrets.key",
            ("secrets_key",),
        )
    yield from _certificate(settings.tls)
    yield from _idle_sync(settings.releases)
    yield from _own_keys(settings.releases)
    yield from _storage(settings)
    yield from _plain_http(settings)


def _certificate(tls: Tls) -> Iterator[Contradiction]:
    for name in ("key_file", "client_ca_file"):
        if tls.cert_file is None and getattr(tls, name) is not None:
            yield Contradiction(
                ("tls", name),
                "without a certificate the service speaks plain HTTP; set tls.cert_file, too",
                ("tls.cert_file",),
            )


def _idle_sync(releases: Releases) -> Iterator[Contradiction]:
    select = releases.select
    if releases.sync_s and select.stable_only and not select.minors and not select.pins:
        yield Contradiction(
            ("releases", "sync_s"),
            "the selection is empty, so there is nothing to sync;"
            " set releases.select.minors or releases.select.pins, or set sync_s to 0",
            ("releases.select.minors", "releases.select.pins"),
        )


def _own_keys(releases: Releases) -> Iterator[Contradiction]:
    if (releases.own_keyring is None) != (not releases.own_fingerprints):
        missing = "own_keyring" if releases.own_keyring is None else "own_fingerprints"
        yield Contradiction(
            ("releases", missing),
            "the keys of own releases and their fingerprints belong together; set both, or neither",
            ("releases.own_keyring", "releases.own_fingerprints"),
        )
    shared = set(releases.own_fingerprints) & set(releases.pinned_fingerprints)
    if shared:
        yield Contradiction(
            ("releases", "own_fingerprints"),
            f"{min(shared)} is pinned for go.dev's releases, too; own releases need keys of their"
            " own",
            ("releases.pinned_fingerprints",),
        )


def _storage(settings: _AllSettings) -> Iterator[Contradiction]:
    storage, s3 = settings.storage, settings.storage.s3
    is_in_s3 = storage.url.startswith("s3:")
    uses_s3 = is_in_s3 or (settings.backup.url or "").startswith("s3:")
    if uses_s3 and (s3.access_key is None) != (s3.secret_key is None):
        yield Contradiction(
            ("storage", "s3", "access_key" if s3.access_key is None else "secret_key"),
            "access key and secret key belong together; set both, or neither for the identity"
            " that the environment gives",
            ("storage.s3.access_key", "storage.s3.secret_key"),
        )
    if is_in_s3:
        return
    of_s3: list[tuple[Path, object]] = [(("storage", "redirect"), storage.redirect)]
    if not uses_s3:
        of_s3 += [(("storage", "s3", name), value) for name, value in s3]
    for path, value in of_s3:
        if value:
            yield Contradiction(
                path,
                "it is about S3, and blobs are in the data directory; set storage.url to"
                " s3://bucket/prefix, or leave this out",
                ("storage.url",),
            )


def _plain_http(settings: _AllSettings) -> Iterator[Contradiction]:
    releases, allow = settings.releases, settings.network.allow
    logs = settings.sumdb.upstreams
    urls: list[tuple[Path, str | None]] = [
        (("releases", "index_url"), releases.index_url),
        *((("releases", "files_urls", i), url) for i, url in enumerate(releases.files_urls)),
        (("releases", "keyring_url"), releases.keyring_url),
        (("modules", "upstream"), settings.modules.upstream),
        *((("sumdb", "upstreams", i, "url"), log.url) for i, log in enumerate(logs)),
        (("storage", "s3", "endpoint"), settings.storage.s3.endpoint),
    ]
    for path, url in urls:
        if url and url.startswith("http:") and not _inside(url, allow):
            yield Contradiction(
                path,
                "http:// can be read and changed on its way, so it is accepted only for an address"
                " or localhost inside network.allow; use https://, or allow the address there",
                ("network.allow",),
            )


def _inside(url: str, allow: tuple[str, ...]) -> bool:
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    return any(
        address in allowed and allowed_port in (None, port)
        for allowed, allowed_port in map(parse_network, allow)
        for address in _addresses(parts.hostname or "")
    )


def _addresses(host: str) -> list[IPv4Address | IPv6Address]:
    """Return the addresses of an IP address or of localhost; other names have none here."""
    if host == "localhost":
        return [ip_address("127.0.0.1"), ip_address("::1")]
    try:
        return [ip_address(host)]
    except ValueError:
        return []
