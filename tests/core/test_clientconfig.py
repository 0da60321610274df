"""Client settings: what is refused, what they say for each target, and that nothing gets lost."""

import json
import re
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.clientconfig import ClientConfig, Target, render
from app.core.errors import BadInputError

BASE = "https://moorage.corp.example:8443"
PROXY = f"{BASE}/goproxy/acme"
MACHINE = "machine moorage.corp.example:8443 login moorage password "
# golang.org/x/mod/sumdb, protocol.md's own vector, and the built-in key of cmd/go.
OWN_KEY = "sum.lab.example+1ff17179+AepKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs"
GOOGLE_KEY = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
TOKEN = "moor_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG000000"


def config(**changes: Any) -> ClientConfig:
    return ClientConfig(**{"base_url": BASE, "tenant": "acme", **changes})


def signed_in(**changes: Any) -> ClientConfig:
    return config(authenticated=True, **changes)


def variables(text: str) -> dict[str, str]:
    """Read the env target's lines as a shell does, which needs no program for them."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return dict(shlex.split(line)[0].split("=", 1) for line in lines)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"GOPROXY": PROXY, "GOSUMDB": "sum.golang.org", "GONOSUMDB": "none"}),
        ({"tenant_in_path": False}, {"GOPROXY": f"{BASE}/goproxy"}),
        ({"base_url": "http://127.0.0.1:8080"}, {"GOPROXY": "http://127.0.0.1:8080/goproxy/acme"}),
        ({"base_url": "https://M.Example:443"}, {"GOPROXY": "https://m.example/goproxy/acme"}),
        ({"base_url": "https://[0:0::1]:8443"}, {"GOPROXY": "https://[::1]:8443/goproxy/acme"}),
        (
            {"private_patterns": ("corp.example/*", "*.lan")},
            {"GONOSUMDB": "corp.example/*,*.lan", "GOPRIVATE": "", "GONOPROXY": "none"},
        ),
        (
            {"private_patterns": ("corp.example",), "sumdb": OWN_KEY, "sumdb_covers_private": True},
            {"GOSUMDB": OWN_KEY, "GONOSUMDB": "none"},
        ),
        ({"sumdb": f"{OWN_KEY} {BASE}/x"}, {"GOSUMDB": f"{OWN_KEY} {BASE}/x"}),
        ({"sumdb": GOOGLE_KEY}, {"GOSUMDB": GOOGLE_KEY}),
        ({"sumdb": "off"}, {"GOSUMDB": "off", "GOTOOLCHAIN": "local"}),
        ({"toolchain": "go1.27.3+auto"}, {"GOTOOLCHAIN": "go1.27.3+auto"}),
        ({"toolchain": "go1.20"}, {"GOTOOLCHAIN": "go1.20"}),
        ({"authenticated": True}, {"GOAUTH": "netrc"}),
    ],
)
def test_the_variables_follow_from_the_configuration(
    changes: dict[str, Any], expected: dict[str, str]
) -> None:
    rendered = variables(render(Target.ENV, config(**changes)))
    assert expected.items() <= rendered.items()


def test_every_variable_is_set_explicitly_and_goflags_never() -> None:
    always = ["GOTOOLCHAIN", "GOPROXY", "GOPRIVATE", "GONOPROXY", "GOSUMDB", "GONOSUMDB"]
    assert list(variables(render(Target.ENV, config()))) == always
    assert list(variables(render(Target.ENV, signed_in()))) == [*always, "GOAUTH"]


@pytest.mark.parametrize(
    "changes",
    [
        *({"base_url": url} for url in (
            "", "moorage.corp.example", "ftp://a.example", f"{BASE}/", f"{BASE}/x", f"{BASE}?a=b",
            "https://u:p@a.example", "https://a.example:0", "https://a.example:65536",
            "https://a.example:", "https://-a.example", "https://a..example", "https://[::1",
            "https://[::g]", "https://a.example\n", "https://a b.example", "https://a.example,b",
            "https://a.example|off", "https://$(id).example",
        )),
        *({"tenant": name} for name in ("", "sumdb", "Acme", "a.b", "-a", "a" * 64, "a\n", "a'b")),
        *({"private_patterns": (text,)} for text in (
            "", "a,b", "a b", "a[", "[]", "a\\", "!a", "a\nb", "é.example", "a/[$]", "a/['\"]",
            "a/[{{]", "a/[%]",
        )),
        *({"sumdb": value} for value in (
            "", "on", "sum.example", "off off", f"{OWN_KEY}A", OWN_KEY.replace("1ff1", "1ff2"),
            OWN_KEY.replace("sum.lab", "sum.lub"), OWN_KEY.swapcase(), f"{OWN_KEY} {BASE} {BASE}",
            f"{OWN_KEY} https://u:p@a.example", f"{OWN_KEY} a.example", f"{OWN_KEY}  {BASE}",
            f"{OWN_KEY}\n",
        )),
        *({"toolchain": value} for value in (
            "", "go1.27", "go1.27-corp", "1.27.3", "go1.9.2rc2", "go1.27.3+local", "local ", "$x",
        )),
        *({"token_name": name} for name in ("", "a", "A B", "A}", "1A", "A\n")),
        {"sumdb": "off", "toolchain": "auto"},
        {"sumdb_covers_private": True},
    ],
    ids=repr,
)  # fmt: skip
def test_what_go_or_a_reader_would_misunderstand_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadInputError):
        config(**changes)


def test_every_changed_character_of_a_verifier_key_is_refused() -> None:
    for at, char in enumerate(OWN_KEY):
        changed = OWN_KEY[:at] + ("A" if char != "A" else "B") + OWN_KEY[at + 1 :]
        with pytest.raises(BadInputError):
            config(sumdb=changed)
        with pytest.raises(BadInputError):
            config(sumdb=OWN_KEY[:at])


def test_a_tenant_with_tokens_is_refused_over_http_with_the_reason() -> None:
    with pytest.raises(BadInputError, match="go never sends credentials over http"):
        signed_in(base_url="http://moorage.corp.example")


@pytest.mark.parametrize("target", Target)
def test_every_target_names_the_tenant_and_ends_with_one_line_break(target: Target) -> None:
    for one in (config(), signed_in()):
        text = render(target, one)
        assert "tenant acme" in text
        assert text.endswith("\n") and not text.endswith("\n\n")
        assert all(char == "\n" or " " <= char <= "~" for char in text)


@pytest.mark.parametrize("target", Target)
def test_a_token_is_asked_for_only_where_the_tenant_wants_one(target: Target) -> None:
    for mark in ("token", "netrc", "GOAUTH"):
        assert mark not in render(target, config()).lower().replace("goauth", "GOAUTH")
        assert mark in render(target, signed_in()).lower().replace("goauth", "GOAUTH")


@pytest.mark.parametrize("target", Target)
def test_the_netrc_entry_has_host_and_port_login_and_password(target: Target) -> None:
    assert MACHINE in render(target, signed_in())
    bare = render(target, signed_in(base_url="https://moorage.corp.example:443"))
    assert "machine moorage.corp.example login moorage password " in bare


@pytest.mark.parametrize("target", Target)
def test_turning_the_checksum_database_off_says_what_that_gives_up(target: Target) -> None:
    lines = render(target, config(sumdb="off")).splitlines()
    at = next(i for i, line in enumerate(lines) if "GOSUMDB" in line)
    assert "taken on trust" in "".join(lines[at - 3 : at])


@pytest.mark.parametrize("target", Target)
def test_a_private_proxy_is_never_combined_with_a_public_fallback(target: Target) -> None:
    text = render(target, signed_in())
    assert "direct\n" not in text and ",direct" not in text and "|" not in re.findall(
        r"GOPROXY\S*", text
    )  # fmt: skip


CHARS = "abz09.-_~/*?^"
ESCAPED = st.sampled_from([f"\\{char}" for char in "a.-_~"])
CLASSES = st.sampled_from(["[a-z]", "[^a]", "[\\]a]", "[*?]", "[~]"])
PATTERNS = st.lists(st.sampled_from(CHARS) | ESCAPED | CLASSES, min_size=1, max_size=12)


def _legal(text: str) -> bool:
    try:
        config(private_patterns=(text,))
    except BadInputError:
        return False
    return True


LEGAL = st.lists(PATTERNS.map("".join).filter(_legal), min_size=1, max_size=4).map(tuple)

FAKE_GO = """#!/bin/sh
[ "$2" = -w ] || exit 0
shift 2
printf '%s\\n' "$@" >> "$HOME/argv"
"""


def told_to_go(text: str, home: Path, shell: str = "sh") -> dict[str, str]:
    """Return what a text tells `go env -w`, from a go that writes down its arguments."""
    (home / "go").write_text(FAKE_GO)
    (home / "go").chmod(0o755)
    environ = {"PATH": f"{home}:/usr/bin:/bin", "HOME": str(home), "MOORAGE_TOKEN": TOKEN}
    for argv in ([shell, "-n", "-c", text], [shell, "-c", text]):
        done = subprocess.run(
            argv, check=False, env=environ, cwd=home, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
    return dict(line.split("=", 1) for line in (home / "argv").read_text().splitlines())


@settings(max_examples=25)
@given(patterns=LEGAL, authenticated=st.booleans())
def test_a_real_sh_gives_go_every_pattern_unchanged(
    patterns: tuple[str, ...], authenticated: bool
) -> None:
    one = config(private_patterns=patterns, authenticated=authenticated)
    with tempfile.TemporaryDirectory() as home:
        go_env = told_to_go(render(Target.SH, one), Path(home))
    assert go_env["GONOSUMDB"] == ",".join(patterns)
    assert go_env["GOPROXY"] == PROXY


@given(patterns=LEGAL)
def test_every_other_target_holds_every_pattern_unchanged(patterns: tuple[str, ...]) -> None:
    one, joined = signed_in(private_patterns=patterns), ",".join(patterns)
    assert variables(render(Target.ENV, one))["GONOSUMDB"] == joined
    for target, key in ((Target.GITHUB_ACTIONS, "env"), (Target.GITLAB, "variables")):
        assert yaml.safe_load(render(target, one))[key]["GONOSUMDB"] == joined
    tasks = yaml.safe_load(render(Target.ANSIBLE, one))
    assert {"name": "GONOSUMDB", "value": joined} in tasks[1]["loop"]
    assert f"'GONOSUMDB={joined}'" in render(Target.POWERSHELL, one)
    assert f"GONOSUMDB={json.dumps(joined)}" in render(Target.DOCKERFILE, one)
    assert f"Environment={json.dumps(f'GONOSUMDB={joined}')}" in render(Target.SYSTEMD, one)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_sh_writes_a_netrc_for_the_owner_alone(tmp_path: Path, shell: str) -> None:
    told_to_go(render(Target.SH, signed_in()), tmp_path, shell)
    netrc = tmp_path / ".netrc"
    assert netrc.read_text() == f"{MACHINE}{TOKEN}\n"
    assert netrc.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == [".netrc", "argv", "go"]


def test_sh_replaces_its_own_earlier_entry_and_keeps_all_others(tmp_path: Path) -> None:
    others = "machine other.example\n  login me\n  password x\nmacdef init\ncd /\n\nlast"
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"{MACHINE}old\n{others}")
    netrc.chmod(0o644)
    for _ in range(2):
        told_to_go(render(Target.SH, signed_in()), tmp_path)
    assert netrc.read_text() == f"{MACHINE}{TOKEN}\n{others}\n"
    assert netrc.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "token", [None, "", "two words", "a\nmachine evil.example", "$(id)", "a'b"]
)
def test_sh_changes_nothing_without_a_proper_token(tmp_path: Path, token: str | None) -> None:
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    if token is not None:
        environ["MOORAGE_TOKEN"] = token
    text = render(Target.SH, signed_in())
    done = subprocess.run(
        ["sh", "-c", text], check=False, env=environ, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "MOORAGE_TOKEN" in done.stderr
    assert list(tmp_path.iterdir()) == []


def run_step(
    script: str, shell: str, folder: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shell, "-e", "-c", script], check=False,
        env={"PATH": "/usr/bin:/bin", **environ}, cwd=folder, capture_output=True, text=True,
    )  # fmt: skip


def test_the_github_step_signs_in_from_a_secret(tmp_path: Path) -> None:
    step = yaml.safe_load(render(Target.GITHUB_ACTIONS, signed_in()))["steps"][0]
    assert step["env"] == {"MOORAGE_TOKEN": "${{ secrets.MOORAGE_TOKEN }}"}
    assert "${{" not in step["run"]
    github = {"RUNNER_TEMP": str(tmp_path), "GITHUB_ENV": str(tmp_path / "env")}
    assert run_step(step["run"], "bash", tmp_path, **github).returncode != 0
    done = run_step(step["run"], "bash", tmp_path, MOORAGE_TOKEN=TOKEN, **github)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    netrc = tmp_path / "moorage-netrc"
    assert (tmp_path / "env").read_text() == f"NETRC={netrc}\n"
    assert (netrc.read_text(), netrc.stat().st_mode & 0o777) == (f"{MACHINE}{TOKEN}\n", 0o600)


def test_the_gitlab_script_signs_in_from_a_masked_variable(tmp_path: Path) -> None:
    read = yaml.safe_load(render(Target.GITLAB, signed_in()))
    assert "MOORAGE_TOKEN" not in read["variables"]
    (script,) = read["default"]["before_script"]
    checkout = str(tmp_path / "project")
    assert run_step(script, "sh", tmp_path, CI_PROJECT_DIR=checkout).returncode != 0
    after = f'{script}\numask; printf %s "$NETRC"'
    environ = {"CI_PROJECT_DIR": checkout, "MOORAGE_TOKEN": TOKEN}
    done = run_step(after, "sh", tmp_path, **environ)
    assert done.stdout.split("\n")[1] == f"{checkout}.tmp/moorage-netrc", "exported for the job"
    assert done.stdout.split("\n")[0] != "0077", "the job's own umask stays"
    netrc = Path(f"{checkout}.tmp/moorage-netrc")
    assert (netrc.read_text(), netrc.stat().st_mode & 0o777) == (f"{MACHINE}{TOKEN}\n", 0o600)


def test_ansible_writes_netrc_from_a_vaulted_variable_without_logging_it() -> None:
    *_, task = yaml.safe_load(render(Target.ANSIBLE, signed_in()))
    assert task["no_log"] is True
    module = task["ansible.builtin.lineinfile"]
    assert module["mode"] == "0600"
    assert module["line"] == f"{MACHINE}{{{{ moorage_token }}}}"
    assert re.search(module["regexp"], f"{MACHINE}old")
    assert not re.search(module["regexp"], f"{MACHINE}old".replace("corp.", "corpx"))


def test_a_dockerfile_has_the_token_in_a_mounted_secret_alone() -> None:
    text = render(Target.DOCKERFILE, signed_in())
    assert "--mount=type=secret,id=moorage_token,required=true" in text
    assert "<<" not in text
    instructions = [line for line in text.splitlines() if re.match(r"(ARG|ENV) |    GO", line)]
    assert instructions and not any("token" in line.lower() for line in instructions)


def test_a_dockerfile_command_signs_in_with_the_secret(tmp_path: Path) -> None:
    run = render(Target.DOCKERFILE, signed_in()).split("\nRUN ")[1]
    command = re.sub(r"--mount=\S+ \\\n\s*", "", run).replace("/run/", f"{tmp_path}/")
    for folder in ("secrets", "moorage"):
        (tmp_path / folder).mkdir()
    (tmp_path / "secrets" / "moorage_token").write_text(f"{TOKEN}\n")
    (tmp_path / "go").write_text('#!/bin/sh\necho "$@"; cat "$NETRC"')
    (tmp_path / "go").chmod(0o755)
    done = run_step(command, "sh", tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin")
    assert done.stdout == f"mod download\n{MACHINE}{TOKEN}\n"


def test_systemd_gives_the_netrc_as_a_credential() -> None:
    lines = render(Target.SYSTEMD, signed_in()).splitlines()
    assert "LoadCredential=moorage-netrc:/etc/moorage/netrc" in lines
    assert 'Environment="NETRC=%d/moorage-netrc"' in lines


def test_powershell_checks_every_step_and_the_token_first() -> None:
    text = render(Target.POWERSHELL, signed_in())
    assert text.count("go env -w '") == text.count("if ($LASTEXITCODE)") == 4
    assert text.index("-notmatch '^[A-Za-z0-9_]+$'") < text.index("WriteAllLines")
    assert text.count("{") == text.count("}")


def test_a_value_that_needs_quotes_is_pointed_out_in_the_file_of_variables() -> None:
    assert "keep quotes" in render(Target.ENV, config(sumdb=f"{OWN_KEY} {BASE}/x"))
    assert "'" not in render(Target.ENV, config(private_patterns=("corp.example/[a-z]*",)))


def test_another_name_of_the_secret_is_used_everywhere() -> None:
    for target in Target:
        text = render(target, signed_in(token_name="ACME_GO"))
        assert "MOORAGE_TOKEN" not in text and "moorage_token" not in text
        assert "ACME_GO" in text or "acme_go" in text
