"""The kinds of URLs in settings: one checker for each, as in `values.py`.

A checker returns the canonical form or raises ValueError. No message repeats a URL, which may hold
a credential: messages end in logs.
"""

import re
from urllib.parse import SplitResult, urlsplit

from app.core.hostname import DEFAULT_PORTS, HOST_NAME

_URL_HOST = re.compile(rf"{HOST_NAME}|[0-9a-f:]+:[0-9a-f:.]*", re.ASCII)
_BACKUP_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9._-]+)*/?", re.ASCII)
_S3_URL = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])"
    r"(?:/(?P<prefix>[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}(?:/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}){0,9}))?",
    re.ASCII,
)
# As SQLAlchemy reads it: a password may have "/", "?" and "#" in it.
_DATABASE_HOST = re.compile(
    r"(?:[^:/]*(?::[^@]*)?@)?(?:\[[^/?]+\]|[^/:?]*)(?::[0-9]{1,5})?(?:[/?]|$)", re.ASCII
)
_NOT_IN_A_URL = re.compile(r'[\s\\<>"]')


def http_url(url: str) -> str:
    """Return an absolute http(s) URL in its canonical form (RFC 3986 section 6.2.2, 6.2.3).

    Scheme and host become lower-case, a default port is dropped, an empty path becomes "/":
    "HTTPS://Go.dev:443/dl/" gives "https://go.dev/dl/".

    Raises:
        ValueError: another scheme, no host, a user name or password, a query, a fragment, or
            characters that no URL has. The message never repeats the URL.
    """
    if not url.isascii() or not url.isprintable() or _NOT_IN_A_URL.search(url):
        raise ValueError("it has a character that a URL cannot have")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("its host or port is malformed") from None
    _refuse_extras(url, parts)
    host = parts.hostname or ""
    bracketed = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{bracketed}{suffix}{parts.path or '/'}"


def _refuse_extras(url: str, parts: SplitResult) -> None:
    if parts.scheme not in DEFAULT_PORTS:
        raise ValueError("its scheme is neither https:// nor http://")
    if "@" in parts.netloc:
        raise ValueError("it has a user name or password in it")
    if "?" in url:
        raise ValueError("it has a query (?...)")
    if "#" in url:
        raise ValueError("it has a fragment (#...)")
    host = parts.hostname or ""
    if not _URL_HOST.fullmatch(host) or len(host) > 253:
        raise ValueError("it has no host, or a malformed one")
    if parts.port == 0:
        raise ValueError("its port is 0")


def base_url(url: str) -> str:
    """Return an `http_url` that ends in "/", so that names can be appended.

    Raises:
        ValueError: as in `http_url`.
    """
    canonical = http_url(url)
    return canonical if canonical.endswith("/") else canonical + "/"


def upstream_url(url: str) -> str:
    """Return an `http_url` that does not end in "/", as GOPROXY URLs are written.

    Raises:
        ValueError: as in `http_url`.
    """
    return http_url(url).rstrip("/")


def redirect_target(text: str) -> str:
    """Return a host, or an origin with its scheme, in canonical form: "cdn.example".

    Raises:
        ValueError: as in `http_url`, or there is a path.
    """
    origin = public_url(text if "://" in text else f"https://{text}")
    return origin if "://" in text else origin.removeprefix("https://")


def public_url(url: str) -> str:
    """Return scheme, host and port of an `http_url` without a path.

    Raises:
        ValueError: as in `http_url`, or there is a path.
    """
    canonical = http_url(url).rstrip("/")
    if canonical.count("/") > 2:
        raise ValueError("it has a path; clients find this service at the root of its host")
    return canonical


def backup_url(url: str) -> str:
    """Return the place of backups: an absolute path, or "s3://bucket" with or without a prefix.

    Raises:
        ValueError: it is neither.
    """
    if url.startswith("/") and url.isprintable():
        return url.rstrip("/") or "/"
    if _BACKUP_URL.fullmatch(url):
        return url.rstrip("/")
    raise ValueError('it is neither an absolute path nor "s3://bucket/prefix"')


def database_url(url: str) -> str:
    """Return url, unchanged, if Moorage can use its kind of database.

    Raises:
        ValueError: another scheme, or an SQLite database without a file. The message does not
            repeat the URL, which may hold a password.
    """
    if not url:
        raise ValueError("it is empty")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql+psycopg"):
        raise ValueError("its scheme is not one that is supported")
    if not url.isprintable() or " " in url:
        raise ValueError("it has a space or a control character")
    target = rest.partition("?")[0]
    if not target:
        raise ValueError("it names no database")
    if scheme == "sqlite" and (target[0] != "/" or target in ("/", "/:memory:")):
        raise ValueError("it names no file (a database in memory would be lost)")
    if scheme != "sqlite" and not _DATABASE_HOST.match(rest):
        raise ValueError("its host or port is malformed (in a password, @ is %40)")
    return url


def storage_url(url: str) -> str:
    """Return url if it is "s3://bucket" or "s3://bucket/prefix"; "file:" for the data directory.

    Raises:
        ValueError: it is neither, or a name in it has a character that not every server takes.
    """
    if url == "file:" or _S3_URL.fullmatch(url):
        return url
    raise ValueError("it names no bucket and no prefix of one")


def parse_storage_url(url: str) -> tuple[str, str] | None:
    """Return bucket and prefix of a checked `storage_url`; None for the data directory."""
    match = _S3_URL.fullmatch(url)
    return None if match is None else (match["bucket"], match["prefix"] or "")
