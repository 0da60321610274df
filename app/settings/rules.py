"""Rules between settings: values that are valid alone, and contradict each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol
from urllib.parse import urlsplit

from app.settings.sections import Modules, Network, Releases, Sumdb
from app.settings.values import DEFAULT_PORTS, parse_network

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
    def releases(self) -> Releases: ...
    @property
    def modules(self) -> Modules: ...
    @property
    def sumdb(self) -> Sumdb: ...
    @property
    def network(self) -> Network: ...


def contradictions(settings: _AllSettings) -> Iterator[Contradiction]:
    """Yield every contradiction between settings."""
    if settings.workers > 1 and settings.port == 0:
        yield Contradiction(
            ("port",),
            f"0 gives each of the {settings.workers} workers another port;"
            " give a number from 1 to 65535, or set workers to 1",
            ("workers",),
        )
    yield from _idle_sync(settings.releases)
    yield from _plain_http(settings)


def _idle_sync(releases: Releases) -> Iterator[Contradiction]:
    select = releases.select
    if releases.sync_s and select.stable_only and not select.minors and not select.pins:
        yield Contradiction(
            ("releases", "sync_s"),
            "the selection is empty, so there is nothing to sync;"
            " set releases.select.minors or releases.select.pins, or set sync_s to 0",
            ("releases.select.minors", "releases.select.pins"),
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
