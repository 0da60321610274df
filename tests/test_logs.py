"""Logs: one event is one line without credentials, whoever logs it."""

import io
import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from app import logs

CANARY = "hunter2-canary"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class BrokenPipe(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def events(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def as_json(level: logs.Level = "info") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, "json", stream)
    return stream


def as_text() -> io.StringIO:
    stream = io.StringIO()
    logs.configure("info", "text", stream)
    return stream


def test_an_event_is_one_json_object_with_time_level_and_source():
    stream = as_json()
    logs.get("releases").info("file ingested", filename="go1.27.3.src.tar.gz", bytes=10)
    (event,) = events(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", str(event.pop("ts")))
    assert event == {
        "level": "info",
        "source": "releases",
        "event": "file ingested",
        "filename": "go1.27.3.src.tar.gz",
        "bytes": 10,
    }


def test_text_is_for_people():
    stream = as_text()
    logs.get("releases").warning("index is old", age_s=9000, why="no answer", empty="")
    line = stream.getvalue()
    expected = 'Z warning releases: index is old  age_s=9000 why="no answer" empty=""\n'
    assert line.endswith(expected)


@pytest.mark.parametrize(
    ("stream", "format", "is_json"),
    [
        (io.StringIO(), "auto", True),
        (Terminal(), "auto", False),
        (Terminal(), "json", True),
        (io.StringIO(), "text", False),
    ],
)
def test_auto_is_text_on_a_terminal_alone(stream, format, is_json):
    logs.configure("info", format, stream)
    logs.get("x").info("started")
    assert stream.getvalue().startswith("{") == is_json


def test_events_below_the_level_are_dropped():
    stream = as_json("warning")
    for source in (logs.get("x"), logging.getLogger("other")):
        source.info("little")
        source.warning("much")
    assert [event["event"] for event in events(stream)] == ["much", "much"]


def test_a_logger_made_before_configure_follows_the_last_configure():
    logger = logs.get("x")
    old = as_json()
    logger.info("first")
    new = as_json()
    logger.info("second")
    logging.getLogger("other").info("third")
    assert [event["event"] for event in events(old)] == ["first"]
    assert [event["event"] for event in events(new)] == ["second", "third"]


def test_the_request_id_is_on_every_event_of_the_request():
    stream = as_json()
    token = logs.request_id.set("r-1")
    logs.get("x").info("one")
    logging.getLogger("sqlalchemy.pool").warning("two")
    logs.request_id.reset(token)
    logs.get("x").info("three")
    assert [event.get("request_id") for event in events(stream)] == ["r-1", "r-1", None]


@pytest.mark.parametrize("name", ["uvicorn.error", "sqlalchemy.engine", "alembic.runtime"])
def test_the_standard_library_goes_through_the_same_chain(name):
    logging.getLogger(name).handlers.clear()
    stream = as_json()
    logging.getLogger(name).warning("%s at %s", "trouble", f"https://u:{CANARY}@h/x")
    (event,) = events(stream)
    assert (event["source"], event["level"]) == (name, "warning")
    assert event["event"] == "trouble at https://[redacted]@h/x"


def test_handlers_that_uvicorn_installed_print_nothing_twice():
    elsewhere = io.StringIO()
    logger = logging.getLogger("uvicorn")
    logger.addHandler(logging.StreamHandler(elsewhere))
    logger.propagate = False
    stream = as_json()
    logger.warning("started")
    assert len(events(stream)) == 1
    assert elsewhere.getvalue() == ""


@pytest.mark.parametrize("name", ["httpx", "httpcore.connection", "uvicorn.access"])
def test_loggers_that_print_whole_urls_are_quiet_below_warning(name):
    stream = as_json("debug")
    logging.getLogger(name).info(f"GET https://h/?sig={CANARY}")
    assert stream.getvalue() == ""


URLS = [
    (f"https://user:{CANARY}@h/x", "https://[redacted]@h/x"),
    (f"https://{CANARY}@h/x", "https://[redacted]@h/x"),
    (f"https://user:a@b{CANARY}@h/x", "https://[redacted]@h/x"),
    (f"postgresql+psycopg://m:{CANARY}@db/m", "postgresql+psycopg://[redacted]@db/m"),
    (f"https:/u:{CANARY}@h/x", "https:/[redacted]@h/x"),
    (f"see HTTPS://u:{CANARY}@h/ now", "see HTTPS://[redacted]@h/ now"),
    (f"/x?a=1&X-Token={CANARY}&b=2", "/x?a=1&X-Token=[redacted]&b=2"),
    (f"/x?client_secret={CANARY}", "/x?client_secret=[redacted]"),
    ("https://h:8080/github.com/x/y/@v/v1.0.0.zip",) * 2,
]


@pytest.mark.parametrize(("url", "shown"), URLS)
@pytest.mark.parametrize("start", [as_json, as_text])
def test_credentials_in_urls_are_redacted_wherever_they_are(start, url, shown):
    stream = start()
    logger = logs.get("x")
    logger.info("tried", url=url, nested={"urls": [url, (url,)]}, path=Path(url))
    logger.info(url)
    try:
        raise ValueError(f"no answer from {url}")
    except ValueError as error:
        logger.exception("failed", error=error)
    assert CANARY not in stream.getvalue()
    if start is as_json:
        assert events(stream)[0]["url"] == shown
        assert f"no answer from {shown}" in str(events(stream)[2]["exception"])


@dataclass
class Opaque:
    url: str


@pytest.mark.parametrize(
    "facts",
    [
        {"token": CANARY},
        {"X_Auth_Token": CANARY},
        {"PASSWORD": CANARY},
        {"client_secret": CANARY.encode()},
        {"headers": {"Authorization": f"Basic {CANARY}"}},
        {"credential": {"value": CANARY}},
        {"credentials": [CANARY]},
        {"token": 20261123},
        {"thing": Opaque(f"https://u:{CANARY}@h/")},
        {"raw": f"https://u:{CANARY}@h/".encode()},
        {"deep": [[[[[[[{"token": f"https://u:{CANARY}@h/"}]]]]]]]},
    ],
)
@pytest.mark.parametrize("start", [as_json, as_text])
def test_values_under_secret_keys_and_in_odd_types_are_redacted(start, facts):
    stream = start()
    logs.get("x").info("tried", **facts)
    assert CANARY not in stream.getvalue()
    assert "20261123" not in stream.getvalue().partition("tried")[2]
    assert logs.REDACTED in stream.getvalue()


def test_absent_and_true_are_no_secrets():
    stream = as_json()
    logs.get("x").info("asked", token=None, has_token=True)
    assert (events(stream)[0]["token"], events(stream)[0]["has_token"]) == (None, True)


def test_what_json_has_no_word_for_becomes_text():
    stream = as_json()
    logs.get("x").info("odd", nan=float("nan"), path=Path("/a"), items={1}, number=1.5)
    (event,) = events(stream)
    odd = (event["nan"], event["path"], event["items"], event["number"])
    assert odd == ("nan", "/a", [1], 1.5)


HOSTILE = [
    "a\r\n2026-01-01T00:00:00Z error admin: logged in",
    "\x1b[2J\x1b[31mred",
    "\x9b31m",
    "nul\x00bell\x07delete\x7f",
    "line\u2028separator\u2029next\x85line\x0b\x0c",
    "right\u202eto left",
]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("start", [as_json, as_text])
def test_F102_control_characters_in_any_place_leave_one_printable_line(start, value):
    stream = start()
    token = logs.request_id.set(value)
    logs.get("x").info(
        value, user_agent=value, nested={value: [value]}, raw=value.encode("utf-8", "replace")
    )
    logging.getLogger("uvicorn.error").error("from %s", value)
    logs.request_id.reset(token)
    lines = stream.getvalue().split("\n")
    assert len(lines) == 3
    assert lines[2] == ""
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("start", [as_json, as_text])
def test_F102_a_lone_surrogate_is_escaped(start):
    stream = start()
    logs.get("x").info("asked", path="/dl/\udcff")
    assert "/dl/\\udcff" in stream.getvalue()


@pytest.mark.parametrize("start", [as_json, as_text])
def test_F102_an_exception_is_one_line_and_names_its_place(start):
    stream = start()
    try:
        raise ValueError("first\nsecond\x1b[0m")
    except ValueError:
        logs.get("x").exception("loop failed")
        logging.getLogger("uvicorn.error").exception("app failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() and "test_logs.py" in line for line in lines)
    assert all("ValueError: first\\nsecond" in line for line in lines)


def test_exc_info_outside_of_an_exception_adds_nothing():
    stream = as_json()
    logs.get("x").error("failed", exc_info=True)
    assert "exception" not in events(stream)[0]


def test_a_given_exception_is_printed():
    stream = as_text()
    logs.get("x").error("failed", exc_info=KeyError("k"))
    assert "exception=\"KeyError: 'k' ()\"" in stream.getvalue()


def test_a_line_that_cannot_be_written_does_not_fail_the_caller():
    logs.configure("info", "json", BrokenPipe())
    logs.get("x").info("served")
    logging.getLogger("other").error("served")


def test_a_record_that_its_arguments_do_not_fit_does_not_fail_the_caller(capsys):
    as_json()
    root = logging.getLogger()
    root.handlers[:] = root.handlers[-1:]  # pytest's own handlers raise
    root.error("%d files", "no")
    assert "Logging error" in capsys.readouterr().err


def test_events_of_a_batch_are_those_that_single_ones_would_be():
    stream = as_json()
    batch = logs.Batch("goproxy", "decision", lambda *parts: dict(parts))
    for client in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        batch.add(1_764_079_200.5, (("module", "x"), ("token", CANARY), ("client", client)))
    batch.write()
    first, second, third = events(stream)
    assert first == second == {**third, "client": "192.0.2.1"}
    assert list(first.items()) == [
        ("ts", "2025-11-25T14:00:00.500000Z"),
        ("level", "info"),
        ("source", "goproxy"),
        ("event", "decision"),
        ("module", "x"),
        ("token", logs.REDACTED),
        ("client", "192.0.2.1"),
    ]


def test_a_batch_makes_the_facts_of_equal_parts_once():
    asked: list[int] = []

    def facts(number: int) -> dict[str, int]:
        asked.append(number)
        return {"number": number}

    stream, batch = as_json(), logs.Batch("goproxy", "decision", facts)
    for number in (1, 2, 1, 1):
        batch.add(0.0, (number,))
    batch.write()
    assert asked == [1, 2]
    assert [event["number"] for event in events(stream)] == [1, 2, 1, 1]


def numbered(number: int) -> dict[str, int]:
    return {"number": number}


def test_a_full_batch_is_written_by_the_event_that_fills_it():
    stream, batch = as_json(), logs.Batch("goproxy", "decision", numbered)
    for number in range(1000):
        batch.add(0.0, (number,))
    assert 0 < 1000 - len(events(stream)) < 200
    batch.write()
    assert [event["number"] for event in events(stream)] == list(range(1000))


def test_an_event_of_a_batch_has_the_ids_of_its_own_request():
    stream, batch = as_json(), logs.Batch("goproxy", "decision", numbered)
    for request_id, trace in ((None, None), ("one", "of all"), ("two", None)):
        batch.add(0.0, (1,), request_id, trace)
    batch.write()
    ids = [(event.get("request_id"), event.get("trace")) for event in events(stream)]
    assert ids == [(None, None), ("one", "of all"), ("two", None)]
    assert "request_id" not in events(stream)[0]


def test_a_batch_at_a_terminal_is_text():
    stream = as_text()
    batch = logs.Batch("goproxy", "decision", lambda module: {"module": module, "bytes": 3})
    batch.add(0.0, ("x\x1b",), request_id=None)
    batch.write()
    assert stream.getvalue() == (
        "1970-01-01T00:00:00.000000Z info    goproxy: decision  module=x\\x1b bytes=3\n"
    )


def test_a_batch_below_the_level_writes_nothing():
    stream, batch = as_json("warning"), logs.Batch("goproxy", "decision", numbered)
    batch.add(0.0, (1,))
    batch.write()
    assert stream.getvalue() == ""
