"""How checksum databases are shown to people."""

from typing import TYPE_CHECKING, Any

from app.cli.output import one_line, table
from app.core import tlog

if TYPE_CHECKING:
    from rich.table import Table

    from app.cli.output import Shown
    from app.core.proof import ProvenRecord

ACCEPTING = """\
--accept: the log goes on with the records that the database has, under the same name and key.
Clients that never saw a newer head notice nothing. A client that did see one stops with
"SECURITY ERROR" as soon as it sees how the log goes on: two timelines look like an attack.
On such a machine only this helps, once it is known that the restore is the reason:
  go clean -modcache
  rm -r "$(go env GOPATH)/pkg/sumdb"
An auditor who kept a newer head will, rightly, say that this log forked."""

STARTING_ANEW = """\
--new-log: the tenant gets another log with another name and key, and the old one is retired: it
still answers, and takes no more records. No client sees a contradiction. Every client needs the
new vkey in GOSUMDB (`moorage tenant client-config`); until it has that, it can't verify what the
old log lacks. What is in use is recorded again when it is next asked for."""

BOTH_WAYS = f"{ACCEPTING}\n\n{STARTING_ANEW}"


def log(result: dict[str, Any]) -> str:
    """Return a tenant's log, a fact a line."""
    lines = [
        ("tenant", result["tenant"]),
        ("name", result["name"]),
        ("vkey", result["vkey"]),
        ("records", str(result["size"])),
        ("root", result["root"]),
        ("made", result["created_at"][:19]),
        *(
            ("retired", f"{one['name']}, {one['size']} records, {one['vkey']}")
            for one in result["retired"]
        ),
    ]
    shown = [f"{name:<10}{value}" for name, value in lines]
    return "\n".join([*shown, "head", *_indented(result["head"])])


def made(result: dict[str, Any]) -> str:
    """Return that a tenant has a log, and what comes next."""
    return "\n".join(
        [
            f"tenant {result['tenant']} has the log {result['name']}; clients verify with",
            f"  GOSUMDB='{result['vkey']}'",
            "all of it is in what clients paste:",
            f"  moorage tenant client-config {result['tenant']}",
            "keep keys/logs out of restores of old backups; see docs/sumdb.md",
        ]
    )


def proof(result: dict[str, Any], path: str) -> str:
    """Return what a proof that was written to a file shows, and how it is checked."""
    name = f"{result['module']}@{result['version']}"
    return (
        f"{path}: {name} is record {result['number']} of {result['log']}, in its tree of "
        f"{result['size']} records\nwhoever has the vkey checks it with\n"
        f"  moorage sumdb check {path} --vkey '{result['vkey']}'"
    )


def included(one: "ProvenRecord") -> dict[str, Any]:
    """Return what a checked proof shows, for people and programs."""
    return {
        "holds": True,
        "log": one.log,
        "module": one.module,
        "version": one.version,
        "zip_h1": one.sums.zip_h1,
        "go_mod_h1": one.sums.go_mod_h1,
        "number": one.number,
        "size": one.tree.size,
        "root": tlog.hash_text(one.tree.root),
    }


def holds(result: dict[str, Any]) -> str:
    """Return what a checked proof shows."""
    name = f"{result['module']} {result['version']}"
    return (
        f"it holds: record {result['number']} of {result['log']}, in its tree of "
        f"{result['size']} records\n{name} {result['zip_h1']}\n{name}/go.mod {result['go_mod_h1']}"
    )


def reports(log_reports: list[dict[str, Any]]) -> str:
    """Return what checking logs found, and each finding on a line."""
    if not log_reports:
        return "no tenant has a log"
    lines = []
    for one in log_reports:
        state = "whole" if one["intact"] else "NOT WHOLE"
        lines.append(f"{one['log']}: {state}, {one['records']} records")
        lines += [f"  {one_line(finding)}" for finding in one["findings"]]
    return "\n".join(lines)


def prefetched(result: dict[str, Any]) -> "Shown":
    """Return what did not go well as a table, and a summary."""
    if not result["items"]:
        return "no release archive is mirrored yet, so no toolchain; see `moorage releases sync`"
    summary = ", ".join(f"{result[o]} {o}" for o in ("ok", "skipped", "failed"))
    rows = [(i["name"], i["outcome"], i["detail"]) for i in result["items"] if i["outcome"] != "ok"]
    return (table(("VERSION", "OUTCOME", "WHY"), rows), summary) if rows else summary


def relayed(result: list[dict[str, Any]]) -> "str | Table":
    """Return relayed logs as a table."""
    if not result:
        return "no log is relayed; MOORAGE_SUMDB__UPSTREAMS is empty"
    rows = [
        (
            one["name"],
            one["url"],
            "-" if one["size"] is None else one["size"],
            one["root"] or "-",
            (one["seen_at"] or "-")[:19].replace("T", " "),
            one["evidence"],
        )
        for one in result
    ]
    return table(("LOG", "URL", "RECORDS", "ROOT", "SEEN", "EVIDENCE"), rows)


def evidence(result: list[dict[str, Any]]) -> str:
    """Return what was refused, with both sides verbatim."""
    if not result:
        return "nothing was ever refused"
    lines: list[str] = []
    for one in result:
        lines += [
            f"{one['seen_at'][:19].replace('T', ' ')}  {one_line(one['detail'])}",
            "  the newest head known then",
            *_indented(one["known"] or "(none)"),
            "  what came",
            *_indented(one["refused"] or "(nothing)"),
        ]
    return "\n".join(lines)


def _indented(text: str) -> list[str]:
    return [f"    {one_line(line)}" for line in text.removesuffix("\n").split("\n")]
