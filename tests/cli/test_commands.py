"""Every command: what it prints, with which code it ends, locally and through a server alike."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.process import MOORAGE, Ended, Server, Site
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.installation import memory_folder
from tests.shapes import SECRETS_KEY

VERIFIED = archive_name("go1.99.1")
ZIP = archive_name("go1.99.1", "windows")
PENDING = archive_name("go1.98.4")
QUARANTINED = archive_name("go1.98.4", "darwin", "arm64")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x1b]")


@dataclass(frozen=True)
class Mirror:
    """An installation with a file in each state, and the server that runs on it."""

    site: Site
    server: Server
    fake: FakeGodev
    signer: Signer
    warm: Warm

    def here(self, *arguments: str) -> Ended:
        """Run a command on the data directory."""
        return self.warm.run(self.site, *arguments)

    def there(self, *arguments: str, **environ: str) -> Ended:
        """Run a command through the server; its environment names nothing but the token."""
        environment = {"MOORAGE_TOKEN": self.server.token, "LC_ALL": "C.UTF-8", **environ}
        remote = Site(self.site.folder, {k: v for k, v in environment.items() if v})
        return self.warm.run(remote, *arguments, "--server", self.server.url)


@pytest.fixture(scope="module")
def mirror(signer: Signer, warm: Warm) -> Iterator[Mirror]:
    with FakeGodev() as fake, memory_folder() as folder:
        for name, goos, signed in (
            (VERIFIED, "linux", True),
            (ZIP, "windows", False),
            (PENDING, "linux", False),
            (QUARANTINED, "darwin", True),
        ):
            data = go_archive(name.split(".linux")[0].split(".win")[0].split(".dar")[0], goos)
            over = data if name != QUARANTINED else b"other bytes"
            fake.put_file(name, data, signature=signer.sign(over) if signed else None)
        site = Site.new(folder, fake, signer)
        with warm.serve(site) as server:
            yield Mirror(site, server, fake, signer, warm)


@pytest.fixture(scope="module", autouse=True)
def _synced(mirror: Mirror) -> None:
    ended = mirror.here("releases", "sync")
    assert ended.code == 1
    assert "2 fetched, 0 were here, 2 failed" in ended.out


BOTH = [
    ("releases", "plan"),
    ("releases", "sync"),
    ("releases", "list"),
    ("releases", "list", "--all"),
    ("releases", "show", "1.99.1"),
    ("releases", "show", "go1.98.4"),
    ("releases", "show", VERIFIED),
    ("releases", "show", ZIP),
    ("releases", "show", PENDING),
    ("releases", "show", QUARANTINED),
    ("releases", "verify", VERIFIED),
    ("releases", "verify", PENDING),
    ("releases", "verify", QUARANTINED),
    ("releases", "keys", "list"),
]
LOCAL = [
    ("migrate",),
    ("fsck",),
    ("fsck", "--deep"),
    ("config", "check"),
    ("config", "show"),
    ("token", "list"),
    ("audit", "list"),
    ("audit", "list", "--after", "1", "--limit", "1000"),  # test_audit.py has the cut ones
    ("audit", "verify"),
]
NOT_ALL_WELL = {
    ("releases", "sync"),
    ("releases", "verify", PENDING),
    ("releases", "verify", QUARANTINED),
}


@pytest.mark.parametrize("command", BOTH, ids=" ".join)
def test_local_and_remote_print_the_same_and_end_alike(
    mirror: Mirror, command: tuple[str, ...]
) -> None:
    for more in ((), ("--json",)):
        local, remote = mirror.here(*command, *more), mirror.there(*command, *more)
        assert local.code == remote.code == int(command in NOT_ALL_WELL), (local, remote)
        assert local.out == remote.out
        assert local.out.strip()
        assert not CONTROL.search(local.out + local.err + remote.err)
        assert "Traceback" not in local.err + remote.err
    assert local.json is not None


@pytest.mark.parametrize("command", LOCAL, ids=" ".join)
def test_local_commands_print_text_and_json(mirror: Mirror, command: tuple[str, ...]) -> None:
    text, as_json = mirror.here(*command), mirror.here(*command, "--json")
    assert (text.code, as_json.code) == (0, 0), (text, as_json)
    assert text.err == as_json.err == ""
    assert text.out.strip()
    assert not CONTROL.search(text.out)
    assert as_json.json is not None


def test_what_the_states_look_like(mirror: Mirror) -> None:
    shown = {
        name: mirror.here("releases", "show", name, "--json").json
        for name in (VERIFIED, ZIP, PENDING, QUARANTINED)
    }
    assert {name: (file["state"], file["offered"]) for name, file in shown.items()} == {
        VERIFIED: ("verified", True),
        ZIP: ("sha256-only", True),
        PENDING: ("pending-signature", False),
        QUARANTINED: ("quarantined", False),
    }
    assert shown[VERIFIED]["verdict"]["primary"] == mirror.signer.primary
    assert shown[VERIFIED]["toolchain"]["h1"].startswith("h1:")
    assert shown[VERIFIED]["source_url"] == f"{mirror.fake.files_url}{VERIFIED}"
    assert shown[ZIP]["verdict"] is None
    text = mirror.here("releases", "show", QUARANTINED).out
    assert re.search(r"^state +quarantined \(not offered\)$", text, re.MULTILINE)
    listed = mirror.here("releases", "list", "--json").json
    assert [(r["version"], r["support"]) for r in listed] == [("go1.99.1", "supported")]
    everything = mirror.here("releases", "list", "--all", "--json").json
    assert [r["version"] for r in everything] == ["go1.99.1", "go1.98.4"]


def test_tables_have_one_row_a_line_however_narrow_the_world(mirror: Mirror) -> None:
    narrow = Site(mirror.site.folder, {**mirror.site.environ, "COLUMNS": "20"})
    lines = mirror.warm.run(narrow, "releases", "show", "1.98.4").out.splitlines()
    assert sum(line.startswith("go1.98.4.") for line in lines) == 2
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE"])
def test_a_pipe_gets_no_control_codes_whatever_the_environment_says(
    mirror: Mirror, variable: str
) -> None:
    site = Site(mirror.site.folder, {**mirror.site.environ, variable: "1", "TERM": "xterm"})
    for command in (("releases", "list"), ("releases", "sync"), ("config", "show")):
        ended = mirror.warm.run(site, *command)
        assert not CONTROL.search(ended.out + ended.err), command


WRONG = [
    (("releases", "show", "9.99"), 1, "no release 9.99 in the index"),
    (("releases", "show", "go9.9.9.src.tar.gz"), 1, "no release file go9.9.9.src.tar.gz"),
    (("releases", "verify", "go9.9.9.src.tar.gz"), 1, "no release file go9.9.9.src.tar.gz"),
    (("releases", "keys", "refresh", "absent.asc"), 1, "absent.asc: No such file or directory"),
    (("releases", "keys", "refresh", "older.asc"), 1, "lacks 1 subkey(s) of the active keyring"),
    (("releases", "keys", "refresh", "notes.txt"), 1, ""),
    (("releases", "keys", "refresh", "--fetch"), 1, "MOORAGE_RELEASES__KEYRING_URL is not set"),
]


@pytest.mark.parametrize(("command", "code", "message"), WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_an_expected_error_is_one_line_and_the_same_everywhere(
    mirror: Mirror, command: tuple[str, ...], code: int, message: str
) -> None:
    (mirror.site.folder / "older.asc").write_bytes(mirror.signer.older_export)
    (mirror.site.folder / "notes.txt").write_text("not a key\n")
    local, remote = mirror.here(*command), mirror.there(*command)
    assert local.code == remote.code == code
    assert message in local.err
    assert local.err == remote.err
    assert local.err.startswith("moorage: ")
    assert local.err.count("\n") == 1
    assert local.out == remote.out == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("nonsense",), "No such command"),
        (("releases", "nonsense"), "No such command"),
        (("releases", "list", "--nonsense"), "No such option"),
        (("releases", "show"), "Missing argument"),
        (("token", "create", "--platform", "--days", "0"), "greater than or equal to 1"),
        (("audit", "list", "--limit", "0"), "greater than or equal to 1"),
        (("releases", "list", "--server", "ftp://host"), "must begin with http:// or https://"),
        (("releases", "list", "--server", "host:8080"), "must begin with http:// or https://"),
    ],
)
def test_wrong_usage_ends_with_2(mirror: Mirror, command: tuple[str, ...], message: str) -> None:
    ended = mirror.here(*command)
    assert (ended.code, ended.out) == (2, "")
    assert message in re.sub(r"\s+", " ", ended.err)


@pytest.mark.parametrize("command", [("releases", "list"), ("fsck",), ("token", "list")])
def test_an_unknown_setting_ends_every_command_with_2(
    mirror: Mirror, command: tuple[str, ...]
) -> None:
    ended = mirror.warm.run(mirror.site.but(prot=1), *command)
    assert (ended.code, ended.out) == (2, "")
    assert "MOORAGE_PROT: unknown setting; did you mean MOORAGE_PORT?" in ended.err


def test_help_names_every_command_and_says_what_it_does(mirror: Mirror) -> None:
    nested = {
        "releases": ("plan", "sync", "list", "show", "verify", "keys"),
        "config": ("check", "show"),
        "tenant": ("create", "list", "show", "update", "remove", "client-config"),
        "token": ("create", "list", "rotate", "revoke"),
        "credential": ("set", "list", "remove"),
        "owner": ("set", "list", "remove"),
        "audit": ("list", "verify", "downloads"),
    }
    top = mirror.here("--help")
    assert (top.code, top.err) == (0, "")
    for name in ("serve", "migrate", "config", "releases", "fsck", *nested):
        assert re.search(rf"^\W*{name}  +\S+", top.out, re.MULTILINE), name
    for group, commands in nested.items():
        help_text = mirror.here(group, "--help").out
        for name in commands:
            assert re.search(rf"^\W*{name}  +\S+", help_text, re.MULTILINE), f"{group} {name}"


def test_the_version_is_told(mirror: Mirror) -> None:
    from app import __version__

    assert mirror.here("--version") == Ended(0, f"moorage {__version__}\n", "")


def test_a_reader_who_goes_away_is_no_error(mirror: Mirror) -> None:
    with subprocess.Popen(
        [str(MOORAGE), "releases", "list", "--json"],
        env=dict(mirror.site.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


# --- through a server ---


def test_without_a_token_changes_are_refused_and_reading_is_not(mirror: Mirror) -> None:
    refused = mirror.there("releases", "sync", MOORAGE_TOKEN="")
    assert (refused.code, refused.out) == (1, "")
    assert "needs a token" in refused.err
    assert mirror.there("releases", "list", MOORAGE_TOKEN="").code == 0


@pytest.mark.parametrize("token", ["nonsense", "moor_" + "0" * 49])
def test_a_wrong_token_is_refused_and_not_repeated(mirror: Mirror, token: str) -> None:
    refused = mirror.there("releases", "sync", MOORAGE_TOKEN=token)
    assert refused.code == 1
    assert "token" in refused.err
    assert token not in refused.err


def test_the_token_may_come_from_a_file(mirror: Mirror, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{mirror.server.token}\n")
    ended = mirror.there("releases", "plan", MOORAGE_TOKEN="", MOORAGE_TOKEN_FILE=str(path))
    assert ended.code == 0
    absent = mirror.there("releases", "plan", MOORAGE_TOKEN="", MOORAGE_TOKEN_FILE="/absent")
    assert (absent.code, absent.out) == (2, "")
    assert absent.err == "moorage: MOORAGE_TOKEN_FILE: /absent: No such file or directory\n"


def test_the_server_may_come_from_the_environment(mirror: Mirror) -> None:
    environ = {"MOORAGE_SERVER": mirror.server.url, "MOORAGE_TOKEN": mirror.server.token}
    remote = Site(mirror.site.folder, {**environ, "LC_ALL": "C.UTF-8"})
    assert mirror.warm.run(remote, "releases", "plan").out == mirror.here("releases", "plan").out
    # Local commands know the names, too, and don't take them for misspelt settings.
    local = Site(mirror.site.folder, {**mirror.site.environ, **environ})
    assert mirror.warm.run(local, "token", "list").code == 0
    assert mirror.warm.run(local, "config", "check").code == 0


def test_a_server_that_is_not_there_is_told(mirror: Mirror) -> None:
    nowhere = Site(mirror.site.folder, {"LC_ALL": "C.UTF-8"})
    ended = mirror.warm.run(nowhere, "releases", "list", "--server", "http://127.0.0.1:1")
    assert (ended.code, ended.out) == (1, "")
    assert "127.0.0.1:1" in ended.err
    assert "Traceback" not in ended.err


def test_a_server_that_is_something_else_is_told(mirror: Mirror) -> None:
    nowhere = Site(mirror.site.folder, {"LC_ALL": "C.UTF-8"})
    ended = mirror.warm.run(nowhere, "releases", "list", "--server", mirror.fake.base_url)
    assert (ended.code, ended.out) == (1, "")
    assert "404" in ended.err
    assert "Traceback" not in ended.err


# --- tokens, fsck, audit, migrate: on a data directory of their own ---


def test_tokens_are_made_listed_and_revoked(site: Site, warm: Warm) -> None:
    made = warm.run(
        site, "token", "create", "--platform", "--name", "ci", "--days", "2", "--json"
    ).json
    assert re.fullmatch(r"moor_[0-9A-Za-z]{49}", made["token"])
    text = warm.run(site, "token", "create", "--platform").out
    assert re.fullmatch(r"moor_[0-9A-Za-z]{49}\n", text)
    listed = warm.run(site, "token", "list", "--json")
    assert [(t["name"], t["revoked_at"]) for t in listed.json] == [("ci", None), ("admin", None)]
    assert made["token"] not in listed.out
    assert made["token"] not in warm.run(site, "audit", "list").out

    assert warm.run(site, "token", "revoke", made["id"]).code == 0
    again = warm.run(site, "token", "revoke", made["id"])
    assert (again.code, again.err) == (1, f"moorage: token {made['id']} is revoked already\n")
    unknown = warm.run(site, "token", "revoke", "nobody")
    assert (unknown.code, "no token has the id nobody" in unknown.err) == (1, True)


def test_fsck_ends_with_1_for_damage_and_repairs_it(
    site: Site, warm: Warm, put_release, fake: FakeGodev
) -> None:
    put_release()
    assert warm.run(site, "releases", "sync").code == 0
    assert warm.run(site, "fsck", "--deep").out == "clean: 4 blobs, all hashed\n"
    shown = warm.run(site, "releases", "show", VERIFIED, "--json").json
    blob = site.data_dir / "blobs" / shown["sha256"][:2] / shown["sha256"]
    whole = blob.read_bytes()
    blob.chmod(0o600)
    blob.write_bytes(b"!" + whole[1:])

    assert warm.run(site, "fsck").code == 0  # the size is right
    ended = warm.run(site, "fsck", "--deep", "--json")
    assert (ended.code, ended.json["clean"]) == (1, False)
    [finding] = ended.json["findings"]
    assert (finding["problem"], finding["files"]) == ("damaged", [VERIFIED])
    text = warm.run(site, "fsck", "--deep")
    assert (text.code, "nothing was changed" in text.out) == (1, True)

    repaired = warm.run(site, "fsck", "--deep", "--repair", "--json")
    assert (repaired.code, repaired.json["repaired"], repaired.json["clean"]) == (0, True, True)
    assert [f["healed"] for f in repaired.json["findings"]] == [True]
    assert blob.read_bytes() == whole
    assert warm.run(site, "fsck", "--deep").code == 0
    assert fake.hits[f"/go/{VERIFIED}"] == 2


def test_audit_verify_ends_with_1_at_the_first_changed_row(site: Site, warm: Warm) -> None:
    import sqlite3
    from contextlib import closing

    for name in ("a", "b", "c"):
        assert warm.run(site, "token", "create", "--platform", "--name", name).code == 0
    intact = warm.run(site, "audit", "verify", "--json")
    assert (intact.code, intact.json["intact"]) == (0, True)
    rows = warm.run(site, "audit", "list", "--json").json
    second = next(row["seq"] for row in rows if row["detail"].startswith("b:"))
    with closing(sqlite3.connect(site.data_dir / "moorage.db")) as db, db:
        db.execute("UPDATE audit SET detail = 'x' WHERE seq = ?", (second,))
    broken = warm.run(site, "audit", "verify", "--json")
    assert broken.code == 1
    expected = {"rows": second - 1, "intact": False, "first_break": second, "problem": ""}
    assert broken.json == expected
    assert warm.run(site, "audit", "verify").out == f"broken at row {second}\n"


def test_migrate_says_from_where_to_where(bare_site: Site, warm: Warm) -> None:
    first = warm.run(bare_site, "migrate", "--json")
    assert (first.code, first.json["before"]) == (0, None)
    # A database without its note is checked first, which is logged.
    (bare_site.data_dir / "moorage.db.state").unlink()
    checked = warm.run(bare_site, "migrate", "--json")
    assert checked.json == {"before": first.json["after"], "after": first.json["after"]}
    again = warm.run(bare_site, "migrate").out
    assert again == f"the database is at {first.json['after']} already\n"


@pytest.mark.parametrize(
    "command",
    [
        ("token", "create", "--platform"),
        ("tenant", "list"),
        ("releases", "sync"),
        ("releases", "plan"),
        ("fsck",),
        ("audit", "verify"),
        ("explain", "example.com/x", "--tenant", "default"),
        ("sumdb", "evidence"),
        ("config", "check"),
    ],
    ids=" ".join,
)
def test_only_serve_and_migrate_make_a_data_directory(
    bare_site: Site, warm: Warm, command: tuple[str, ...]
) -> None:
    ended = warm.run(bare_site, *command)
    if command[0] != "config":
        assert (ended.code, ended.out) == (2, "")
        assert f"there is no Moorage database in {bare_site.data_dir}; name" in ended.err
        assert ended.err.count("\n") == 1
    assert not bare_site.data_dir.exists()
    with_postgresql = bare_site.but(
        database_url="postgresql+psycopg://h/x", secrets_key=SECRETS_KEY
    )
    assert warm.run(with_postgresql, *command).code == ended.code
    assert not bare_site.data_dir.exists()


def test_F80_the_folder_of_another_database_is_refused_until_it_is_bound(
    site: Site, warm: Warm
) -> None:
    """Before, `fsck` with a wrong folder called every blob missing, and the others orphans."""
    assert warm.run(site, "token", "create", "--platform", "--name", "a").code == 0
    other = site.but(database_url=f"sqlite:///{site.folder / 'other.db'}")
    refused = warm.run(other, "fsck", "--repair")
    assert (refused.code, refused.out) == (1, "")
    assert refused.err.startswith("moorage: MOORAGE_DATA_DIR belongs to a database")
    assert refused.err.endswith("run `moorage migrate --bind`\n")
    assert warm.run(other, "migrate", "--bind").code == 0
    assert warm.run(other, "fsck").code == 0
    assert warm.run(site, "token", "list").code == 1


def test_an_index_that_was_never_read_is_an_error_and_an_old_one_a_warning(
    site: Site, warm: Warm, fake: FakeGodev, put_release
) -> None:
    put_release()
    empty = warm.run(site, "releases", "list")
    assert (empty.code, empty.out) == (
        0,
        "nothing is known yet; run `moorage releases plan`, then `moorage releases sync`\n",
    )
    fake.stop()
    never = warm.run(site, "releases", "plan")
    assert (never.code, never.out) == (1, "")
    assert never.err.startswith("moorage: ")
    fake.start()
    fake.put_file("go1.99.1.sbom.tar.gz", b"sbom", version="go1.99.1", kind="sbom")
    grown = warm.run(site, "releases", "plan")
    assert grown.code == 0
    assert re.search(r"not understood in the index: kind, 1 times, first \[0\].*sbom", grown.out)
    fake.stop()
    old = warm.run(site, "releases", "plan", "--json")
    assert old.code == 0
    assert old.json["index_error"]
    assert old.err.startswith("moorage: the index could not be read anew: ")
    assert json.loads(old.out)["fetch_files"] == 1


@pytest.mark.parametrize(
    ("command", "suggestion"),
    [
        (("rule", "rm", "3"), "Did you mean 'remove'?"),
        (("tenant", "ls"), "Did you mean 'list'?"),
        (("token", "delete", "x"), "Did you mean 'revoke'?"),
        (("releases", "syn"), "Did you mean 'sync'?"),
        (("tenant", "client-config", "x", "--for", "bash"), "'env'. Did you mean 'sh'?"),
        (("tenant", "client-config", "x", "--for", "tcsh"), "'env'."),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(
    mirror: Mirror, command: tuple[str, ...], suggestion: str
) -> None:
    ended = mirror.here(*command)
    assert (ended.code, ended.out) == (2, "")
    words = re.sub(r"[│\s]+", " ", ended.err)
    assert suggestion in words
    assert words.count("Did you mean") == suggestion.count("Did you mean")


def test_help_names_no_type_of_a_flag(mirror: Mirror) -> None:
    for command in ((), ("releases",), ("releases", "keys", "refresh"), ("tenant", "update")):
        shown = mirror.here(*command, "--help")
        assert (shown.code, "<bool>" in shown.out) == (0, False)
        assert "--help" in shown.out


def test_the_server_may_be_named_before_the_command(mirror: Mirror) -> None:
    remote = Site(mirror.site.folder, {"MOORAGE_TOKEN": mirror.server.token, "LC_ALL": "C.UTF-8"})
    before = mirror.warm.run(remote, "--server", mirror.server.url, "releases", "keys", "list")
    assert before.code == 0
    assert before == mirror.there("releases", "keys", "list")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(mirror: Mirror, shell: str) -> None:
    script = mirror.here("completion", shell)
    assert (script.code, script.err) == (0, "")
    assert f"_MOORAGE_COMPLETE=complete_{shell}" in script.out
    asked = {
        "_MOORAGE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "moorage tok",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_ARGS": "moorage tok",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "LC_ALL": "C.UTF-8",
    }
    words = mirror.warm.run(Site(mirror.site.folder, asked))
    assert (words.code, "token" in words.out) == (0, True)
    assert "tenant" not in words.out.replace("Tokens of admins", "")


def test_bash_takes_the_script(mirror: Mirror) -> None:
    line = 'eval "$(moorage completion bash)"; COMP_WORDS=(moorage tok); COMP_CWORD=1; _moorage'
    path = f"{MOORAGE.parent}:/usr/bin:/bin"
    shell = ["bash", "-c", f'{line}; echo "${{COMPREPLY[@]}}"']
    done = subprocess.run(shell, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("token\n", "")


def test_a_release_that_is_not_there_is_answered_with_the_newest_of_its_minor(
    mirror: Mirror,
) -> None:
    for name in ("go1.99", "1.99.7"):
        ended = mirror.here("releases", "show", name)
        assert (ended.code, "did you mean go1.99.1? " in ended.err) == (1, True), ended
    assert "did you mean" not in mirror.here("releases", "show", "nonsense").err
