"""The kinds of values of settings: one checker for each.

A checker takes a value and returns its canonical form, or raises ValueError. No message repeats a
value that could hold a credential, because messages end in logs.

Not here: URLs (`urls.py`), files (`files.py`), and rules between settings (`rules.py`).
"""

import base64
import binascii
import re
from collections.abc import Hashable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Protocol, TypeVar

from app.core.errors import BadInputError
from app.core.notekey import check_log_name, parse_vkey
from app.core.privatehost import check_private_host
from app.core.selection import check_pin

_Item = TypeVar("_Item", bound=Hashable)


class _HasKey(Protocol):
    """The checked fields of a relayed log."""

    @property
    def name(self) -> str: ...
    @property
    def vkey(self) -> str: ...


_Named = TypeVar("_Named", bound=_HasKey)

SECRETS_KEY_BYTES = 32
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9A-F]{40}", re.ASCII)
_PLATFORM_WORD = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_HOST_NAME = re.compile(r"[0-9A-Za-z]([0-9A-Za-z.-]{0,252})", re.ASCII)
_NETWORK = re.compile(
    r"(?P<open>\[)?(?P<address>[0-9A-Fa-f:.]+)(?(open)\])/(?P<prefix>[0-9]{1,3})"
    r"(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)
_S3_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_S3_CREDENTIAL = re.compile(r"[!-~]{1,256}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a right value, as the end of a sentence: "an OpenPGP fingerprint"."""

    text: str


@dataclass(frozen=True, slots=True)
class Secret:
    """Marks a setting whose value is never shown, and whose file only its owner may read."""


def whole_number(value: object) -> object:
    """Return value if it is an int or decimal text such as "8080" or "-1".

    Raises:
        ValueError: anything else, `true` and "8_080" included.
    """
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if type(value) is int:
        return value
    raise ValueError("it is not a whole number")


def number(value: object) -> object:
    """Return value unless it is a bool, which Python takes for 0 or 1.

    Raises:
        ValueError: it is `true` or `false`.
    """
    if isinstance(value, bool):
        raise ValueError("it is not a number")  # noqa: TRY004 — pydantic wants ValueError
    return value


def none_if_empty(value: object) -> object:
    """Return value, or None for "": the environment and TOML cannot write None."""
    return None if value == "" else value


def no_repeats(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """Return items if no two are equal.

    Raises:
        ValueError: two items are equal; the message names both places, counted from 1.
    """
    for place, item in enumerate(items):
        if item in items[:place]:
            raise ValueError(f"entry {place + 1} repeats entry {items.index(item) + 1}")
    return items


def at_least_one(items: tuple[_Item, ...]) -> tuple[_Item, ...]:
    """Return items unless the list is empty.

    Raises:
        ValueError: the list is empty.
    """
    if not items:
        raise ValueError("the list is empty")
    return items


def log_name(name: str) -> str:
    """Return the name of a checksum database: "host[:port][/path]", as in a vkey.

    Raises:
        ValueError: it is no such name.
    """
    try:
        check_log_name(name)
    except BadInputError as error:
        raise ValueError(str(error)) from error
    return name


def log_name_pattern(pattern: str) -> str:
    """Return a pattern with {tenant} once, that becomes a `log_name` with any tenant's name.

    Raises:
        ValueError: {tenant} is absent or repeated, or the result is no `log_name`.
    """
    if pattern.count("{tenant}") != 1:
        raise ValueError("it has not {tenant} in it, once")
    log_name(pattern.replace("{tenant}", "a"))
    return pattern


def logs_by_name(logs: tuple[_Named, ...]) -> tuple[_Named, ...]:
    """Return logs if their names differ and each vkey holds its log's name.

    Raises:
        ValueError: two names are equal, or a vkey is malformed or holds another name.
    """
    names = [log.name for log in logs]
    if len(set(names)) < len(names):
        raise ValueError("two logs have the same name")
    for log in logs:
        try:
            name = parse_vkey(log.vkey).name
        except BadInputError as error:
            raise ValueError(str(error)) from error
        if name != log.name:
            raise ValueError(f"the vkey of {log.name} is that of another name")
    return logs


def secrets_key(text: str) -> str:
    """Return text if it is the base64 form of 32 bytes.

    Raises:
        ValueError: it is not base64, or has another length; the message does not repeat it.
    """
    try:
        size = len(base64.b64decode(text.strip(), validate=True))
    except binascii.Error as error:
        raise ValueError("it is not base64") from error
    if size != SECRETS_KEY_BYTES:
        raise ValueError(f"it has {size} bytes in the place of {SECRETS_KEY_BYTES}")
    return text.strip()


def s3_region(text: str) -> str:
    """Return the name of a region, such as "eu-central-1" or "default".

    Raises:
        ValueError: it has other characters than a-z, 0-9 and "-".
    """
    if not _S3_REGION.fullmatch(text):
        raise ValueError("it is no name of a region")
    return text


def s3_credential(text: str) -> str:
    """Return an access key or a secret key without the line end of its file.

    Raises:
        ValueError: it is empty, too long, or has a character that no key has.
    """
    if not _S3_CREDENTIAL.fullmatch(text.strip()):
        raise ValueError("it is no key")
    return text.strip()


def network(text: str) -> str:
    """Return text if it is "CIDR" or "CIDR:port".

    Examples: "10.0.0.0/8", "127.0.0.1/32:8081", "fd00::/8", "[::1]/128:443".

    Raises:
        ValueError: no prefix length, bits set behind the prefix, or a port outside 1 to 65535.
    """
    parse_network(text)
    return text


def private_host(text: str) -> str:
    """Return text if it is a host as in a tenant's private hosts: "athens.corp.example:3000".

    Raises:
        ValueError: it is not.
    """
    try:
        check_private_host(text)
    except BadInputError as error:
        raise ValueError(str(error)) from error
    return text


def gateway(text: str) -> str:
    """Return text if it is a CIDR without a port.

    Raises:
        ValueError: as in `network`, or it has a port.
    """
    if parse_network(text)[1] is not None:
        raise ValueError("a gateway is known by its address alone; leave the port out")
    return text


def parse_network(text: str) -> tuple[IPv4Network | IPv6Network, int | None]:
    """Return the address range and the port; None stands for every port.

    Raises:
        ValueError: as in `network`.
    """
    match = _NETWORK.fullmatch(text)
    if not match:
        raise ValueError("it is not an address range with a prefix length")
    port = int(match["port"]) if match["port"] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("its port is not a number from 1 to 65535")
    if match["open"] and ":" not in match["address"]:
        raise ValueError("brackets are for IPv6")
    try:
        return ip_network(f"{match['address']}/{match['prefix']}"), port
    except ValueError as error:
        wrong = "bits are set behind the prefix" if "host bits" in str(error) else "no such range"
        raise ValueError(f"it is not an address range: {wrong}") from None


def fingerprint(text: str) -> str:
    """Return an OpenPGP v4 fingerprint as 40 upper-case hex characters (RFC 9580 section 5.5.4.2).

    Spaces, as gpg prints them, are dropped; letters become upper-case:
    "eb4c 1bfd 4f04 2f6d ddcc  ec91 7721 f63b d38b 4796" gives
    "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796".

    Raises:
        ValueError: not 40 hex characters; a short key id is not a fingerprint.
    """
    plain = text.replace(" ", "").upper()
    if not _FINGERPRINT.fullmatch(plain):
        raise ValueError("it is not a full OpenPGP fingerprint")
    return plain


def platform_word(text: str) -> str:
    """Return a GOOS or GOARCH word such as "linux" or "amd64".

    Raises:
        ValueError: it has other characters than a to z and 0 to 9, or more than 20.
    """
    if not _PLATFORM_WORD.fullmatch(text):
        raise ValueError("it is not a GOOS or GOARCH word")
    return text


def listen_host(text: str) -> str:
    """Return an address or host name to listen on.

    Raises:
        ValueError: it is neither. An empty host would mean every interface.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        if _HOST_NAME.fullmatch(text):
            return text
    raise ValueError("it is neither an address nor a host name")


def zero_or_a_minute(seconds: int) -> int:
    """Return seconds: 0, or at least 60.

    Raises:
        ValueError: 1 to 59, or negative.
    """
    if seconds and seconds < 60:
        raise ValueError("it is less than a minute")
    return seconds


def pin(text: str) -> str:
    """Return the name of a Go release or of a line of releases: "1.21.5", "1.21".

    Raises:
        ValueError: it is neither.
    """
    try:
        check_pin(text)
    except BadInputError:
        raise ValueError("it is neither a minor (1.21) nor a version (1.21.5)") from None
    return text
