"""docker-compose.yml as Docker reads it: anchors merged, and the files of environments."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = ROOT / "deploy" / "compose"


@cache
def composition() -> dict[str, Any]:
    """Return the whole file."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def services(profile: str) -> dict[str, dict[str, Any]]:
    """Return the services that a profile starts, by name."""
    everything: dict[str, dict[str, Any]] = composition()["services"]
    return {
        name: one for name, one in everything.items() if profile in one.get("profiles", [profile])
    }


def make_secrets(folder: Path) -> subprocess.CompletedProcess[str]:
    """Make the secrets of the profile "replicated" in a folder."""
    return subprocess.run(
        [str(FILES / "secrets.sh"), str(folder)], capture_output=True, text=True, check=True
    )


def variables(file: Path) -> dict[str, str]:
    """Return what a file of variables sets."""
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


def environment(service: dict[str, Any], secrets: Path) -> dict[str, str]:
    """Return the environment of a service; its own lines win over its files."""
    environ: dict[str, str] = {}
    for one in service.get("env_file", []):
        environ |= variables(secrets / Path(one["path"]).name)
    return environ | service.get("environment", {})
