"""Messages of git hosts, signed right and wrong.

The bodies are written after each host's documentation. Compared with published examples of pushes
(go-playground/webhooks v6.4.0, @octokit/webhooks-examples 7.6.1, both MIT) they lack only details
of the repository, and GitHub's `organization` and `installation`; nothing here reads these.
"""

import hmac
import json
from hashlib import sha256
from pathlib import Path

import pytest

from app.core.errors import BadInputError, UnauthenticatedError
from app.core.githook import Push, path_secret, verified_push

SECRET = "It's a Secret to Everybody"
BODIES = Path(__file__).parents[1] / "fakes" / "githooks"


def body_of(host: str) -> bytes:
    return (BODIES / f"{host}.json").read_bytes()


def signed(host: str, body: bytes, secret: str = SECRET, event: str = "") -> dict[str, str]:
    """Return the headers that a host sends."""
    digest = hmac.new(secret.encode(), body, sha256).hexdigest()
    if host == "gitlab":
        return {"x-gitlab-event": event or "Push Hook", "x-gitlab-token": secret}
    headers = {"x-github-event": event or "push", "x-hub-signature-256": f"sha256={digest}"}
    if host == "gitea":
        headers |= {"x-gitea-event": event or "push", "x-gitea-signature": digest}
    return headers


@pytest.mark.parametrize("host", ["github", "gitlab", "gitea"])
def test_a_push_names_its_repository(host: str) -> None:
    body = body_of(host)
    event = "push hook" if host == "gitlab" else "push"
    assert verified_push(signed(host, body), body, SECRET) == Push(host, event, "acme/lib")


@pytest.mark.parametrize(
    ("host", "event"),
    [
        ("gitlab", "Tag Push Hook"),
        ("github", "create"),
        ("github", "delete"),
        ("gitea", "create"),
    ],
)
def test_tags_are_pushes_too(host: str, event: str) -> None:
    body = body_of(host)
    assert verified_push(signed(host, body, event=event), body, SECRET).repository == "acme/lib"


@pytest.mark.parametrize("host", ["github", "gitlab", "gitea"])
def test_other_events_change_nothing(host: str) -> None:
    assert verified_push(signed(host, b"{}", event="ping"), b"{}", SECRET).repository == ""


@pytest.mark.parametrize("host", ["github", "gitlab", "gitea"])
def test_a_wrong_signature_is_refused(host: str) -> None:
    body = body_of(host)
    with pytest.raises(UnauthenticatedError, match="signature is wrong"):
        verified_push(signed(host, body, "another"), body, SECRET)
    if host != "gitlab":  # its token signs nothing
        with pytest.raises(UnauthenticatedError, match="signature is wrong"):
            verified_push(signed(host, body), body + b" ", SECRET)


def test_giteas_signature_counts_where_github_s_is_right_too() -> None:
    body = body_of("gitea")
    headers = signed("gitea", body) | {"x-gitea-signature": "00"}
    with pytest.raises(UnauthenticatedError):
        verified_push(headers, body, SECRET)


@pytest.mark.parametrize(
    "headers",
    [{}, {"x-github-event": "push"}, {"x-hub-signature": "sha1=00", "x-github-event": "push"}],
    ids=["none", "event alone", "sha1"],
)
def test_without_a_signature_it_is_refused(headers: dict[str, str]) -> None:
    with pytest.raises(UnauthenticatedError, match="no signature"):
        verified_push(headers, body_of("github"), SECRET)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload=%7B%7D",
        b"[]",
        b"{}",
        b'{"repository": "acme/lib"}',
        b'{"repository": {"full_name": 7}}',
        b'{"repository": {"full_name": ""}}',
        b'{"repository": {"full_name": "a\\nb"}}',
        json.dumps({"repository": {"full_name": "x" * 501}}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_body_without_a_repository_is_malformed(body: bytes) -> None:
    with pytest.raises(BadInputError):
        verified_push(signed("github", body), body, SECRET)


def test_the_urls_secret_does_not_sign() -> None:
    body = body_of("github")
    assert len(path_secret(SECRET)) == 32
    with pytest.raises(UnauthenticatedError):
        verified_push(signed("github", body, path_secret(SECRET)), body, SECRET)


def test_githubs_own_example_of_a_signature() -> None:
    # docs.github.com, "Validating webhook deliveries": payload "Hello, World!".
    headers = {
        "x-github-event": "ping",
        "x-hub-signature-256": (
            "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        ),
    }
    assert verified_push(headers, b"Hello, World!", SECRET).event == "ping"
