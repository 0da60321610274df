"""How `moorage releases` shows its results to people."""

from typing import TYPE_CHECKING, Any

from app.cli.output import table
from app.core.size import human_bytes

if TYPE_CHECKING:
    from rich.table import Table

    from app.cli.output import Shown

_SERVED = {"verified", "sha256-only"}


def plan(result: dict[str, Any]) -> "Shown":
    """Return the plan as a table with its sum below."""
    if not result["files"]:
        nothing = "the selection matches no release in the index; see MOORAGE_RELEASES__SELECT__…"
        return "\n".join([nothing, *_skipped(result)])
    rows = [
        (
            f["filename"],
            human_bytes(f["size_bytes"]),
            f["support"],
            "fetch" if f["to_fetch"] else ("refused" if f["refusal"] else f["state"]),
            f["refusal"] or f["reason"],
        )
        for f in result["files"]
    ]
    return table(("FILE", "SIZE", "SUPPORT", "TO DO", "WHY"), rows), _plan_sum(result)


def _plan_sum(result: dict[str, Any]) -> str:
    lines = [
        f"{result['fetch_files']} of {len(result['files'])} files to fetch, "
        f"{human_bytes(result['fetch_bytes'])}"
    ]
    if result["unmatched_pins"]:
        lines.append(f"pins that match nothing: {', '.join(result['unmatched_pins'])}")
    return "\n".join([*lines, *_skipped(result)])


def _skipped(result: dict[str, Any]) -> list[str]:
    return [
        f"not understood in the index: {s['key']}, {s['count']} times, first {s['first']}"
        for s in result["skipped"]
    ]


def synced(result: dict[str, Any]) -> str:
    """Return what a sync did."""
    lines = [f"fetched  {name}" for name in result["fetched"]]
    lines += [f"failed   {f['reason']}" for f in result["failed"]]
    lines.append(
        f"{len(result['fetched'])} fetched, {len(result['present'])} were here, "
        f"{len(result['failed'])} failed"
    )
    if result["unmatched_pins"]:
        lines.append(f"pins that match nothing: {', '.join(result['unmatched_pins'])}")
    return "\n".join(lines)


def releases(result: list[dict[str, Any]]) -> "str | Table":
    """Return the list of releases as a table."""
    if not result:
        return "nothing is known yet; run `moorage releases plan`, then `moorage releases sync`"
    rows = [
        (
            r["version"],
            r["support"],
            len(r["files"]),
            sum(1 for f in r["files"] if f["state"] in _SERVED),
            ", ".join(sorted({_state(f) for f in r["files"]})),
        )
        for r in result
    ]
    return table(("RELEASE", "SUPPORT", "FILES", "HERE", "STATES"), rows)


def release(result: dict[str, Any]) -> "Shown":
    """Return one release's files as a table."""
    rows = [
        (
            f["filename"],
            f["kind"],
            human_bytes(f["size_bytes"]),
            _state(f),
            f["sha256"] or "-",
            f["withdrawal"]["reason"] if f["withdrawal"] else f["reason"],
        )
        for f in result["files"]
    ]
    columns = ("FILE", "KIND", "SIZE", "STATE", "SHA-256", "REASON")
    return f"{result['version']}: {result['support']}", table(columns, rows)


def file(result: dict[str, Any]) -> str:
    """Return one file, a fact a line."""
    lines = [
        ("file", result["filename"]),
        ("release", f"{result['version']} ({result['support']})"),
        ("kind", f"{result['kind']} {result['os']} {result['arch']}"),
        ("state", result["state"] + ("" if result["offered"] else " (not offered)")),
        ("reason", result["reason"]),
        ("size", f"{result['size_bytes']} bytes ({human_bytes(result['size_bytes'])})"),
        ("sha256", result["sha256"] or "none in the index: it can't be verified"),
        ("from index", f"sha256:{result['index_sha256']}, first seen {result['first_seen_at']}"),
        ("fetched", f"{result['ingested_at'] or ''} {result['source_url'] or ''}".strip()),
    ]
    if result["withdrawal"] is not None:
        lines += [("taken back", withdrawal(result["withdrawal"]))]
    verdict = result["verdict"]
    if verdict is not None:
        lines += [
            ("verdict", verdict["reason"]),
            ("signed", f"{verdict['signed_at'] or '-'} by subkey {verdict['subkey'] or '-'}"),
            ("primary", verdict["primary"] or "-"),
            ("judged", f"{verdict['judged_at']} by gpg {verdict['gpg_version']}"),
            ("keyring", f"sha256:{verdict['keyring_sha256']}"),
        ]
    if result["toolchain"] is not None:
        toolchain = result["toolchain"]
        lines += [("toolchain", f"golang.org/toolchain@{toolchain['version']}")]
        lines += [("", toolchain["h1"])]
    for derived in result["derived"]:
        size = human_bytes(derived["size_bytes"])
        lines += [(f".{derived['kind']}", f"sha256:{derived['sha256']} ({size})")]
    lines += [
        ("conflict", f"{c['seen_at']}: an index said sha256 {c['seen_sha256']}; refused")
        for c in result["conflicts"]
    ]
    return "\n".join(f"{name:<12}{value}" for name, value in lines if value)


def withdrawal(result: dict[str, Any]) -> str:
    """Return what became of an own release."""
    why = f": {result['reason']}" if result["reason"] else ""
    return f"{result['release']} is {result['state']} since {result['at'][:10]}{why}"


def _state(file: dict[str, Any]) -> str:
    """Return the state of a file, or of its release where that was taken back."""
    return str(file["withdrawal"]["state"] if file["withdrawal"] else file["state"])


def published(result: list[dict[str, Any]]) -> str:
    """Return what was published, a line for each file."""
    return "\n".join(f"{f['state']:<12} {f['filename']}  sha256:{f['sha256']}" for f in result)


def keyring(result: dict[str, Any]) -> "Shown":
    """Return the keyring's subkeys as a table."""
    rows = [
        (
            key["fingerprint"],
            key["created_at"][:10],
            (key["expires_at"] or "never")[:10],
            " ".join([of, "revoked" if key["revoked"] else ""]).strip(),
        )
        for of, keys in (("", result["subkeys"]), ("own", result["own_subkeys"]))
        for key in keys
    ]
    own = f"\nown      {', '.join(result['own_primary'])}" if result["own_primary"] else ""
    return (
        f"primary  {', '.join(result['primary'])}\n"
        f"export   sha256:{result['sha256']} ({result['source']}, {result['taken_at'][:19]}){own}",
        table(("SIGNING KEY", "CREATED", "EXPIRES", ""), rows),
    )


def key_change(result: dict[str, Any]) -> str:
    """Return what taking over an export changed."""
    lines = [f"added    {key}" for key in result["added"]]
    lines += [f"removed  {key}" for key in result["removed"]]
    lines += [f"released {name}" for name in result["released"]]
    if not result["changed"]:
        lines.append("the active keyring has the same keys already")
    return "\n".join(lines)
