"""How tenants, tokens, credentials, owned prefixes and the audit log are shown to people."""

from typing import TYPE_CHECKING, Any

from app.cli.output import table
from app.core.size import human_bytes

if TYPE_CHECKING:
    from rich.table import Table


_SHOWN_NAMES = 8
_LIMITS = ("streams", "cold", "rate", "quota_bytes")


def _reading(tenant: dict[str, Any]) -> str:
    return "everybody" if tenant["anonymous_read"] else "tokens"


def tenants(result: list[dict[str, Any]]) -> "str | Table":
    """Return tenants as a table."""
    if not result:
        return "there is no tenant; make one with `moorage tenant create NAME`"
    rows = [
        (
            t["name"],
            t["default"],
            _reading(t),
            "on" if t["enabled"] else "off",
            " ".join(t["hosts"]) or "-",
            t["title"],
        )
        for t in result
    ]
    return table(("TENANT", "DEFAULT", "READ BY", "STATE", "HOSTS", "TITLE"), rows)


def tenant(result: dict[str, Any]) -> str:
    """Return one tenant, a fact a line."""
    limits = [f"{n} {result['limits'][n]}" for n in _LIMITS if result["limits"][n] is not None]
    lines = [
        ("tenant", result["name"]),
        ("title", result["title"]),
        ("default", f"{result['default']} what no rule is about"),
        ("read by", _reading(result)),
        ("state", "on" if result["enabled"] else "off: every request is refused"),
        ("hosts", " ".join(result["hosts"])),
        ("private", " ".join(result["private_hosts"])),
        ("channel", result["toolchains"] and f"{result['toolchains']}, for toolchains"),
        ("limits", ", ".join(limits) or "those of the settings"),
        ("revision", str(result["revision"])),
        ("made", result["created_at"][:19]),
    ]
    return "\n".join(f"{name:<10}{value}" for name, value in lines if value)


def storage(result: "list[dict[str, Any]] | dict[str, Any]") -> "Table":
    """Return what is stored for tenants as a table."""
    rows = [
        (
            "(for nobody)" if t["tenant"] is None else t["tenant"],
            t["files"],
            t["zips"],
            human_bytes(t["size_bytes"]),
            "-" if t["quota_bytes"] is None else human_bytes(t["quota_bytes"]),
            "-" if t["quota_bytes"] is None else f"{100 * t['size_bytes'] // t['quota_bytes']} %",
        )
        for t in (result if isinstance(result, list) else [result])
    ]
    return table(("TENANT", "FILES", "ZIPS", "STORED", "QUOTA", "USED"), rows)


def made(result: dict[str, Any]) -> str:
    """Return that a tenant was made, and what comes next."""
    name = result["name"]
    next_ones = [f"moorage tenant client-config {name}"]
    if not result["anonymous_read"]:
        next_ones.insert(0, f"moorage token create --tenant {name} --name ci")
    if result["default"] == "deny":
        next_ones.insert(0, f"moorage rule add --tenant {name} allow PATTERN")
    lines = [f"tenant {name} is made; next:", *(f"  {line}" for line in next_ones)]
    return "\n".join(lines)


def removed_with(name: str, belongings: dict[str, list[str]]) -> str:
    """Return what is removed with a tenant: how many of each kind, and the first names."""
    lines = [f"with tenant {name} go, for good (stored modules stay):"]
    for kind, names in belongings.items():
        shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
        lines.append(f"  {len(names)} {kind}" + (f": {shown}" if names else ""))
    return "\n".join(lines)


def tokens(result: list[dict[str, Any]]) -> "str | Table":
    """Return tokens as a table."""
    if not result:
        return "there is no token; make one with `moorage token create --tenant NAME`"
    rows = [
        (
            t["id"],
            t["name"],
            t["tenant"] or "(platform)",
            " ".join(t["scopes"]),
            _day(t["created_at"]),
            _day(t["expires_at"]),
            _day(t["revoked_at"]),
            _day(t["last_used_on"]),
        )
        for t in result
    ]
    columns = ("ID", "NAME", "TENANT", "SCOPES", "CREATED", "EXPIRES", "REVOKED", "USED")
    return table(columns, rows)


def token_facts(result: dict[str, Any]) -> str:
    """Return what a new token is for, without the token."""
    until = (
        f"valid until {_day(result['expires_at'])}" if result["expires_at"] else "valid for ever"
    )
    scopes = " ".join(result["scopes"])
    where = f"tenant {result['tenant']}" if result["tenant"] else "the whole platform"
    return f"token {result['id']}: {scopes} for {where}, {until}; it is shown this once"


def credentials(result: list[dict[str, Any]]) -> "str | Table":
    """Return credentials as a table."""
    if not result:
        return "there is no credential; make one with `moorage credential set NAME --tenant TENANT`"
    rows = [(c["name"], c["kind"], c["username"] or "-", _day(c["changed_at"])) for c in result]
    return table(("CREDENTIAL", "KIND", "USERNAME", "CHANGED"), rows)


def owned(result: list[dict[str, Any]]) -> "str | Table":
    """Return owned prefixes as a table."""
    if not result:
        return "no prefix has an owner; `moorage owner set PREFIX TENANT` gives it one"
    rows = [(o["prefix"], o["tenant"], " ".join(o["granted"]) or "-") for o in result]
    return table(("PREFIX", "OWNER", "GRANTED"), rows)


def owner(result: dict[str, Any]) -> str:
    """Return whose a prefix is."""
    line = f"{result['prefix']} is tenant {result['tenant']}'s"
    return f"{line}, granted to {' '.join(result['granted'])}" if result["granted"] else line


def changes(result: list[dict[str, Any]]) -> "str | Table":
    """Return audit rows as a table."""
    if not result:
        return "no change was recorded"
    rows = [
        (
            r["seq"],
            r["at"][:19].replace("T", " "),
            r["actor"],
            r["action"],
            r["object"],
            r["detail"],
        )
        for r in result
    ]
    return table(("SEQ", "AT", "ACTOR", "ACTION", "OBJECT", "DETAIL"), rows)


def verified(result: dict[str, Any]) -> str:
    """Return whether the audit log's chain holds."""
    if result["intact"]:
        return f"intact: {result['rows']} rows"
    if result["first_break"] is not None:
        return f"broken at row {result['first_break']}"
    return str(result["problem"])


def downloads(result: list[dict[str, Any]]) -> "str | Table":
    """Return downloads by day as a table."""
    if not result:
        return "no download was counted"
    rows = [
        (d["day"], d["tenant"], d["token"] or "-", d["module"], d["version"], d["count"])
        for d in result
    ]
    return table(("DAY", "TENANT", "TOKEN", "MODULE", "VERSION", "COUNT"), rows)


def denials(result: list[dict[str, Any]]) -> "str | Table":
    """Return refusals by day as a table."""
    if not result:
        return "nothing was denied"
    rows = [
        (
            d["day"],
            d["tenant"],
            d["token"] or "-",
            d["module"] or "-",
            d["rule"] or "-",
            d["count"],
            d["last_at"][11:19],
            d["last_request"],
        )
        for d in result
    ]
    columns = ("DAY", "TENANT", "TOKEN", "MODULE", "DENIED BY", "COUNT", "LAST AT", "LAST REQUEST")
    return table(columns, rows)


def _day(at: str | None) -> str:
    return at[:10] if at else "-"
