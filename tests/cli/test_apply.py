"""`moorage apply`: the file, the diff that people read, and the ways in which a file is wrong."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.port import Port, served_port
from tests.e2e.process import ROOT, Ended, Site
from tests.e2e.warm import Warm

FILE = """\
[[rules]]
effect = "deny"
pattern = "evil.example"
reason = "malware"

[tenants.acme]
title = "Team A"
limits = { cold = 4 }

[[tenants.acme.rules]]
effect = "allow"
pattern = "example.com"
versions = "<v2.0.0"
expires_at = 2099-01-31T00:00:00Z

[[tenants.acme.routes]]
pattern = "*"
upstreams = [{ url = "https://proxy.example", zip_s = 60 }, "https://b.example"]
"""
CREATED = """\
+ tenant acme
    title: Team A
    default: deny
    enabled: yes
    limits: cold 4
+ rule platform: deny evil.example
    reason: malware
+ rule acme: allow example.com <v2.0.0
    expires_at: 2099-01-31T00:00:00+00:00
+ route acme: *
    upstreams: https://proxy.example (zip_s=60.0), https://b.example
    ttl_s: 300
    log: defer
"""


@pytest.fixture(scope="module")
def port(warm: Warm) -> Iterator[Port]:
    with served_port(warm) as served:
        yield served


@pytest.fixture(autouse=True)
def _begin_with_the_default_tenant(port: Port) -> None:
    body = {"document": {"tenants": {"default": {}}, "rules": [], "ownership": []}, "prune": True}
    assert port.server.admin("POST", "/apply", body).status == 200


def write(port: Port, text: str) -> str:
    path = port.site.folder / "tenants.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("way", ["here", "there"])
def test_a_file_is_shown_applied_and_then_so_already(port: Port, way: str) -> None:
    run, file = getattr(port, way), write(port, FILE)
    dry = run("apply", "-f", file, "--dry-run")
    assert (dry.code, dry.out, dry.err) == (0, f"{CREATED}would be 4 created\n", "")
    done = run("apply", "--file", file)
    assert (done.code, done.out, done.err) == (0, f"{CREATED}4 created\n", "")
    assert run("apply", "-f", file).out == "nothing to change\n"


def test_a_change_shows_what_was_and_what_is(port: Port) -> None:
    port.done("apply", "-f", write(port, FILE))
    other = (
        FILE.replace("Team A", "Team B")
        .replace("<v2.0.0", "<v3.0.0")
        .replace("zip_s = 60", "zip_s = 90")
        .replace("malware", "worse")
    )
    file = write(port, other)
    assert (
        port.both("apply", "-f", file, "--dry-run").out
        == """\
- rule acme: allow example.com <v2.0.0
~ tenant acme
    title: Team A → Team B
~ rule platform: deny evil.example
    reason: malware → worse
+ rule acme: allow example.com <v3.0.0
    expires_at: 2099-01-31T00:00:00+00:00
~ route acme: *
    upstreams: https://proxy.example (zip_s=60.0), https://b.example → \
https://proxy.example (zip_s=90.0), https://b.example
would be 1 created, 3 updated, 1 removed
"""
    )


def test_prune_removes_what_the_file_does_not_name(port: Port) -> None:
    file = write(port, FILE)
    output = port.both("apply", "-f", file, "--dry-run", "--prune").out
    assert output.startswith("- tenant default\n")
    assert output.endswith("would be 4 created, 1 removed\n")


def test_json_has_every_fact(port: Port) -> None:
    report = port.both("apply", "-f", write(port, FILE), "--dry-run", "--json").json
    assert report["dry_run"] is True
    assert [c["action"] for c in report["changes"]] == ["create"] * 4
    assert report["changes"][3]["after"]["upstreams"][0]["zip_s"] == 60.0


@pytest.mark.slow
def test_a_pipe_gets_no_colours_and_a_terminal_does(port: Port) -> None:
    file = write(port, FILE)
    piped = port.here("apply", "-f", file, "--dry-run").out
    assert "\x1b" not in piped
    site = port.site.but()
    env = {**site.environ, "TERM": "xterm"}
    assert _on_a_terminal(port, env, file).startswith("\x1b[32m+ tenant acme\x1b[0m")
    assert "\x1b[3" not in _on_a_terminal(port, {**env, "NO_COLOR": "1"}, file)


def _on_a_terminal(port: Port, environ: dict[str, str], file: str) -> str:
    import pty
    import subprocess

    from tests.e2e.process import MOORAGE

    near, far = pty.openpty()
    command = [str(MOORAGE), "apply", "-f", file, "--dry-run"]
    with subprocess.Popen(command, env=environ, stdout=far, stdin=subprocess.DEVNULL) as process:
        os.close(far)
        read = b""
        try:
            while piece := os.read(near, 65536):
                read += piece
        except OSError:  # Linux says EIO at the end
            pass
        assert process.wait(60) == 0
    os.close(near)
    return read.decode()


def test_a_file_larger_than_a_request_may_be_is_applied_without_a_server_only(port: Port) -> None:
    rules = [
        f"[[tenants.{name}.rules]]\neffect = 'deny'\npattern = '{number}.example'\n"
        f"reason = '{'x' * 300}'\n"
        for name in ("a", "b", "c", "d")
        for number in range(800)
    ]
    text = "\n".join(rules)
    assert len(text) > 2**20
    file = write(port, text)
    sent = port.there("apply", "-f", file)
    assert (sent.code, sent.out) == (1, "")
    limit = "1048576 bytes (MOORAGE_LIMITS__ADMIN_BODY_BYTES)"
    assert sent.err == f"moorage: the body is larger than {limit}\n"
    done = port.here("apply", "-f", file)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(f"\n{len(rules) + 4} created\n")


# A file, and what is told of it.
BAD = [
    ("[tenants.acme", 2, "it is not TOML"),
    ("[tennants.acme]", 2, "tenants.toml: tennants: there is no such key"),
    ("[tenants.acme]\ntitel = 'x'", 2, "tenants.acme.titel: there is no such key"),
    ("[tenants.acme]\nanonymous_read = 'yes'", 2, "tenants.acme.anonymous_read: Input should be"),
    ("[[rules]]\neffect = 'allow'\npattern = 'x.y'", 2, "rules[0]: a platform rule can only deny"),
    ("[[rules]]\neffect = 'deny'\npattern = 'x['", 2, "rules[0]: malformed pattern 'x['"),
    (
        "[[rules]]\neffect = 'deny'\npattern = 'x.y'\nexpires_at = 2099-01-31",
        2,
        "rules[0]: expires_at needs a zone",
    ),
    (
        "[[tenants.acme.routes]]\npattern='*'\nupstreams=[{url='https://x.y', connect_s=nan}]",
        2,
        "tenants.acme.routes[0].upstreams[0].connect_s: Input should be a finite number",
    ),
    (
        "[[tenants.acme.routes]]\npattern='*'\nupstreams=[{url='https://x.y', credential='git'}]",
        1,
        "tenants.acme.routes[0]: tenant acme has no credential 'git'; see `moorage credential set`",
    ),
    ("x = " + "[" * 5000 + "]" * 5000, 2, "tenants.toml: "),
]


@pytest.mark.parametrize(("text", "code", "message"), BAD, ids=range(len(BAD)))
def test_a_bad_file_is_refused_in_one_line_and_the_same_everywhere(
    port: Port, text: str, code: int, message: str
) -> None:
    ended = port.both("apply", "-f", write(port, text))
    assert (ended.code, ended.out) == (code, ""), ended
    assert message in ended.err
    assert ended.err.startswith("moorage: ")
    assert ended.err.count("\n") == 1


def test_a_file_that_cannot_be_read_is_bad_usage(port: Port) -> None:
    for path, message in (("absent.toml", "No such file"), (str(port.site.folder), "directory")):
        ended = port.both("apply", "-f", path)
        assert (ended.code, ended.out) == (2, "")
        assert message in ended.err


def test_the_example_of_the_manual_can_be_applied(port: Port, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tenants.md").read_text()
    [example] = re.findall(r"```toml\n(# tenants\.toml.*?)```", text, re.DOTALL)
    path = tmp_path / "tenants.toml"
    path.write_text(example)
    (tmp_path / "artifactory.secret").write_text("s3cret\n")
    done = port.here("apply", "-f", str(path), "--prune")
    assert done.code == 0, done
    assert port.there("apply", "-f", str(path), "--prune").out == "nothing to change\n"


SECRET = "s3cret-of-the-file"
WITH_SECRETS = """\
[tenants.acme.credentials.git]
secret_env = "GIT_TOKEN"

[tenants.acme.credentials.nexus]
username = "moorage"
secret_file = "secrets/nexus"

[[tenants.acme.routes]]
pattern = "corp.example"
private = true
upstreams = [{ url = "https://nexus.example", credential = "nexus" }]
"""


def credentials(port: Port) -> list[tuple[str, str, str]]:
    listed = port.done("credential", "list", "--tenant", "acme")
    return [(c["name"], c["kind"], c["username"]) for c in listed]


def test_a_file_and_its_secrets_are_one_step_and_no_secret_is_shown(port: Port) -> None:
    folder = port.site.folder / "secrets"
    folder.mkdir()
    (folder / "nexus").write_text(f"{SECRET}\n")
    file = write(port, WITH_SECRETS)
    far = {"MOORAGE_TOKEN": port.server.token, "MOORAGE_SERVER": port.server.url}

    def run(environ: Mapping[str, str], secret: str, *more: str) -> Ended:
        site = Site(port.site.folder, {**environ, "GIT_TOKEN": secret, "LC_ALL": "C.UTF-8"})
        return port.warm.run(site, "apply", "-f", file, *more)

    dry, done = run(port.site.environ, SECRET, "--dry-run"), run(far, SECRET)
    assert (dry.code, done.code, dry.err + done.err) == (0, 0, "")
    assert "+ credential acme: nexus\n    kind: basic\n    username: moorage\n" in done.out
    assert done.out.replace("4 created", "would be 4 created") == dry.out
    assert credentials(port) == [("git", "bearer", ""), ("nexus", "basic", "moorage")]
    assert run(port.site.environ, SECRET).out == "nothing to change\n"
    other = run(far, f"{SECRET}-2")
    assert other.out == "~ credential acme: git\n    secret: recorded → changed\n1 updated\n"
    shown = run(far, SECRET, "--json")
    assert shown.json["changes"][0]["after"]["secret"] == "changed"
    for ended in (dry, done, other, shown):
        assert SECRET not in ended.out + ended.err
    assert SECRET not in repr(port.server.events) + port.server.err


REFERENCES = {
    "a secret in the file": (f'secret = "{SECRET}"', "a file holds no secret"),
    "no reference": ('username = "ann"', "either secret_file or secret_env says where"),
    "both references": (
        'secret_env = "A"\nsecret_file = "b"',
        "either secret_file or secret_env says where",
    ),
    "a number": ("secret_file = 3", "either secret_file or secret_env says where"),
    "no variable": ('secret_env = "MOORAGE_TEST_NONE"', "the environment has no MOORAGE_TEST_NONE"),
    "no file": ('secret_file = "absent"', "absent: No such file or directory"),
    "an empty file": ('secret_file = "/dev/null"', "the secret is empty"),
    "a file without end": ('secret_file = "/dev/zero"', "secret: "),
    "an unknown key": ('secret_env = "LC_ALL"\nhost = "x"', "host: there is no such key"),
    "a wrong kind": ('secret_env = "LC_ALL"\nkind = "ntlm"', "kind: Input should be 'basic'"),
    "no table": None,
}


@pytest.mark.parametrize("case", REFERENCES.values(), ids=REFERENCES)
def test_a_reference_that_leads_to_no_secret_is_one_line(
    port: Port, case: tuple[str, str] | None
) -> None:
    lines, message = case or ("", "tenants.acme.credentials.git: Input should be")
    text = f"[tenants.acme.credentials.git]\n{lines}\n"
    if case is None:
        text = "[tenants.acme.credentials]\ngit = 3\n"
    ended = port.there("apply", "-f", write(port, text), "--dry-run")
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert "tenants.acme.credentials.git" in ended.err
    assert ended.err.count("\n") == 1
    assert SECRET not in ended.err
