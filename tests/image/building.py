"""Building the image with buildah over a Debian that mmdebstrap makes: no registry is asked.

Everything is below one folder: buildah's storage, the base, and what pip needs in a build.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAMS = ("buildah", "mmdebstrap", "unshare", "make")
BASE, IMAGE = "localhost/moorage-base", "localhost/moorage:proof"
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_AUTHORITIES_INSIDE = "/run/authorities.crt"
# Settings of pip that mean the same in a build as on this machine.
_CARRIED = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")


def missing() -> list[str]:
    """Return what this machine lacks: programs, or the rights of root."""
    lacks = [name for name in PROGRAMS if shutil.which(name) is None]
    return lacks if os.geteuid() == 0 else [*lacks, "root"]


@dataclass(frozen=True)
class Layer:
    """One layer of the image, as a tar file.

    Attributes:
        path: the tar file, packed as it would be pushed.
        bytes_packed: what a registry keeps and a node pulls.
        bytes_inside: of the files in it.
    """

    path: Path
    bytes_packed: int
    bytes_inside: int


class Builder:
    """buildah with a storage of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._command = [
            "buildah",
            "--storage-driver=vfs",
            f"--root={folder}/storage",
            f"--runroot={folder}/running",
        ]
        self._environ = {**os.environ, "BUILDAH_ISOLATION": "chroot"}

    def _buildah(self, *arguments: str) -> str:
        return self._run(*self._command, *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self._environ, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout.strip()

    def make_base(self) -> None:
        """Make the image that the Dockerfile builds on: Debian's smallest variant with apt."""
        packed = self.folder / "base.tar"
        if not packed.exists():
            self._run("mmdebstrap", "--quiet", "--variant=minbase", "bookworm", str(packed))
        container = self._buildah("from", "scratch")
        self._buildah("add", "--quiet", container, str(packed), "/")
        self._buildah("commit", "--quiet", "--rm", container, BASE)

    def build(self) -> None:
        """Build the image as a user does, by `make image`; a build may use this machine's network.

        The settings of pip and the authorities of this machine are mounted, so neither is in a
        layer.
        """
        settings = self.folder / "pip.conf"
        settings.write_text(self._pip_settings())
        mounts = {_AUTHORITIES: _AUTHORITIES_INSIDE, settings: "/etc/pip.conf"}
        flags = [
            "--network=host",
            "--pull=never",
            *(f"--volume={a}:{b}:ro" for a, b in mounts.items()),
        ]
        self._run(
            "make",
            "--no-print-directory",
            "image",
            f"BUILDER={' '.join(self._command)}",
            f"BASE_IMAGE={BASE}",
            f"IMAGE={IMAGE}",
            f"BUILD_FLAGS={' '.join(flags)}",
        )

    def _pip_settings(self) -> str:
        listed = subprocess.run(
            [sys.executable, "-m", "pip", "config", "list"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        # "global.index-url='https://…'" of a file, ":env:.timeout='180'" of the environment.
        named = re.findall(r"^(?:global|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
        lines = [f"{name} = {value}" for name, value in named if name in _CARRIED]
        return "\n".join(["[global]", f"cert = {_AUTHORITIES_INSIDE}", *lines, ""])

    def config(self) -> dict[str, Any]:
        """Return the image's configuration as Docker has it: User, Env, Entrypoint, Healthcheck."""
        text = self._buildah("inspect", "--type=image", IMAGE)
        config: dict[str, Any] = json.loads(text)["Docker"]["config"]
        return config

    def mounted(self) -> Path:
        """Return the folder where the image's file system is."""
        return Path(self._buildah("mount", self._buildah("from", "--pull=never", IMAGE)))

    def layers(self) -> list[Layer]:
        """Return the layers, the lowest first."""
        folder = self.folder / "pushed"
        self._buildah("push", "--quiet", IMAGE, f"dir:{folder}")
        manifest = json.loads((folder / "manifest.json").read_text())
        layers = []
        for one in manifest["layers"]:
            path = folder / one["digest"].removeprefix("sha256:")
            with tarfile.open(path) as packed:
                inside = sum(member.size for member in packed)
            layers.append(Layer(path, path.stat().st_size, inside))
        return layers
