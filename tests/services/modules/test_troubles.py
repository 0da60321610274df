"""Upstream's troubles in words: the class stays, the URL and upstream's own words go."""

import pytest

from app.core.errors import (
    DeniedError,
    GoneError,
    MoorageError,
    UnknownError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamRedirectError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
    VerificationError,
)
from app.services.modules.troubles import contradicted, for_client
from app.web.responses import error_answer, status_of
from tests.nouns import recorded_route

ROUTE = recorded_route(3, "corp.example/*", private=True)
URL, ORIGIN = "https://nexus.internal/repo/x", "https://nexus.internal"

NAME = "corp.example/x@v1.0.0"
FROM = {"origin": ORIGIN}
TROUBLES: list[tuple[UpstreamError, type[MoorageError], int, str]] = [
    (UpstreamAbsentError(f"{URL}: 404", **FROM, status=404), UnknownError, 404, "not found"),
    (UpstreamAbsentError(f"{URL}: 410", **FROM, status=410), GoneError, 410, "not found"),
    (
        UpstreamUnavailableError(f"{URL}: 503", **FROM, status=503, retry_after_s=7),
        UpstreamUnavailableError,
        503,
        "answered 503; try again in 7 s",
    ),
    (UpstreamUnavailableError(URL, **FROM), UpstreamUnavailableError, 503, "upstream is down"),
    (UpstreamTimeoutError(URL, **FROM), UpstreamTimeoutError, 504, "in time"),
    (UpstreamContentError(f"{URL} was cut", **FROM), UpstreamContentError, 502, "upstream"),
    (
        UpstreamContentError(f"{NAME} declares none", origin=""),
        UpstreamContentError,
        502,
        "declares none",
    ),
    (
        UpstreamRefusedError(f"{URL}: 401", **FROM, status=401),
        UpstreamRefusedError,
        502,
        "answered 401, it does not let this server in: it wants a credential, and gets none; tell",
    ),
    (
        UpstreamCredentialError(f"{URL}: 404", **FROM, status=404, kind="GitHub App"),
        UpstreamCredentialError,
        502,
        "answered 404, it does not let this server in: it refuses the GitHub App of the route",
    ),
    (UpstreamError(f"{URL}: TLS", **FROM), UpstreamError, 502, "log says why"),
]


@pytest.mark.parametrize(("error", "kind", "status", "words"), TROUBLES, ids=range(len(TROUBLES)))
def test_F48_a_client_is_told_what_helps_and_nothing_internal(
    error: UpstreamError, kind: type[MoorageError], status: int, words: str
) -> None:
    client_error = for_client(error, ROUTE, NAME)
    assert type(client_error) is kind
    assert status_of(client_error) == status
    assert words in str(client_error)
    assert NAME in str(client_error)
    assert "private route 3 (corp.example/*)" in str(client_error)
    for secret in ("nexus", "internal", "repo", "://"):
        assert secret not in str(client_error)


def test_the_text_of_a_public_upstream_is_the_whole_answer_and_the_log_has_the_rest() -> None:
    error = UpstreamAbsentError(f"{URL}: 410", origin=ORIGIN, status=410)
    error.upstream_text = "gone: withdrawn\nby its author"
    public = for_client(error, recorded_route(4, "*"), NAME)
    assert error_answer(public).status == 410
    assert error_answer(public).body == b"gone: withdrawn\nby its author\n"
    assert str(public) == f"{NAME} is not found upstream (route 4 (*), {ORIGIN})"
    assert "withdrawn" not in error_answer(for_client(error, ROUTE, NAME)).body.decode()


def test_the_reason_of_another_proxy_is_passed_on() -> None:
    error = UpstreamError(f"{URL}: 403", origin=ORIGIN, status=403)
    error.upstream_text = "denied: its licence"
    answer = error_answer(for_client(error, recorded_route(4, "*"), NAME))
    assert (answer.status, answer.body) == (502, b"denied: its licence\n")


def test_a_redirect_that_is_not_allowed_names_the_host_and_the_option() -> None:
    error = UpstreamRedirectError(
        f"{URL} redirects", origin=ORIGIN, target="cdn.example", status=None
    )
    shown = str(for_client(error, ROUTE, NAME))
    assert "redirects to cdn.example" in shown
    assert "moorage route update --redirect-to cdn.example" in shown
    assert "nexus" not in shown
    assert status_of(for_client(error, ROUTE, NAME)) == 502


def test_what_is_not_upstreams_trouble_stays_as_it_is() -> None:
    error = DeniedError("no")
    assert for_client(error, ROUTE, "x") is error


def test_F74_a_contradiction_is_a_failed_verification() -> None:
    error = contradicted("a is recorded with h1:x, and upstream sent h1:y")
    assert isinstance(error, VerificationError)
    assert status_of(error) == 502
