"""How rollouts, nodes and webhooks are shown to people."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.cli.output import table

if TYPE_CHECKING:
    from app.cli.output import Shown

_CLOCK_OFF_S = 60.0
"""Seconds by which a node's clock may be wrong before `node list` says so."""


def rollout_line(result: dict[str, Any]) -> str:
    """Return a rollout with its results as one line."""
    parts = [
        f"rollout {result['id']} of {result['channel']} to revision {result['to_revision']}",
        f"({result['version']})" if result.get("version") else "",
        f"{result['state']}, step {result['step']} of {result['steps']}:",
        f"{result['succeeded']} of {result['size']} succeeded, {result['failed']} failed,",
        f"{result['out']} changing, {result['waiting']} waiting",
    ]
    reason = f"; {result['reason']}" if result["reason"] else ""
    return " ".join(part for part in parts if part) + reason


def rollout_status(result: dict[str, Any]) -> "Shown":
    """Return a rollout with its plan, results and failures."""
    plan = result["plan"]
    steps = ", ".join(map(_step, plan["steps"]))
    lines = [
        ("rollout", result["id"]),
        (
            "channel",
            f"{result['channel']}, revision {result['from_revision'] or 'none'} to "
            f"{result['to_revision']} ({result['version']})",
        ),
        ("state", f"{result['state']}{': ' if result['reason'] else ''}{result['reason']}"),
        ("step", f"{result['step']} of {result['steps']}: {steps}"),
        (
            "results",
            f"{result['succeeded']} of {result['size']} succeeded, {result['failed']} "
            f"failed, {result['out']} changing, {result['waiting']} waiting",
        ),
        ("nodes", f"{result['total']} in all"),
        (
            "limits",
            f"halts above {plan['max_failure_percent']} % failures of at least "
            f"{plan['min_results']} results, goes on at {plan['min_success_percent']} %, "
            f"{plan['max_parallel']} at once, on halt: {plan['on_halt']}",
        ),
        ("windows", "; ".join(plan["windows"])),
        ("started", _time(result["started_at"])),
    ]
    text = "\n".join(f"{name:<9}{value}" for name, value in lines if value)
    if not result["failures"]:
        return text
    rows = [
        (f["name"], f["node"], f["stage"], f["reason"], f["trace"], _time(f["at"]))
        for f in result["failures"]
    ]
    return (text, table(("FAILED", "NODE", "STAGE", "REASON", "TRACE", "AT"), rows))


def rollouts(result: list[dict[str, Any]]) -> "Shown":
    """Return rollouts as a table."""
    if not result:
        return "there was no rollout; start one with `moorage rollout start CHANNEL VERSION`"
    rows = [
        (
            r["id"],
            r["channel"],
            r["to_revision"],
            r["state"],
            f"{r['step']}/{r['steps']}",
            _time(r["changed_at"]),
            r["reason"],
        )
        for r in result
    ]
    return table(("ROLLOUT", "CHANNEL", "REVISION", "STATE", "STEP", "CHANGED", "REASON"), rows)


def nodes(result: list[dict[str, Any]]) -> "Shown":
    """Return nodes as a table."""
    if not result:
        return (
            "no node is listed: no machine enrolled (`moorage node enroll-token`), or no node fits"
            " the options"
        )
    rows = [
        (
            n["name"],
            n["id"],
            n["channel"],
            n["group"],
            n["state"],
            n["current"] or "-",
            n["offered"] or "-",
            _time(n["seen_at"]),
            _note(n),
        )
        for n in result
    ]
    head = ("NAME", "NODE", "CHANNEL", "GROUP", "STATE", "RUNS", "OFFERED", "SEEN", "NOTE")
    return table(head, rows)


def node_line(result: dict[str, Any]) -> str:
    """Return one node as a line."""
    note = _note(result)
    return (
        f"node {result['name']} ({result['id']}) of {result['channel']}, group {result['group']}: "
        f"{result['state']}{'; ' if note else ''}{note}"
    )


def node(result: dict[str, Any]) -> "Shown":
    """Return one node with its grants and events."""
    lines = [
        ("node", f"{result['name']} ({result['id']})"),
        ("channel", f"{result['channel']}, group {result['group']}"),
        ("state", result["state"]),
        ("note", _note(result)),
        ("runs", f"{result['current'] or 'nothing'}; it should run {result['offered'] or '-'}"),
        ("has", " ".join(result["installed"])),
        ("revision", f"{result['seen_revision']} is the newest that it saw"),
        ("seen", _time(result["seen_at"])),
        ("clock", _clock(result)),
        ("facts", ", ".join(f"{k} {v}" for k, v in sorted(result["facts"].items()) if v)),
        ("enrolled", _time(result["enrolled_at"])),
    ]
    shown: list[Any] = ["\n".join(f"{name:<10}{value}" for name, value in lines if value)]
    if result["grants"]:
        rows = [
            (
                g["id"],
                g["version"],
                g["rollout"] or "-",
                g["outcome"],
                _time(g["outcome_at"]),
                " ".join(part for part in (g["stage"], g["reason"]) if part),
                g["trace"],
            )
            for g in result["grants"]
        ]
        head = ("GRANT", "VERSION", "ROLLOUT", "OUTCOME", "AT", "REASON", "TRACE")
        shown.append(table(head, rows))
    if result["events"]:
        events = [
            (
                _time(e["at"]),
                e["event"],
                e["version"],
                " ".join(f"{k} {v:g}s" for k, v in e["seconds"].items()),
                " ".join(part for part in (e["stage"], e["reason"]) if part),
                e["traceparent"][3:35],
            )
            for e in result["events"]
        ]
        shown.append(table(("AT", "EVENT", "VERSION", "SECONDS", "REASON", "TRACE"), events))
    return tuple(shown)


def enrol_tokens(result: list[dict[str, Any]]) -> "Shown":
    """Return tokens by which machines enrol as a table."""
    if not result:
        return "there is no enrolment token; `moorage node enroll-token --channel NAME` makes one"
    rows = [
        (t["id"], t["channel"], t["group"], t["uses_left"], _time(t["expires_at"])) for t in result
    ]
    return table(("ID", "CHANNEL", "GROUP", "USES LEFT", "UNTIL"), rows)


def enrol_token_facts(made: dict[str, Any]) -> str:
    """Return what was made, and what to do with it."""
    return (
        f"enrolment token {made['id']}: channel {made['channel']}, group {made['group']}, "
        f"{made['uses_left']} uses until {_time(made['expires_at'])}; it is not shown again"
    )


def webhooks(result: list[dict[str, Any]]) -> "Shown":
    """Return webhooks as a table."""
    if not result:
        return "there is no webhook; make one with `moorage webhook add URL`"
    rows = [
        (
            w["id"],
            w["url"],
            _topics(w),
            _time(w["delivered_at"]),
            w["waiting"],
            w["given_up"],
            w["trouble"],
        )
        for w in result
    ]
    return table(("ID", "URL", "GETS", "DELIVERED", "WAITING", "GIVEN UP", "TROUBLE"), rows)


def _topics(webhook: dict[str, Any]) -> str:
    rollouts = f"rollouts of {webhook['channel'] or 'all'}" if webhook["rollouts"] else ""
    whose = f" of {webhook['tenant']}" if webhook["tenant"] else ""
    audit = {"": "", "alarms": f"alarms{whose}", "all": f"audit rows{whose}"}[webhook["audit"]]
    return ", ".join(filter(None, (rollouts, audit)))


def _step(step: dict[str, Any]) -> str:
    size = step.get("group") or (
        f"{step['percent']} %" if step.get("percent") else f"{step['nodes']} nodes"
    )
    return f"{size} (soak {step['soak_s']} s)"


def _note(shown: dict[str, Any]) -> str:
    """Return what an admin should know of a node: why it is held, its failure, its clock."""
    reason = shown["held"] or (shown["failures"] and shown["failure"]) or ""
    return "; ".join(part for part in (str(reason), _clock(shown)) if part)


def _clock(shown: dict[str, Any]) -> str:
    off_s = shown["clock_off_s"]
    if abs(off_s) < _CLOCK_OFF_S:
        return ""
    return f"its clock is {abs(off_s):.0f} s {'ahead' if off_s > 0 else 'behind'}"


def _time(text: str | None) -> str:
    if not text:
        return "-"
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}"
