"""The server's systemd unit: systemd understands each line; it is as closed as documented."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from app.settings import load_settings

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "systemd" / "moorage.service"
PAGE = ROOT / "docs" / "operations" / "install.md"
PROGRAM = "/opt/moorage/bin/moorage"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def analyze(folder: Path, *words: str) -> str:
    """Return what systemd-analyze prints, its warnings included."""
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


def drop_in() -> str:
    """Return the drop-in of the documentation: TLS on port 443."""
    match = re.search(r"```ini\n(\[Service\].*?)```", PAGE.read_text(), re.DOTALL)
    assert match
    return match[1]


def put(folder: Path, *, is_changed: bool) -> None:
    """Write the unit, and perhaps the drop-in, with a program that exists here."""
    (folder / UNIT.name).write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    if is_changed:
        (folder / f"{UNIT.name}.d").mkdir()
        (folder / f"{UNIT.name}.d" / "override.conf").write_text(drop_in())


@needs_systemd
@pytest.mark.parametrize("is_changed", [False, True])
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path, is_changed: bool) -> None:
    put(tmp_path, is_changed=is_changed)
    assert analyze(tmp_path, "verify", f"./{UNIT.name}") == ""


@needs_systemd
@pytest.mark.parametrize("is_changed", [False, True])
def test_the_unit_is_as_closed_as_the_page_says(tmp_path: Path, is_changed: bool) -> None:
    put(tmp_path, is_changed=is_changed)
    printed = analyze(tmp_path, "security", "--offline=yes", f"./{UNIT.name}")
    match = re.search(r"Overall exposure level for .*: ([0-9.]+)", printed)
    assert match, printed
    assert f"{match[1]} of 10" in PAGE.read_text()


def test_the_units_settings_are_settings(tmp_path: Path) -> None:
    environ = dict(re.findall(r"^Environment=(\w+)=(.+)$", UNIT.read_text(), re.MULTILINE))
    key = tmp_path / "secrets.key"
    key.write_text("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    key.chmod(0o600)
    match = re.search(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert match
    settings = tmp_path / "moorage.toml"
    settings.write_text(match[1])
    environ |= {"MOORAGE_CONFIG": str(settings)}
    environ["MOORAGE_SECRETS_KEY_FILE"] = environ["MOORAGE_SECRETS_KEY_FILE"].replace(
        "%d", str(tmp_path)
    )
    state = re.search(r"^StateDirectory=(.+)$", UNIT.read_text(), re.MULTILINE)
    assert state
    assert load_settings(environ).data_dir == Path("/var/lib", state[1])
