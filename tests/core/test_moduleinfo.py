"""The .info of a module version: F46 and F73. What `go` reads is taken, and nothing else."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.errors import BadInputError
from app.core.moduleinfo import parse_info, parse_time


def info(**facts: object) -> bytes:
    return json.dumps({"Version": "v1.0.0", "Time": "2024-01-02T03:04:05Z", **facts}).encode()


INFOS = [
    (info(), "v1.0.0"),
    (info(Time=None), "v1.0.0"),
    (b'{"version":"v1.0.0"}', "v1.0.0"),
    (info(Origin={"VCS": "git"}, Other=[1]), "v1.0.0"),
    (info(Time="2024-01-02T03:04:05.123456789+02:00"), "v1.0.0"),
    (info(Time="2024-01-02T03:04:05.12345678901234567890Z"), "v1.0.0"),
    (info(Time="2024-01-02T03:04:05,5Z"), "v1.0.0"),
    (info(Time="2024-01-02T3:04:05+24:60"), "v1.0.0"),
    (info(Time="9999-12-31T23:59:59-14:00"), "v1.0.0"),
    (info(Time="0000-01-01T00:00:00Z"), "v1.0.0"),
    (b'{"Version":"v1.0.0","Name":"caf\xe9"}', "v1.0.0"),
    (info(Origin=None), "v1.0.0"),
    (info(Origin={"VCS": None, "Other": 1}), "v1.0.0"),
]
BAD_INFOS = [
    ("F46", b"<html>log in</html>", "not JSON"),
    ("F46", b"", "not JSON"),
    ("F46", b"[" * 100_000, "not JSON"),
    ("F46", b'"v1.0.0"', "not a JSON object"),
    ("F46", b"\xff\xfe", "not JSON"),
    ("F73", b"{}", "no Version"),
    ("F73", info(Version=1), "no Version"),
    ("F73", info(Version="v1.0.1"), "about version"),
    ("F73", info(Time="2024-02-30T00:00:00Z"), "RFC 3339"),
    ("F73", info(Time="2024-01-02t03:04:05Z"), "RFC 3339"),
    ("F73", info(Time="2024-01-02T03:04:05z"), "RFC 3339"),
    ("F73", info(Time="2024-01-02T03:04:60Z"), "RFC 3339"),
    ("F73", info(Time="2024-01-02T03:04:05+25:00"), "RFC 3339"),
    ("F73", info(Time="2024-01-02T03:04:05+00:61"), "RFC 3339"),
    ("F73", info(Origin="git"), "Origin"),
    ("F73", info(Origin={"VCS": 1}), "Origin"),
    ("F73", info(Origin={"hash": []}), "Origin"),
    ("F73", b"\xef\xbb\xbf" + info(), "not JSON"),
    ("F73", info().decode().encode("utf-16"), "not JSON"),
    ("F73", info().decode().encode("utf-32-le"), "not JSON"),
    ("F73", b'{"Version":"v1.0.0","X":NaN}', "not JSON"),
    ("F73", b'{"Version":"v1.0.0","X":-Infinity}', "not JSON"),
    ("F73", info() + b"{}", "not JSON"),
    ("F73", info(Time="yesterday"), "RFC 3339"),
    ("F73", info(Time=1700000000), "RFC 3339"),
    ("F73", info(Time=""), "RFC 3339"),
]


@pytest.mark.parametrize(("body", "version"), INFOS, ids=range(len(INFOS)))
def test_an_info_says_version_and_perhaps_time(body: bytes, version: str) -> None:
    assert parse_info(body, "example.com/x", asked="v1.0.0").version == version


@pytest.mark.parametrize(("number", "body", "why"), BAD_INFOS, ids=range(len(BAD_INFOS)))
def test_an_info_that_breaks_clients_is_refused(number: str, body: bytes, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        parse_info(body, "example.com/x", asked="v1.0.0")


def test_F73_a_query_must_resolve_to_a_version_that_fits_the_path() -> None:
    for version in ("master", "v2.0.0", "v1.0", "v1.0.0+meta", ""):
        with pytest.raises(BadInputError, match="not canonical"):
            parse_info(info(Version=version), "example.com/x", asked=None)


@settings(max_examples=300)
@given(
    st.one_of(st.binary(max_size=60), st.text(max_size=40).map(lambda t: info(Time=t, Version=t)))
)
def test_no_info_raises_anything_else(body: bytes) -> None:
    try:
        parse_info(body, "example.com/x", asked=None)
    except BadInputError as error:
        assert str(error).isascii()


def test_a_time_is_cut_to_microseconds_and_in_utc() -> None:
    when = datetime(2024, 1, 2, 1, 4, 5, 123456, tzinfo=UTC)
    assert parse_time("2024-01-02T03:04:05.1234567+02:00") == when
    assert parse_time("9999-12-31T23:59:59-14:00") is None
    assert parse_time("now") is None
