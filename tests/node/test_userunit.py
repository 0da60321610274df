"""A run by the user's manager: what systemctl is asked, and what its answers mean.

A script in the place of systemctl ends each run at once. docs/sandbox.md says how a run is tried
with a real manager.
"""

import os
from pathlib import Path

import pytest

from app.node.cli import main
from app.node.sandbox import Sandbox

FAKE = r"""#!/bin/sh
echo "$*" >> "$FAKE/asked"
case "$*" in
  *ControlGroup*) echo /fake ;;
  *show-environment*) printf 'PATH=/bin\nSECRET_TOKEN=x\nLANG=C\n' ;;
  *Result*) printf 'Result=%s\nExecMainStatus=%s\n' "$FAKE_RESULT" "$FAKE_STATUS" ;;
  *start*)
    cat "$XDG_RUNTIME_DIR"/systemd/user/go-sandbox@*.d/run.conf > "$FAKE/dropin"
    run=$(sed -n 's/^Environment="MOORAGE_RUN=\(.*\)"$/\1/p' "$FAKE/dropin")
    if [ -n "$FAKE_END" ]; then echo "$FAKE_END" > "$run/end"; else echo failed >&2; exit 1; fi ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a sandbox, a workspace and a user manager that is a script."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(FAKE)
    (tmp_path / "bin/systemctl").chmod(0o755)
    (tmp_path / "run/systemd").mkdir(parents=True)
    (tmp_path / "run/systemd/private").touch()
    (tmp_path / "home/src").mkdir(parents=True)
    (tmp_path / "goroot/bin").mkdir(parents=True)
    (tmp_path / "goroot/bin/go").touch()
    (tmp_path / "goroot/bin/go").chmod(0o755)
    for name, value in {
        "HOME": tmp_path / "home", "XDG_RUNTIME_DIR": tmp_path / "run", "FAKE": tmp_path,
        "PATH": f"{tmp_path}/bin:/usr/bin:/bin", "FAKE_RESULT": "success", "FAKE_STATUS": "0",
        "FAKE_END": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(tmp_path / "home/src")
    assert main(["sandbox", "install", "--goroot", str(tmp_path / "goroot")]) == 0
    return tmp_path


@pytest.mark.parametrize(
    ("end", "code"),
    [("exited 0", 0), ("exited 7", 7), ("exited 2/INVALIDARGUMENT", 2), ("killed TERM", 143),
     ("killed KILL", 137), ("dumped SEGV", 139)],
)  # fmt: skip
def test_a_runs_end_is_its_exit_code_and_nothing_of_it_stays(
    fake: Path, monkeypatch: pytest.MonkeyPatch, end: str, code: int
):
    monkeypatch.setenv("FAKE_END", end)
    assert main(["run", "--", "go", "vet", "$HOME", "%h"]) == code
    text = (fake / "dropin").read_text()
    assert f'ExecStart="{fake}/goroot/bin/go" "vet" "$$HOME" "%%h"' in text
    assert f"WorkingDirectory={fake}/home/src" in text
    assert "SECRET_TOKEN" in next(x for x in text.splitlines() if x.startswith("UnsetEnv"))
    assert list(Sandbox(fake / "home").runs.iterdir()) == []
    assert list((fake / "run/systemd/user").iterdir()) == []


def test_a_manager_that_can_not_make_namespaces_is_named(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FAKE_STATUS", "226")
    assert main(["run", "--", "go"]) == 1
    assert "namespaces can't be made; `moorage-node run --by bwrap`" in capsys.readouterr().err


def test_a_limit_that_the_manager_passes_over_is_named(
    fake: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FAKE_END", "exited 0")
    main(["run", "--", "go"])
    assert "not protected here: MemoryMax= (the controller memory" in capsys.readouterr().err


def test_a_run_whose_caller_was_killed_is_stopped_by_the_next_one(
    fake: Path, monkeypatch: pytest.MonkeyPatch
):
    dead = f"{2**22 + 1}-00"  # above the largest process id
    (Sandbox(fake / "home").runs / dead).mkdir()
    monkeypatch.setenv("FAKE_END", "exited 0")
    assert main(["run", "--", "go"]) == 0
    assert f"--user stop go-sandbox@{dead}.service" in (fake / "asked").read_text()
    assert list(Sandbox(fake / "home").runs.iterdir()) == []


def test_what_can_not_be_opened_again_gets_a_pipe_in_between(
    fake: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FAKE_END", "exited 0")
    (fake / "text").write_text("one\ntwo\n")
    saved = os.dup(0)
    source = os.open(fake / "text", os.O_RDONLY)
    try:
        os.dup2(source, 0)
        main(["run", "--", "go"])
        assert f"StandardInput=file:/proc/{os.getpid()}/fd/0" in (fake / "dropin").read_text()
        os.read(0, 4)
        main(["run", "--", "go"])
        assert f"StandardInput=file:/proc/{os.getpid()}/fd/0\n" not in (fake / "dropin").read_text()
    finally:
        os.dup2(saved, 0)
        os.close(saved)
        os.close(source)
