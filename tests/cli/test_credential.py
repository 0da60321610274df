"""`moorage credential`: a secret comes from a file, a pipe or a terminal, and is never shown."""

import json
import os
import subprocess

from tests.cli.port import Port, Way
from tests.e2e.process import MOORAGE
from tests.e2e.warm import terminal

SECRET = "s3cret-Zo2"


def secret_file(port: Port) -> str:
    path = port.site.folder / "secret"
    path.write_text(f"{SECRET}\n")
    return str(path)


def test_credentials_are_set_from_a_file_and_never_shown(way: Way, tenant: str) -> None:
    path = secret_file(way.port)
    put = way(
        *("credential", "set", "art", "--tenant", tenant),
        *("--username", "bob", "--secret-file", path),
    )
    assert put.out.startswith(f"credential art of tenant {tenant} is recorded; `moorage route add")
    way.json("credential", "set", "bare", "--tenant", tenant, "--secret-file", path)
    listed = way.json("credential", "list", "--tenant", tenant)
    assert [(c["name"], c["kind"], c["username"]) for c in listed] == [
        ("art", "basic", "bob"),
        ("bare", "bearer", ""),
    ]
    everything = put.out + json.dumps(listed) + way("audit", "list").out
    assert SECRET not in everything
    assert way("credential", "remove", "art", "--tenant", tenant).code == 0
    # No way to give it as an argument, where `ps` shows it.
    refusal = way("credential", "set", "art", "--tenant", tenant, "--secret", SECRET)
    assert (refusal.code, refusal.out) == (2, "")


def test_a_secret_may_come_on_stdin(port: Port) -> None:
    assert port.here("tenant", "create", "piped").code == 0
    arguments = ("credential", "set", "art", "--tenant", "piped", "--json")
    done = subprocess.run(
        [str(MOORAGE), *arguments],
        env=dict(port.site.environ),
        input=f"{SECRET}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["name"] == "art"
    assert SECRET not in done.stdout + done.stderr
    assert port.here("tenant", "remove", "piped", "--yes").code == 0


def test_a_terminal_is_asked_for_a_secret_without_echo(port: Port) -> None:
    assert port.here("tenant", "create", "asked").code == 0

    with terminal() as (near, far):
        run = port.warm.start(port.site, "credential", "set", "art", "--tenant", "asked", tty=far)
        shown = b""
        while b"Secret of art: " not in shown:  # the echo is off before it is asked
            shown += os.read(near, 4096)
        os.write(near, f"{SECRET}\n".encode())
        assert run.wait().code == 0
        shown += os.read(near, 65536)
    assert SECRET.encode() not in shown
    assert b"is recorded" in shown
    assert port.here("tenant", "remove", "asked", "--yes").code == 0


def test_what_contradicts_or_is_missing_is_named(way: Way, tenant: str) -> None:
    path = secret_file(way.port)
    set_app = ("credential", "set", "app", "--tenant", tenant, "--secret-file", path)
    refusal = way(*set_app, "--github-app", "12345")
    assert refusal.code == 2
    assert "named as APP/INSTALLATION, such as 12345/678901; '12345' has no installation id" in (
        refusal.err
    )
    for options, named in (
        (("--github-app", "1/2", "--username", "bob"), "--username and --github-app"),
        (("--ssh-key-file", path), "--secret-file and --ssh-key-file"),
    ):
        assert f"{named} exclude each other" in way(*set_app, *options).err
