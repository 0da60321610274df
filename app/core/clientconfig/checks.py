"""Checks of values for go's settings: go accepts the value, and it is safe in every kind of text.

Stricter than go: no value needs white space (except before a log's URL in GOSUMDB), control or
non-ASCII characters, quotes, "$", "%", "#", "{" or "!".
"""

import base64
import binascii
import hashlib
import ipaddress
import re

from app.core import goversion
from app.core.errors import BadInputError
from app.core.hostname import DEFAULT_PORTS
from app.core.modulepattern import Pattern
from app.core.tenantname import check_host

_ORIGIN = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")
_URL_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")

# golang.org/x/mod and cmd/go know these two without a key.
PUBLIC_LOGS = ("sum.golang.org", "sum.golang.google.cn")
_LOG_NAME = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)*")
_ED25519 = b"\x01"

# A pattern's class can hold any character; module paths have only these.
_PATTERN = re.compile(r"[A-Za-z0-9._~/*?\[\]^\\-]+")

_TOOLCHAIN = re.compile(r"(?:(local|go[0-9][A-Za-z0-9.-]*)(?:\+(?:auto|path))?)|auto|path")


def _host(text: str) -> str:
    host = text.lower()
    if host.startswith("["):
        try:
            return f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            raise BadInputError(f"{text} is not an IPv6 address") from None
    check_host(host)
    return host


def origin(url: str) -> tuple[str, str]:
    """Return scheme and host of a service's address: ("https", "moorage.corp.example:8443").

    The host is lower-case and has its port, unless the port is the scheme's default. go uses the
    same form when it looks for credentials.

    Raises:
        BadInputError: url is not exactly scheme, host and optional port.
    """
    match = _ORIGIN.fullmatch(url)
    if match is None:
        raise BadInputError(
            f"{url[:200]!r} is not an address like https://moorage.corp.example:8443:"
            " http or https, host, optional port, and nothing behind"
        )
    scheme, host, port = match.groups()
    if port is None:
        return scheme, _host(host)
    if not 1 <= int(port) <= 65535:
        raise BadInputError(f"{port} is not a port, in {url}")
    suffix = "" if int(port) == DEFAULT_PORTS[scheme] else f":{int(port)}"
    return scheme, _host(host) + suffix


def pattern(text: str) -> None:
    r"""Check one GOPRIVATE pattern: "corp.example/*", "*.corp.example", "git.example/[a-f]*".

    Raises:
        BadInputError: `modulepattern` refuses it, or a class has a character that no module path
            has.
    """
    Pattern.parse(text)
    if not _PATTERN.fullmatch(text):
        raise BadInputError(f"{text!a} has a character that is in no module path")


def sumdb(value: str) -> None:
    """Check a GOSUMDB value: "off", a known log's name or a verifier key, and optionally its URL.

    Raises:
        BadInputError: value is something else; "on" too, which go calls a malformed key
            (golang/go#68782).
    """
    if value == "off":
        return
    log, *urls = value.split(" ")
    if log not in PUBLIC_LOGS:
        _verifier_key(log)
    if len(urls) > 1:
        raise BadInputError(f"GOSUMDB is a key and at most one URL, not {value[:300]!r}")
    for url in urls:
        _log_url(url)


def _log_url(url: str) -> None:
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    origin(scheme + separator + host)
    if not _URL_PATH.fullmatch(slash + path):
        raise BadInputError(f"{url[:200]!r} is not the URL of a checksum database")


def _verifier_key(text: str) -> None:
    name, _, rest = text.partition("+")
    key_hash, _, encoded = rest.partition("+")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    expected_hash = hashlib.sha256(name.encode() + b"\n" + key).hexdigest()[:8]
    if not (
        _LOG_NAME.fullmatch(name)
        and len(key) == 33
        and key.startswith(_ED25519)
        and key_hash == expected_hash
        and base64.b64encode(key).decode() == encoded
    ):
        raise BadInputError(
            f'GOSUMDB={text[:200]!r} is neither "off", sum.golang.org nor a verifier key'
            " name+hash+base64 whose hash is right"
        )


def toolchain(value: str) -> None:
    """Check a GOTOOLCHAIN value: "local", "auto", "path", "go1.27.3", "go1.27.3+auto".

    Raises:
        BadInputError: value is something else, or a language version such as "go1.27", which is
            not a toolchain.
    """
    match = _TOOLCHAIN.fullmatch(value)
    if match is None:
        raise BadInputError(f"{value[:80]!r} is not a GOTOOLCHAIN like local or go1.27.3+auto")
    name = match.group(1) or "local"
    if name == "local":
        return
    number = goversion.from_name(name)
    version = goversion.GoVersion.parse(number)
    if not version.patch and not version.kind:
        raise BadInputError(f"{name} is a language version; a toolchain is go{number}.0")
