"""`moorage explain` and `moorage refresh`: what a tenant may have of a module."""

import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from app.cli.api import path_of
from app.cli.output import emit, one_line
from app.cli.progress import busy
from app.cli.session import Json, ServerUrl, ask

Tenant = Annotated[str, typer.Option("--tenant", help="For which tenant.")]
Name = Annotated[str, typer.Argument(metavar="MODULE[@VERSION]", help="As in `go get`.")]


def explain(
    name: Name, tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Tell which rule and which route decide about a module, in order, and what is stored."""
    module, version = _split(name)
    query = {"module": module} | ({} if version is None else {"version": version})
    result = ask(server_url, "GET", f"{path_of('tenants', tenant, 'explain')}?{urlencode(query)}")
    emit(result, as_json, lambda r: "\n".join(map(one_line, _lines(r))))


def refresh(
    name: Name, tenant: Tenant, server_url: ServerUrl = None, as_json: Json = False
) -> None:
    """Forget a module's list and queries; or compare a stored version with upstream's of today."""
    module, version = _split(name)
    body = {"module": module, "version": version}
    with busy(f"asking upstream for {module}"):
        result = ask(server_url, "POST", path_of("tenants", tenant, "refresh"), body)
    emit(result, as_json, _refreshed)


def _split(name: str) -> tuple[str, str | None]:
    module, at, version = name.partition("@")
    return module, version if at else None


def _refreshed(result: dict[str, Any]) -> str:
    if result["version"] is None:
        return f"forgotten; the next request for {result['module']} asks upstream"
    outcomes = {
        "same": "upstream sends the same",
        "changed": "upstream sends another one; it is served from now on",
        "gone": "upstream has it no more; it stays served",
    }
    return "\n".join(
        f".{f['kind']:<5}{outcomes[f['outcome']]}  {f['h1']}".rstrip() for f in result["files"]
    )


def _answer(result: dict[str, Any]) -> str:
    """Return what a request gets, and why."""
    cause, reason = result["cause"], result["reason"] or f"denied by {result['by']}"
    private = "no private route: it is a private name"
    words = {
        "tenant": reason,
        "rules": reason,
        "no-route": "allowed by the rules, not served: no route",
        "private-name": f"allowed by the rules, not served: {private} ({result['private']})",
        "private-host": f"allowed by the rules, not served: {result['route_refusal']}",
        "route-off": "allowed by the rules, not served: it is not stored, and the route is off",
        "quarantined": "quarantined: the checksum database vouches for other content",
        "stored": "allowed by the rules, and served from what is stored",
        "mirror": "allowed by the rules; the release mirror serves it if it has the release",
        "upstream": "allowed by the rules, and upstream is asked",
    }
    return f"{result['status'] or '200 or what upstream says'}: {words[cause]}"


def _next(result: dict[str, Any]) -> str:
    """Return the command that most probably comes next."""
    tenant, module, by = result["tenant"], result["module"], result["by"]
    of_tenant = f"--tenant {tenant}"
    if result["cause"] == "rules":
        kind, _, rest = by.rpartition(" ")
        if kind == "ownership of":
            return f"moorage owner set {rest} OWNER --grant {tenant}; a grant needs a route, too"
        if kind == "channel":
            return f"use what the channel offers, or moorage channel set {rest} VERSION"
        if kind in ("rule", "platform rule") and rest.isdecimal():
            whose = of_tenant if kind == "rule" else "--platform"
            return f"use another version, or moorage rule remove {rest} {whose}"
        return f"moorage rule add {of_tenant} allow {module}"
    commands = {
        "tenant": f"moorage tenant update {tenant} --enabled",
        "no-route": f"moorage route add {of_tenant} {module} URL",
        "private-name": f"moorage route add {of_tenant} {module} URL --private",
        "private-host": f"moorage tenant update {tenant} --private-host HOST",
        "route-off": f"moorage route update {_first_id(result)} {of_tenant} --on",
        "quarantined": "moorage sumdb evidence",
    }
    return commands.get(result["cause"], f"moorage tenant client-config {tenant}")


def _first_id(result: dict[str, Any]) -> str:
    return str(result["routes"][0]["id"]) if result["routes"] else "ID"


def _lines(result: dict[str, Any]) -> Iterator[str]:
    yield _answer(result)
    yield f"next: {_next(result)}"
    yield ""
    name = result["module"] + (f"@{result['version']}" if result["version"] else "")
    verdict = "allowed" if result["allowed"] else "DENIED"
    yield f"{name} for {result['tenant']}: {verdict} by {result['by']}"
    if result["reason"]:
        yield f"  {result['reason']}"
    if result["is_query"]:
        yield f"  {result['version']} is a query: the version that it resolves to is judged again"
        if re.fullmatch(r"[0-9]+(\.[0-9]+)+\S*", result["version"], re.ASCII):
            yield f"  did you mean {result['module']}@v{result['version']}?"
    elif result["version"] is None:
        yield "  this is about the module as a whole; each version is judged by itself"
    yield from _rules(result["steps"])
    yield from _routes(result)
    yield from _stored(result)


def _rules(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield ""
    yield "rules, in order"
    yield from _aligned(
        [
            (
                "->" if step["decides"] else "",
                step["stage"],
                step["outcome"],
                step["what"] + (f" ({step['reason']})" if step["reason"] else ""),
            )
            for step in steps
        ]
    )


def _routes(result: dict[str, Any]) -> Iterator[str]:
    yield ""
    if result["mirrored"]:
        yield "no route is taken: the mirror serves it, from its verified release archives"
        return
    yield "routes, the first is taken"
    if result["private"]:
        yield f"  a private name: {result['private']}"
    if not result["routes"]:
        yield "  none matches"
    yield from _aligned(
        [
            (
                "->" if number == 0 and not result["route_refusal"] else "",
                f"route {r['id']}",
                r["pattern"],
                " ".join(flag for flag in ("private", "off") if r[flag]),
                r["note"],
            )
            for number, r in enumerate(result["routes"])
        ]
    )
    if result["route_refusal"]:
        yield f"  nothing is asked: {result['route_refusal']}"
        return
    yield ""
    yield "upstreams, in order"
    yield from _aligned(
        [
            (
                f"{number}.",
                u["url"],
                f"credential {u['credential']}" if u["credential"] else "anonymous",
                "a 404 ends the search" if u["on_absent"] == "stop" else "after a 404 the next",
            )
            for number, u in enumerate(result["upstreams"], 1)
        ]
    )
    if result["gone"]:
        yield "  upstream has this module no more: its list has the versions that are stored here"


def _stored(result: dict[str, Any]) -> Iterator[str]:
    if result["version"] is None or result["is_query"] or result["route_refusal"]:
        return
    yield ""
    yield "stored"
    if not result["stored"]:
        yield "  nothing yet"
    yield from _aligned(
        [
            (
                f".{f['kind']}",
                f["h1"] or f"sha256:{f['sha256']}",
                f["log_state"] + (" DAMAGED" if f["damaged"] else ""),
                f["stored_at"][:19].replace("T", " "),
                f"from {f['origin']}",
            )
            for f in result["stored"]
        ]
    )
    if result["conflicts"]:
        yield ""
        yield "refused, since it contradicts what is stored"
    for c in result["conflicts"]:
        yield f"  {c['seen_at'][:19].replace('T', ' ')} from {c['origin']}: {c['detail']}"


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()
