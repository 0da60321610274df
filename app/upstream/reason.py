"""Why an upstream refuses: the text of its refusal, cleaned so that a client may see it.

The limits are those of cmd/go/internal/web/api.go, which shows the text after "server response:".
Not here: which routes pass the text on (`services/modules/troubles`).
"""

import re
from collections.abc import Mapping
from email.message import Message

from app.upstream.address import kind_of_text

MAX_LINES = 8
MAX_BYTES = 648
MAX_READ_BYTES = 2048  # of a refusal's body; the cleaned text is never longer than 648

_CHARSETS = ("", "utf-8", "us-ascii")  # the ones that `go` shows
_HIDDEN = "(hidden)"
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]{1,20}://)(?P<authority>[^\s/?#\"'<>]*)", re.I)
_QUERY = re.compile(r"(://[^\s?\"'<>]*)\?(?!go-get=1\b)[^\s\"'<>]*")
_PRIVATE_LABELS = r"corp|home|internal|intranet|lan|local|localdomain|localhost|private"
_PRIVATE_LABEL = re.compile(rf"(?:^|\.)(?:{_PRIVATE_LABELS})(?:\.|$)", re.I)
_PRIVATE_NAME = re.compile(
    rf"(?<![\w./@-])(?:localhost|[\w-]+(?:\.[\w-]+)*\.(?:{_PRIVATE_LABELS}))(?::\d+)?(?![\w.-]*\w)",
    re.I,
)
_USER_AT = re.compile(r"(?<![^\s\"'(=])[^\s/@:]+:[^\s/@]+@(?=[\w.-]+)")
_ADDRESS = re.compile(
    r"\[?(?<![\w.:])(?P<address>\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]*:[0-9a-f]*:[0-9a-f:.]*)"
    r"(?:%\w+)?\]?(?::\d+)?(?![\w])",
    re.I,
)


def reason_of(body: bytes, headers: Mapping[str, str]) -> str:
    r"""Return the text of a refusal: at most 8 lines and 648 bytes as `go` counts; "" for none.

    b"not found: dial tcp 10.0.0.7:443: refused\r\n" gives "not found: dial tcp (hidden): refused".

    Args:
        body: the beginning of the body, at most MAX_READ_BYTES.
        headers: of the answer, names in lower case. The text must be text/plain, in UTF-8 or ASCII.
    """
    message = Message()
    message["content-type"] = headers.get("content-type", "application/octet-stream")
    charset = str(message.get_param("charset", "")).lower()
    if message.get_content_type() != "text/plain" or charset not in _CHARSETS:
        return ""
    if len(body) >= MAX_READ_BYTES:  # half a word could be half a secret
        body = body[: max(body.rfind(b" "), body.rfind(b"\n"), 0)]
    text = body.decode("utf-8", "replace").replace("\r\n", "\n").strip()
    if text.startswith("<"):  # a page that is declared as text
        return ""
    printable = "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)
    return _cut(_without_secrets(printable))


def _without_secrets(text: str) -> str:
    """Return text without credentials, signatures in queries, and hosts of a private network."""
    text = _URL.sub(_clean_url, text)
    text = _QUERY.sub(rf"\1?{_HIDDEN}", text)
    text = _USER_AT.sub("", text)
    text = _ADDRESS.sub(_clean_address, text)
    return _PRIVATE_NAME.sub(_HIDDEN, text)


def _clean_url(match: re.Match[str]) -> str:
    host = match["authority"].rpartition("@")[2]
    name = host if host.startswith("[") else host.partition(":")[0]
    is_private = "." not in name or _PRIVATE_LABEL.search(name)
    return match["scheme"] + (_HIDDEN if is_private and ":" not in name else host)


def _clean_address(match: re.Match[str]) -> str:
    return _HIDDEN if kind_of_text(match["address"]) else match[0]


def _cut(text: str) -> str:
    """Return the lines that `go` shows; it begins each one but the first with a tab."""
    lines = "\n".join(text.split("\n")[:MAX_LINES]).strip()
    raw = lines.replace("\n", "\n\t").encode("utf-8", "replace")[:MAX_BYTES]
    return raw.decode("utf-8", "ignore").replace("\n\t", "\n").strip()
