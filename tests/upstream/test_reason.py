"""`app.upstream.reason`: what a client sees of the text of a refusal."""

import pytest

from app.upstream.reason import MAX_READ_BYTES, reason_of

TEXT = {"content-type": "text/plain; charset=UTF-8"}
UNKNOWN = "not found: example.com/x@v1.0.0: invalid version: unknown revision v1.0.0"

CLEANED = [
    (f"{UNKNOWN}\r\n", UNKNOWN),
    ("one\n\ttwo\r\nthree", "one\n\ttwo\nthree"),
    ("x\a\x1b[31m evil\u202e", "x  [31m evil"),
    ("reading https://u:pw@a.example/x?go-get=1: 404", "reading https://a.example/x?go-get=1: 404"),
    ("at https://s.example/x?X-Sig=abc", "at https://s.example/x?(hidden)"),
    ("git ls-remote u:pw@a.example", "git ls-remote a.example"),
    ("git@a.example:org/repo", "git@a.example:org/repo"),
    ("dial tcp 10.0.0.7:443: refused", "dial tcp (hidden): refused"),
    ("dial tcp [fd00::1]:443", "dial tcp (hidden)"),
    ("dial tcp 8.8.8.8:443", "dial tcp 8.8.8.8:443"),
    ("http://127.0.0.1:9/x", "http://(hidden)/x"),
    ("http://nexus:8081/x", "http://(hidden)/x"),
    ("http://internal.example/x", "http://(hidden)/x"),
    ("lookup nexus.corp.lan: none", "lookup (hidden): none"),
    ("example.com/internal/x/internal.go", "example.com/internal/x/internal.go"),
    ("h1:abc= go.mod:3: v1.2.3.4", "h1:abc= go.mod:3: v1.2.3.4"),
    ("line\n" * 12, "\n".join(["line"] * 8)),
    ("é" * 400, "é" * 324),
    ("<html>declared as text</html>", ""),
    ("", ""),
]


@pytest.mark.parametrize(("body", "text"), CLEANED, ids=range(len(CLEANED)))
def test_a_text_is_cleaned_and_cut_to_what_go_shows(body: str, text: str) -> None:
    assert reason_of(body.encode(), TEXT) == text


@pytest.mark.parametrize(
    "content_type",
    ["text/html", "application/json", "text/plain; charset=utf-16", "text/plain-ish"],
)
def test_what_go_would_not_show_is_no_reason(content_type: str) -> None:
    assert reason_of(b"why", {"content-type": content_type}) == ""


def test_a_text_of_no_declared_kind_is_no_reason() -> None:
    assert reason_of(b"why", {}) == ""


def test_half_a_word_is_left_out_where_the_reading_ended() -> None:
    body = (b"see " + b"https://user:" + b"p" * MAX_READ_BYTES)[:MAX_READ_BYTES]
    assert reason_of(body, TEXT) == "see"
