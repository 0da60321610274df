"""What a node says to the server, and what the server answers: enrolment, check-ins, reports.

A report that does not arrive fails nothing: the last result goes with every check-in.
"""

from __future__ import annotations

import platform
import secrets
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import VERSION
from .errors import NodeError, RefusedError
from .goversion import this_platform
from .instant import parse_instant, show_instant
from .snapshot import records
from .state import Identity, State

if TYPE_CHECKING:
    from .fetch import Servers
    from .layout import Layout
    from .transfer import Seconds

STAY, UPDATE, HOLD = "stay", "update", "hold"


@dataclass(frozen=True)
class Order:
    """The server's answer to a check-in.

    Attributes:
        action: STAY, UPDATE or HOLD.
        grant, rollout: ids; "" without an update.
        manifest: the signed note; no bytes without an update.
        server_time: seconds since 1970; None if the answer has none.
        next_check_s: when to ask next.
        reason: a line for people.
        channel: that the node follows from now on.
        is_released: an operator has the node take what was rolled back by hand on it.
        trace: trace id of check-in and reports, 32 hex digits.
    """

    action: str
    grant: str
    rollout: str
    manifest: bytes
    server_time: int | None
    next_check_s: float
    reason: str
    channel: str
    trace: str
    is_released: bool = False


def facts() -> dict[str, str]:
    """Return what the server is told about the machine."""
    system, _, arch = this_platform().partition("-")
    return {
        "os": system,
        "arch": arch,
        "hostname": socket.gethostname()[:253],
        "python": platform.python_version(),
    }


def enroll(servers: Servers, token: str, name: str) -> tuple[Identity, int | None]:
    """Return the identity that the server gives for an enrolment token, and the server's time.

    Raises:
        NetworkError: no server took the token.
        RefusedError: the answer lacks something.
    """
    # One try: a token may be good for one use, and the answer may have been lost on the way.
    document = {"token": token, "name": name, "facts": facts()}
    answer = servers.post("/fleet/v1/enroll", document, tries=1)
    try:
        identity = Identity(
            node=_text(answer["node"]),
            token=_text(answer["token"]),
            vkey=_text(answer["vkey"]),
            channel=_text(answer["channel"]),
            group=str(answer.get("group", "")),
        )
    except KeyError as error:
        raise RefusedError(f"the server's answer to the enrolment lacks {error}") from error
    return identity, _time_of(answer)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise RefusedError("the server's answer to the enrolment is of another form")
    return value


def _time_of(answer: dict[str, Any]) -> int | None:
    try:
        return parse_instant(answer["server_time"])
    except (KeyError, NodeError):
        return None


def check_in(servers: Servers, layout: Layout, identity: Identity, state: State) -> Order:
    """Return what the server wants this node to do.

    Raises:
        NetworkError: no server answered.
        RefusedError: the answer is of another form.
    """
    trace = secrets.token_hex(16)
    current = layout.current_version()
    document = {
        "node": identity.node,
        "program": VERSION,
        "channel": identity.channel,
        "current": current or "",
        "installed": [record.version for record in records(layout)],
        "seen_revision": state.seen.get(identity.channel, 0),
        "drift": state.drift,
        "facts": facts(),
        "last": state.last,
        "declined": state.declined_of(identity.channel, current),
        "clock": show_instant(time.time()),
    }
    headers = {"traceparent": traceparent(trace)}
    answer = servers.post("/fleet/v1/check", document, headers=headers)
    action, manifest = answer.get("action"), answer.get("manifest") or ""
    wait = answer.get("next_check_s", 0)
    if action not in (STAY, UPDATE, HOLD) or not isinstance(manifest, str):
        raise RefusedError(f"the server's answer to the check-in is of another form: {action!a}")
    return Order(
        action=action,
        grant=str(answer.get("grant") or ""),
        rollout=str(answer.get("rollout") or ""),
        manifest=manifest.encode(),
        server_time=_time_of(answer),
        next_check_s=float(wait) if isinstance(wait, (int, float)) else 0.0,
        reason=str(answer.get("reason") or "")[:500],
        channel=str(answer.get("channel") or identity.channel),
        trace=_trace_of(answer.get("traceparent")) or trace,
        is_released=answer.get("released") is True,
    )


def traceparent(trace: str) -> str:
    """Return the header of W3C Trace Context for a trace id: a new span each time."""
    return f"00-{trace}-{secrets.token_hex(8)}-01"


def _trace_of(header: Any) -> str:
    parts = header.split("-") if isinstance(header, str) else []
    return parts[1] if len(parts) == 4 and len(parts[1]) == 32 else ""


class Reporter:
    """Tells the server the events of one grant.

    Attributes:
        version: that the grant is about; "" while the manifest is not accepted.
        lost: count of reports that did not arrive.
    """

    def __init__(
        self, servers: Servers, identity: Identity, order: Order, seconds: Seconds
    ) -> None:
        self._servers = servers
        self._identity = identity
        self._order = order
        self._seconds = seconds
        self.version = ""
        self.lost = 0

    def tell(self, event: str, stage: str, reason: str) -> None:
        """Send one event; a failure is counted and no more."""
        document = {
            "node": self._identity.node,
            "grant": self._order.grant,
            "event": event,
            "stage": stage,
            "reason": reason[:500],
            "seconds": dict(self._seconds.stages),
            "version": self.version,
        }
        headers = {"traceparent": traceparent(self._order.trace)}
        try:
            self._servers.post("/fleet/v1/report", document, headers=headers)
        except NodeError:
            self.lost += 1


def result_of(order: Order, version: str, *, failure: NodeError | None) -> dict[str, str]:
    """Return the `last` of the next check-ins; version is "" if no manifest was accepted."""
    return {
        "version": version,
        "grant": order.grant,
        "result": "succeeded" if failure is None else "failed",
        "stage": "switched" if failure is None else failure.stage,
        "reason": "" if failure is None else str(failure)[:500],
    }
