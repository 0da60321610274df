"""`app.upstream.status`."""

import pytest

from app.core.errors import (
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamError,
    UpstreamRefusedError,
    UpstreamUnavailableError,
)
from app.upstream.breaker import Verdict
from app.upstream.status import refusal
from app.upstream.url import Url

NOW = 784111770.0
URL = Url.parse("https://up.example/a?token=s3cret")


@pytest.mark.parametrize(
    ("status", "error", "verdict", "is_tried_again"),
    [
        (404, UpstreamAbsentError, Verdict.SUCCESS, False),
        (410, UpstreamAbsentError, Verdict.SUCCESS, False),
        (400, UpstreamError, Verdict.SUCCESS, False),
        (401, UpstreamRefusedError, Verdict.SUCCESS, False),
        (403, UpstreamRefusedError, Verdict.SUCCESS, False),
        (407, UpstreamRefusedError, Verdict.SUCCESS, False),
        (451, UpstreamError, Verdict.SUCCESS, False),
        (408, UpstreamUnavailableError, Verdict.FAILURE, True),
        (429, UpstreamUnavailableError, Verdict.THROTTLE, True),
        (500, UpstreamUnavailableError, Verdict.FAILURE, True),
        (501, UpstreamUnavailableError, Verdict.FAILURE, False),
        (503, UpstreamUnavailableError, Verdict.FAILURE, True),
        (203, UpstreamContentError, Verdict.IGNORED, False),
        (204, UpstreamContentError, Verdict.IGNORED, False),
        (206, UpstreamContentError, Verdict.IGNORED, False),
        (304, UpstreamContentError, Verdict.IGNORED, False),
    ],
)
def test_every_status_has_one_meaning(status, error, verdict, is_tried_again):
    failed = refusal(URL, status, {}, NOW, had_credential=False)
    assert type(failed.error) is error
    assert (failed.verdict, failed.again) == (verdict, is_tried_again)
    assert isinstance(failed.error, UpstreamError)
    assert failed.error.status == status
    assert str(failed.error).startswith(f"https://up.example/a answered {status}")


def test_F49_the_upstreams_wait_is_passed_on():
    failed = refusal(URL, 503, {"retry-after": "3600"}, NOW, had_credential=False)
    assert isinstance(failed.error, UpstreamUnavailableError)
    assert (failed.wait_s, failed.error.retry_after_s) == (3600.0, 3600)
