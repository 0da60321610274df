"""`moorage audit`, and what all commands about tenants say when they are used wrongly."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.port import Port


@pytest.mark.slow
def test_the_record_is_the_same_here_and_there(port: Port) -> None:
    for command in (
        ("audit", "list", "--limit", "3"),
        ("audit", "list", "--after", "2", "--limit", "2"),
        ("audit", "list", "--action", "tenant.create"),
        ("audit", "list", "--actor", "system", "--limit", "2"),
        ("audit", "list", "--newest", "--limit", "2"),
        ("audit", "list", "--since", "2020-01-01", "--limit", "2"),
        ("audit", "downloads"),
        ("audit", "downloads", "--module", "example.com/m", "--since", "2026-01-01"),
        ("tenant", "list"),
        ("tenant", "show", "default"),
        ("token", "list"),
        ("owner", "list"),
        ("credential", "list", "--tenant", "default"),
    ):
        for more in ((), ("--json",)):
            local, remote = port.here(*command, *more), port.there(*command, *more)
            is_cut = "--limit" in command
            assert (local.code, "there may be more" in local.err) == (0, is_cut), local
            assert local == remote
            assert local.out.strip()
    for ended in (port.here("audit", "verify"), port.there("audit", "verify")):
        assert (ended.code, ended.err) == (0, "")  # how many rows: the server may add some
        assert ended.out.startswith("intact: ")
    rows = port.done("audit", "list", "--after", "2", "--limit", "2")
    assert [row["seq"] for row in rows] == [3, 4]
    every = port.done("audit", "list")
    assert len(every) > 4
    newest = port.done("audit", "list", "--newest", "--limit", "3")
    assert [row["seq"] for row in newest] == [row["seq"] for row in every[:-4:-1]]
    assert port.done("audit", "list", "--newest") == every[::-1]
    assert port.done("audit", "list", "--since", "2999-01-01") == []
    assert port.done("audit", "list", "--since", every[0]["at"][:10]) == every


def test_denials_are_shown_with_the_request_to_look_for(port: Port) -> None:
    assert port.both("audit", "denials", "--tenant", "nobody").out == "nothing was denied\n"
    rows = [
        ("2026-11-26", "acme", "", "", "token", 12),
        ("2026-11-27", "acme", "5f0c9a1e", "example.com/x", "rule 7", 3),
    ]
    data_dir = Path(port.site.environ["MOORAGE_DATA_DIR"])
    with closing(sqlite3.connect(data_dir / "moorage.db")) as database:
        insert = "INSERT INTO denials VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        last = ("2026-11-27 10:01:00.000000", "9f86d081884c7d65")
        database.executemany(insert, [(*row, *last) for row in rows])
        database.commit()
    shown = port.both("audit", "denials", "--tenant", "acme").out.splitlines()
    assert shown[0].split("  ")[0] == "DAY"
    assert [line.split() for line in shown[1:]] == [
        [*rows[1][:4], "rule", "7", "3", "10:01:00", "9f86d081884c7d65"],
        ["2026-11-26", "acme", "-", "-", "token", "12", "10:01:00", "9f86d081884c7d65"],
    ]
    one = port.both("audit", "denials", "--token", "5f0c9a1e", "--since", "2026-11-27", "--json")
    assert [d["count"] for d in one.json] == [3]
    cut = port.both("audit", "denials", "--tenant", "acme", "--limit", "1")
    assert "there may be more" in cut.err


@pytest.mark.slow
def test_F80_a_restored_older_database_ends_verify_with_1_here_and_there(port: Port) -> None:
    data_dir = Path(port.site.environ["MOORAGE_DATA_DIR"])
    head = data_dir / "keys" / "logs" / "audit.chain"
    for run in (port.here, port.there):
        head.write_text(f"1000000 {'a' * 64}\n")
        ended = run("audit", "verify")
        assert (ended.code, "an older database was restored" in ended.out) == (1, True)
        recovered = run("audit", "recover", "--json")
        assert (recovered.code, recovered.json["intact"]) == (0, True)
        again = run("audit", "recover")
        assert (again.code, "nothing is wrong" in again.err) == (1, True)


WRONG = [
    (("tenant", "show", "nope"), 1, "there is no tenant 'nope'; see `moorage tenant list`"),
    (("tenant", "update", "nope", "--title", "x"), 1, "see `moorage tenant list`"),
    (("tenant", "remove", "nope", "--yes"), 1, "see `moorage tenant list`"),
    (("tenant", "client-config", "nope"), 1, "see `moorage tenant list`"),
    (("tenant", "create", "default"), 1, "there is a tenant default already"),
    (("tenant", "create", "Acme"), 2, "can't be a tenant's name"),
    (("tenant", "create", "a", "--title", "t" * 201), 2, "title: String should have at most 200"),
    (("tenant", "create", "a", "--cold", "1000001"), 2, "limits.cold: Input should be less than"),
    (("tenant", "create", "a", "--host", "A.example"), 2, "is not a lower-case host name"),
    (("token", "create", "--tenant", "nope"), 1, "see `moorage tenant list`"),
    (("token", "create", "--platform", "--name", " "), 2, "a token needs a name"),
    (("token", "list", "--tenant", "nope"), 1, "see `moorage tenant list`"),
    (("token", "revoke", "nope"), 1, "see `moorage token list`"),
    (("token", "rotate", "nope"), 1, "see `moorage token list`"),
    (("token", "revoke", "nope", "--tenant", "default"), 1, "see `moorage token list`"),
    (("credential", "list", "--tenant", "nope"), 1, "see `moorage tenant list`"),
    (("credential", "remove", "x", "--tenant", "default"), 1, "see `moorage credential list`"),
    (("credential", "set", "x", "--tenant", "default"), 2, "the secret is empty"),
    (
        ("credential", "set", "x", "--tenant", "default", "--secret-file", "absent"),
        2,
        "absent: No such file or directory",
    ),
    (("owner", "set", "corp.example", "nope"), 1, "see `moorage tenant list`"),
    (("owner", "set", "corp.example/*", "default"), 2, "an owned prefix is the beginning"),
    (("owner", "remove", "corp.example"), 1, "see `moorage owner list`"),
]


@pytest.mark.parametrize(
    ("command", "code", "message"), WRONG, ids=[" ".join(w[0])[:40] for w in WRONG]
)
def test_an_expected_error_is_one_line_and_the_same_everywhere(
    port: Port, command: tuple[str, ...], code: int, message: str
) -> None:
    local, remote = port.here(*command), port.there(*command)
    assert local == remote
    assert (local.code, local.out) == (code, "")
    assert local.err.startswith("moorage: ")
    assert local.err.count("\n") == 1
    assert message in local.err


@pytest.mark.parametrize(
    "command",
    [
        ("tenant", "update", "default"),
        ("tenant", "create", "a", "--default", "maybe"),
        ("tenant", "create", "a", "--cold", "-1"),
        ("tenant", "client-config", "default", "--for", "nonsense"),
        ("token", "create", "--platform", "--scope", "root"),
        ("token", "rotate", "x", "--grace-hours", "721"),
        ("credential", "list"),
        ("owner", "set", "corp.example"),
        ("audit", "downloads", "--since", "yesterday"),
        ("audit", "list", "--since", "yesterday"),
        ("audit", "list", "--newest", "--after", "3"),
    ],
)
def test_wrong_usage_ends_with_2(port: Port, command: tuple[str, ...]) -> None:
    ended = port.here(*command)
    assert (ended.code, ended.out) == (2, "")
    assert "Traceback" not in ended.err
