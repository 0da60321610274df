"""The sandbox: its unit as systemd judges it, runs in bubblewrap, and what a run may see."""

import json
import os
import platform
import pty
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from app.node import units
from app.node.cli import main
from app.node.errors import NodeError, RefusedError, UsageError
from app.node.sandbox import Sandbox, find_view, parse_variables, passed_variables
from app.node.seccomp import socket_filter

REPOSITORY = Path(__file__).parents[2]
LARGEST_EXPOSURE = 3.0
# Everything that has a meaning in a unit file.
ODD = Path('/opt/a b%h:c"d$HOME')

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(folder: Path, *words: str) -> str:
    """Return what systemd-analyze prints, its warnings included."""
    # The machine's own units have sockets there, whose paths may not be long.
    with tempfile.TemporaryDirectory() as runtime:
        done = subprocess.run(
            ["systemd-analyze", *words],
            cwd=folder,
            env={**os.environ, "XDG_RUNTIME_DIR": runtime, "HOME": str(folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    return done.stdout


def exposure(folder: Path, unit: str, *scope: str) -> float:
    printed = analyze(folder, "security", *scope, "--offline=yes", f"./{unit}")
    match = re.search(r"Overall exposure level for .*: ([0-9.]+)", printed)
    assert match, printed
    return float(match[1])


def sandbox_unit(root: Path = ODD) -> str:
    return units.sandbox_unit(
        hidden=[Path("/run"), Path("/home"), Path("/root")],
        readable=[root],
        writable=[root / "gocache", root / "gomodcache"],
        memory="4G",
        tasks=4096,
    )


@needs_systemd
def test_systemd_takes_each_line_of_the_template_and_of_a_run(tmp_path: Path):
    (tmp_path / units.SANDBOX_UNIT).write_text(sandbox_unit())
    dropin = tmp_path / "go-sandbox@7.service.d"
    dropin.mkdir()
    (dropin / "run.conf").write_text(
        units.run_dropin(
            argv=["/bin/sh", "-c", 'echo "$HOME" %h\n', ""],
            folder=ODD,
            run_folder=ODD / "7",
            writable=[ODD],
            readable=[ODD / ".git"],
            files={"StandardInput": "file:/proc/1/fd/0"},
            environment={"TERM": "x y"},
            unset=["SSH_AUTH_SOCK"],
        )
    )
    assert analyze(tmp_path, "verify", "--user", "./go-sandbox@7.service") == ""
    assert exposure(tmp_path, units.SANDBOX_UNIT, "--user") <= LARGEST_EXPOSURE


@needs_systemd
@pytest.mark.parametrize("is_user", [False, True])
def test_systemd_takes_service_and_timer(tmp_path: Path, is_user: bool):
    scope = ["--user"] if is_user else []
    (tmp_path / units.TIMER_UNIT).write_text(units.timer_unit())
    (tmp_path / units.SERVICE_UNIT).write_text(
        units.service_unit(
            command=["/bin/sh", str(ODD), "service", "run"],
            root=ODD,
            extra=[Path("/usr/local")],
            readable=[ODD, Path("/opt/python")],
            is_user=is_user,
        )
    )
    both = [f"./{units.SERVICE_UNIT}", f"./{units.TIMER_UNIT}"]
    assert analyze(tmp_path, "verify", *scope, *both) == ""
    assert exposure(tmp_path, units.SERVICE_UNIT, *scope) <= LARGEST_EXPOSURE


@needs_systemd
def test_the_judgements_see_a_wrong_line_and_a_missing_one(tmp_path: Path):
    text = sandbox_unit().replace("PrivateTmp=yes", "PrivateTmp=perhaps")
    (tmp_path / units.SANDBOX_UNIT).write_text(text)
    assert "perhaps" in analyze(tmp_path, "verify", "--user", f"./{units.SANDBOX_UNIT}")
    text = re.sub(r"(?m)^(SystemCall|Protect|Restrict|Private).*\n", "", sandbox_unit())
    (tmp_path / units.SANDBOX_UNIT).write_text(text)
    assert exposure(tmp_path, units.SANDBOX_UNIT, "--user") > LARGEST_EXPOSURE


def test_a_word_that_systemd_can_not_hold_is_refused():
    with pytest.raises(UsageError, match="UTF-8"):
        units.quoted("\udcff")


# What a run may see.


@pytest.mark.parametrize(
    ("line", "value"),
    [("GOPROXY=https://m.example/goproxy/acme", "https://m.example/goproxy/acme"),
     ("GOPROXY='a b'", "a b"), ('GOPROXY="a b"', "a b"), ("GOPROXY=", "")],
)  # fmt: skip
def test_a_client_config_is_read(line: str, value: str):
    assert parse_variables(f"# comment\n\n{line}\n", "env") == {"GOPROXY": value}


@pytest.mark.parametrize("line", ["GOPROXY", "a=b", "A=b c", "A='b", 'A="b\'c"', "A=\x1b"])
def test_a_line_that_is_no_variable_is_refused(line: str):
    with pytest.raises(RefusedError, match="is not NAME=value"):
        parse_variables(line, "env")


def test_a_client_config_without_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/go").touch()
    (tmp_path / "empty").write_text("# only a comment\n")
    words = ["--goroot", str(tmp_path), "--env", str(tmp_path / "empty")]
    assert main(["sandbox", "install", *words]) == 2
    assert "client-config TENANT --for env" in capsys.readouterr().err
    assert not (tmp_path / ".go-sandbox").exists()


def test_a_run_gets_no_secret_of_the_caller():
    assert passed_variables(
        {"TERM": "x", "GOOS": "js", "AWS_SECRET_ACCESS_KEY": "s", "GITHUB_TOKEN": "s",
         "LC_ALL": "C", "SSH_AUTH_SOCK": "s", "GOPROXY": "direct", "HOME": "/"}
    ) == {"TERM": "x", "GOOS": "js", "LC_ALL": "C"}  # fmt: skip


def test_the_workspace_is_the_nearest_repository_and_its_git_folder_is_guarded(tmp_path: Path):
    home, inner = tmp_path / "home", tmp_path / "home/src/a/b"
    inner.mkdir(parents=True)
    sandbox = Sandbox(home)
    assert find_view(sandbox, inner, None).workspace == inner
    (home / "src/a/go.mod").touch()
    assert find_view(sandbox, inner, None).workspace == home / "src/a"
    (home / "src/.git").mkdir()
    view = find_view(sandbox, inner, None)
    assert (view.workspace, view.folder, view.guarded) == (
        home / "src", inner, (home / "src/.git",)
    )  # fmt: skip


def test_a_workspace_that_holds_more_is_refused(tmp_path: Path):
    home = tmp_path / "home"
    (home / ".go-sandbox/runs").mkdir(parents=True)
    (home / "link").symlink_to(tmp_path)
    sandbox = Sandbox(home)
    for folder in (home, tmp_path, Path("/"), home / ".go-sandbox/runs", home / "link"):
        with pytest.raises(UsageError, match="is no workspace"):
            find_view(sandbox, folder, folder)
    with pytest.raises(UsageError, match="is not in the workspace"):
        find_view(sandbox, Path("/usr"), home / "src")


def test_the_filter_is_whole_for_the_machines_that_it_knows():
    for machine in ("x86_64", "aarch64"):
        program = socket_filter(machine)
        assert program
        assert not len(program) % 8
    assert socket_filter("riscv64") == b""


# Runs in bubblewrap.


def can_make_namespaces() -> bool:
    if shutil.which("bwrap") is None:
        return False
    words = ["bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


needs_bwrap = pytest.mark.skipif(
    not can_make_namespaces(), reason="bwrap is not installed, or user namespaces are off"
)
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a sandbox of a Go that only says its name, a secret, and a workspace."""
    home = tmp_path / "home"
    (home / "src/.git").mkdir(parents=True)
    (home / ".ssh").mkdir()
    (home / ".ssh/id").write_text("secret")
    (home / "root/.moorage").mkdir(parents=True)
    (home / "root/.moorage/node.json").write_text("token")
    (home / "root/current").symlink_to("go1.99.1")
    go = home / "root/go1.99.1/bin/go"
    go.parent.mkdir(parents=True)
    go.write_text("#!/bin/sh\necho go of the sandbox: $GOROOT $GOPROXY\n")
    go.chmod(0o755)
    (home / "env").write_text("GOPROXY=https://moorage.example/goproxy/acme\n")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home / "none"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture
def start(home: Path) -> Start:
    """Return a function that starts a run in bubblewrap."""
    words = ["--goroot", str(home / "root/current"), "--env", str(home / "env")]
    assert main(["sandbox", "install", *words]) == 0

    def call(*argv: str, **more: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "app.node", "run", "--by", "bwrap", *argv],
            cwd=home / "src",
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
               **more},  # type: ignore[arg-type]
        )  # fmt: skip

    return call


# Prints what it could do that it must not, and what it could not that it must.
ATTEMPTS = r"""
import ctypes, json, os, socket, subprocess, sys
wrong = []
def attempt(what, act, *, allowed=False):
    try:
        act()
        done = True
    except (OSError, subprocess.CalledProcessError):
        done = False
    if done != allowed:
        wrong.append(what)
home = os.environ["HOME"]
write = lambda path: lambda: open(path, "w").close()
closed = ["/usr/x", "/etc/x", "/run/x", "/sys/x", ".git/hook"]
for path in [*closed, home + "/x", home + "/.go-sandbox/env"]:
    attempt("write " + path, write(path))
for path in ("inside", "/tmp/x", os.environ["GOCACHE"] + "/x", os.environ["GOMODCACHE"] + "/x"):
    attempt("write " + path, write(path), allowed=True)
for path in ("/.ssh/id", "/root/.moorage/node.json"):
    attempt("read " + path, lambda path=path: open(home + path).close())
attempt("read go", lambda: open(home + "/root/current/bin/go").close(), allowed=True)
sock = lambda *words: lambda: socket.socket(*words).close()
attempt("raw socket", sock(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("raw socket, flags", sock(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 58))
attempt("packet socket", sock(socket.AF_PACKET, socket.SOCK_RAW))
attempt("netlink socket", sock(socket.AF_NETLINK, socket.SOCK_RAW))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
    attempt("socket %s" % family, sock(family, socket.SOCK_STREAM), allowed=True)
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x10000000) == 0:
    wrong.append("a namespace of users")
if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
    wrong.append("mount")
if libc.ptrace(0, 0, 0, 0) == 0:
    wrong.append("ptrace")
attempt("kill a process outside", lambda: os.kill(int(sys.argv[1]), 0))
status = open("/proc/self/status").read()
none = "\t0000000000000000"
for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:" + none, "CapBnd:" + none):
    if line not in status:
        wrong.append("not " + line)
if os.path.exists("setuid-id"):
    if subprocess.check_output(["./setuid-id", "-u"]).strip() != str(os.getuid()).encode():
        wrong.append("a setuid program")
print(json.dumps(wrong))
"""


@needs_bwrap
@pytest.mark.skipif(not Path("/usr/bin/python3").exists(), reason="no /usr/bin/python3")
@pytest.mark.skipif(
    not socket_filter(platform.machine()), reason="no filter of system calls for this machine"
)
def test_a_run_can_not_leave_its_workspace_open_raw_sockets_or_gain_rights(
    home: Path, start: Start
):
    if os.geteuid() == 0:
        # A program that becomes another user when it is run, outside.
        program = home / "src/setuid-id"
        shutil.copy(str(shutil.which("id")), program)
        os.chown(program, 65534, 65534)
        program.chmod(0o4755)
    done = start("--", "/usr/bin/python3", "-c", ATTEMPTS, str(os.getpid()))
    out, err = done.communicate()
    assert done.returncode == 0, err.decode()
    assert json.loads(out) == []
    assert (home / "src/inside").exists()
    # Each missing protection is named.
    assert b"not protected here: MemoryMax= and TasksMax=" in err


@needs_bwrap
@pytest.mark.parametrize(
    ("argv", "code", "printed"),
    [
        (
            ["--", "go", "build"],
            0,
            "go of the sandbox: {home}/root/current https://moorage.example",
        ),
        (["--", "sh", "-c", "exit 7"], 7, ""),
        (["--", "sh", "-c", "kill -TERM $$"], 143, ""),
        (["--", "cat"], 0, "from stdin"),
        (["sh", "-c", "printf '%s|' \"$@\"", "--", "-v", "--", "a b"], 0, "-v|--|a b|"),
        (["--", "no-such-program"], 2, ""),
    ],
)
def test_a_run_gives_output_and_exit_code(
    home: Path, start: Start, argv: Sequence[str], code: int, printed: str
):
    process = start(*argv)
    out, err = process.communicate(b"from stdin")
    assert (process.returncode, err.decode()) == (code, err.decode())
    assert out.decode().startswith(printed.format(home=home))


@needs_bwrap
def test_a_signal_reaches_the_command(start: Start):
    process = start(
        "--", "sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 5


@needs_bwrap
def test_a_terminal_stays_a_terminal(start: Start):
    ours, theirs = pty.openpty()
    try:
        process = start("--", "sh", "-c", "test -t 0 && test -t 1", stdin=theirs, stdout=theirs)
        process.communicate()
    finally:
        os.close(ours)
        os.close(theirs)
    assert process.returncode == 0


def real_go() -> Path:
    """Return the GOROOT of the checkout's Go, or of the machine's."""
    go = REPOSITORY / ".venv/bin/go"
    program = str(go) if go.exists() else shutil.which("go")
    if program is None:
        pytest.skip("no Go is installed")
    done = subprocess.run([program, "env", "GOROOT"], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


@needs_bwrap
def test_a_real_go_builds_in_it(home: Path, start: Start):
    assert main(["sandbox", "install", "--goroot", str(real_go())]) == 0
    (home / "src/go.mod").write_text("module example.com/m\n\ngo 1.21\n")
    # Without imports, the standard library is not compiled.
    (home / "src/m.go").write_text("package m\n\nfunc Two() int { return 2 }\n")
    process = start("--", "go", "build", "-x", "./...")
    _, err = process.communicate()
    assert process.returncode == 0, err.decode()
    assert any((home / ".go-sandbox/gocache").glob("*/*-d"))


def test_a_machine_without_both_says_so(
    home: Path, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(home / "src")
    monkeypatch.setattr("app.node.bwrap.bwrap_problem", lambda: "bwrap is not installed")
    assert main(["run", "--by", "auto", "--", "go"]) == 2
    assert "no user session of systemd runs for this user" in (line := capsys.readouterr().err)
    assert "bwrap is not installed" in line


def test_uninstall_removes_what_install_wrote(home: Path, start: Start):
    unit = home / ".config/systemd/user/go-sandbox@.service"
    assert unit.exists()
    assert main(["sandbox", "uninstall"]) == 0
    assert not unit.exists()
    assert not (home / ".go-sandbox").exists()
    with pytest.raises(NodeError, match="there is no sandbox"):
        Sandbox(home).variables()


@pytest.mark.usefixtures("start")
def test_install_keeps_the_tenants_settings_and_forgets_a_netrc(home: Path):
    goroot = ["--goroot", str(home / "root/current")]
    netrc = home / "netrc"
    netrc.touch()
    assert main(["sandbox", "install", *goroot, "--netrc", str(netrc)]) == 0
    assert Sandbox(home).variables()["NETRC"] == str(netrc)
    assert main(["sandbox", "install", *goroot]) == 0
    variables = Sandbox(home).variables()
    assert variables["GOPROXY"] == "https://moorage.example/goproxy/acme"
    assert variables["GOTOOLCHAIN"] == "local"
    assert "NETRC" not in variables


@pytest.mark.usefixtures("start")
def test_install_says_so_where_the_tenants_token_is_missing(
    home: Path, capsys: pytest.CaptureFixture[str]
):
    env, netrc = home / "acme.env", home / "netrc"
    env.write_text("GOPROXY=https://moorage.example/goproxy/acme\nGOAUTH=netrc\n")
    netrc.touch()
    install = ["sandbox", "install", "--goroot", str(home / "root/current"), "--env", str(env)]
    capsys.readouterr()
    assert main(install) == 0
    assert "without --netrc FILE its proxy answers 401" in capsys.readouterr().err
    assert main([*install, "--netrc", str(netrc)]) == 0
    assert "401" not in capsys.readouterr().err
