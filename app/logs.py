"""Logs: one event, one line, on stdout; JSON for machines, text for people at a terminal.

Events are constant lower-case words ("file ingested"); facts are keys. One chain handles all
events: of our loggers (structlog) and of the standard library's (uvicorn, SQLAlchemy, Alembic). The
chain removes credentials and escapes control characters, because values come from strangers: paths,
user agents, upstreams' errors (CWE-117). uvicorn must be started with `log_config=None`.
"""

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Callable, Hashable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor

Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "json", "text"]

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task serves. Every event of the task has it."""

trace_id: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The id of the request's trace, while requests are traced; set by `tracing`."""

REDACTED = "[redacted]"

# At INFO these loggers print whole URLs with credentials and query.
_QUIET = ("httpx", "httpcore", "uvicorn.access")

_SECRET_KEY = re.compile(r"token|secret|password|authorization|credential", re.IGNORECASE)
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*:/+)[^/\s\"'<>]*@", re.IGNORECASE)
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&\s]*(?:token|secret|password|authorization|credential)[^=&\s]*=)[^&\s\"'<>]+",
    re.IGNORECASE,
)
_BARE = re.compile(r"[^\s\"'=\\]+")
_FIRST = ("ts", "level", "source", "event")
_OF_THE_FORMATTER = frozenset({"_record", "_from_structlog"})
_MAX_DEPTH = 6
_BATCH_LINES = 128  # a write costs as much as rendering a dozen
_MAX_KNOWN = 4096


def get(name: str) -> FilteringBoundLogger:
    """Return the logger of a part of the program: `get("releases").info("index read", files=9)`."""
    return cast(FilteringBoundLogger, structlog.get_logger(source=name))


def configure(level: Level, format: Format, stream: TextIO | None = None) -> None:
    """Send all events of at least level to stream (None: stdout).

    format "auto" is text if stream is a terminal, else JSON. A later call replaces the earlier
    one.
    """
    global _output  # noqa: PLW0603 (logging is set up once for the process, as in the library)
    out = sys.stdout if stream is None else stream
    is_text = format == "text" or (format == "auto" and out.isatty())
    render = _render_text if is_text else _render_json
    lines = _Lines(out)
    _output = _Output(lines, is_text, logging.getLevelName(level.upper()) <= logging.INFO)
    chain: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        _add_ids,
        _brief_exception if is_text else _whole_exception,
        redact,
    ]
    structlog.configure(
        processors=[*chain, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,  # a logger used before this call would keep the old stream
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_add_source, *chain],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    _capture_standard_library(level, _LinesHandler(lines, formatter))


@dataclass(frozen=True, slots=True)
class _Output:
    """The current destination of events."""

    lines: "_Lines"
    is_text: bool
    shows_info: bool


_output: _Output | None = None


class Batch:
    """Many events of one kind, written together, at a tenth of the cost of single events.

    The event that fills a batch writes it. A batch of a whole second's events would make all
    requests wait.

    Args:
        source: the part of the program: "decisions".
        event: the constant name of the event.
        facts: returns the facts of an event from its parts. It is called, and what it returns is
            rendered, once for parts that are equal.
    """

    def __init__(self, source: str, event: str, facts: Callable[..., Mapping[str, Any]]) -> None:
        self._head = {"level": "info", "source": source, "event": event}
        self._facts = facts
        self._lines: list[str] = []
        self._fields = lru_cache(_MAX_KNOWN)(self._render_fields)
        self._second, self._second_text = -1, ""

    def add(
        self,
        at_s: float,
        parts: tuple[Hashable, ...],
        request_id: str | None = None,
        trace: str | None = None,
    ) -> None:
        """Take one event.

        Args:
            at_s: the time of the event, Unix time in seconds.
            parts: what the facts are made of.
            request_id: of the event's request alone; so not a part of what is rendered once.
            trace: the id of the request's trace, likewise.
        """
        if _output is None or not _output.shows_info:
            return
        if _output.is_text:
            ids = {"request_id": request_id, "trace": trace}
            rest = {k: v for k, v in ids.items() if v is not None}
            event = {"ts": self._time(at_s), **self._head, **self._facts(*parts), **rest}
            self._lines.append(_render_text(None, "info", redact(None, "info", event)))
        else:
            fields = self._fields(*parts)
            if request_id is not None:
                fields += f', "request_id": {json.dumps(request_id)}'
            if trace is not None:
                fields += f', "trace": {json.dumps(trace)}'
            self._lines.append(f'{{"ts": "{self._time(at_s)}", {fields}}}')
        if len(self._lines) >= _BATCH_LINES:
            self.write()

    def _render_fields(self, *parts: Hashable) -> str:
        return json.dumps(redact(None, "info", {**self._head, **self._facts(*parts)}))[1:-1]

    def _time(self, at_s: float) -> str:
        second = int(at_s)
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._second_text}.{int((at_s - second) * 1e6):06}Z"

    def write(self) -> None:
        """Write the events since the last write, in their order."""
        if self._lines and _output is not None:
            _output.lines.write("\n".join(self._lines))
        self._lines.clear()


def _capture_standard_library(level: Level, handler: logging.Handler) -> None:
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _LinesHandler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        ours = logging.getLogger(name)
        ours.handlers.clear()
        ours.propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class _Lines:
    """The stream of lines, the last logger of structlog's chain.

    A line that can't be written is dropped without an error: a full disk or a closed pipe behind
    stdout must not fail the request that logs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """Write one line; lines of other threads never mix with it."""
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = msg = write


class _LinesHandler(logging.Handler):
    """Sends the standard library's records to the same lines."""

    def __init__(self, lines: _Lines, formatter: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError, KeyError):  # the arguments do not fit the message
            self.handleError(record)
            return
        self._lines.write(line)


def _add_source(_logger: Any, _method: str, event: EventDict) -> EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["source"] = record.name
    return event


def _add_ids(_logger: Any, _method: str, event: EventDict) -> EventDict:
    current = request_id.get()
    if current is not None:
        event.setdefault("request_id", current)
    trace = trace_id.get()
    if trace is not None:
        event.setdefault("trace", trace)
    return event


def _whole_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace exc_info by the whole traceback; JSON keeps its newlines escaped."""
    if info := _exc_info(event):
        event["exception"] = "".join(traceback.format_exception(*info)).rstrip()
    return event


def _brief_exception(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Replace exc_info by "ValueError: no such key (store.py:12 < main.py:7)", innermost first."""
    if info := _exc_info(event):
        kind, error, trace = info
        frames = reversed(traceback.extract_tb(trace))
        places = " < ".join(f"{f.filename.rpartition('/')[2]}:{f.lineno}" for f in frames)
        event["exception"] = f"{kind.__name__}: {error} ({places})"
    return event


def _exc_info(event: EventDict) -> ExcInfo | None:
    info = event.pop("exc_info", None)
    if isinstance(info, BaseException):
        return type(info), info, info.__traceback__
    if info and not isinstance(info, tuple):
        info = sys.exc_info()
    return info if info and info[0] else None


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Return the event as plain JSON values without credentials.

    {"url": "https://u:p@host/x?token=1", "password": "p"} gives
    {"url": "https://[redacted]@host/x?token=[redacted]", "password": "[redacted]"}.
    """
    return {k: v if k in _OF_THE_FORMATTER else _plain(v, k) for k, v in event.items()}


def _plain(value: Any, key: str, depth: int = 0) -> Any:
    """Return value as JSON can hold it; other types become text."""
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(key):
        return REDACTED
    if isinstance(value, str):
        return _clean(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth < _MAX_DEPTH:
        if isinstance(value, dict):
            return {_clean(str(k)): _plain(v, str(k), depth + 1) for k, v in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [_plain(item, "", depth + 1) for item in value]
    return _clean(str(value))


@lru_cache(1024)  # keys are constants of the program; the search is a third of a line's cost
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


def _clean(text: str) -> str:
    if ":/" in text:
        text = _USERINFO.sub(rf"\1{REDACTED}@", text)
    if "=" in text:
        text = _SECRET_PARAMETER.sub(rf"\1{REDACTED}", text)
    return text


def _render_json(_logger: Any, _method: str, event: EventDict) -> str:
    # ASCII only: C1 controls, bidi marks and U+2028 are escaped as well.
    first = {key: event[key] for key in _FIRST if key in event}
    return json.dumps({**first, **event})


def _render_text(_logger: Any, _method: str, event: EventDict) -> str:
    """Return "2026-11-23T03:12:00Z info    releases: index read  files=9"."""
    when, level, source, what = (_escaped(str(event.pop(key, "-"))) for key in _FIRST)
    facts = "".join(f" {_escaped(key)}={_fact(value)}" for key, value in event.items())
    return f"{when} {level:<7} {source}: {what}{' ' if facts else ''}{facts}"


def _fact(value: Any) -> str:
    if not isinstance(value, str):
        return _escaped(json.dumps(value, ensure_ascii=False))
    return _escaped(value) if _BARE.fullmatch(value) else f'"{_escaped(value)}"'


def _escaped(text: str) -> str:
    r"""Return text as one printable line: a newline becomes "\n", escape "\x1b"."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
