"""Versions and platforms of Go, as far as a node needs them."""

from __future__ import annotations

import platform
import re

from .errors import UsageError

# What follows a "-" names a release of the company's own: "go1.25.9-corp1".
_VERSION = re.compile(
    r"go1(?:\.\d{1,4}){0,2}(?:(?:rc|beta)\d{1,3}|-[a-z][a-z0-9]{0,29}(?:-[a-z0-9]{1,30}){0,4})?",
    re.ASCII,
)
_PLATFORM = re.compile(r"[a-z0-9]{1,16}-[a-z0-9]{1,16}", re.ASCII)
_SYSTEMS = {"sunos": "solaris"}
_MACHINES = {
    "x86_64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "armv6l": "armv6l",
    "armv7l": "armv6l",
    "ppc64": "ppc64",
    "loongarch64": "loong64",
}


def parse_version(text: str) -> str:
    """Return a release's name, "go1.23.1"; text may lack the "go".

    Raises:
        UsageError: text is no version of a Go release.
    """
    version = text if text.startswith("go") else f"go{text}"
    if not is_version(version):
        raise UsageError(f"{text[:60]!a} is no Go release; write go1.23.1 or 1.23.1")
    return version


def is_version(text: str) -> bool:
    """Return whether text is a release's name: "go1.23.1", "go1.24rc1", "go1.23.1-corp1"."""
    return _VERSION.fullmatch(text) is not None


def this_platform() -> str:
    """Return GOOS and GOARCH of this machine's release archives: "linux-amd64"."""
    system, machine = platform.system().lower(), platform.machine().lower()
    return f"{_SYSTEMS.get(system, system)}-{_MACHINES.get(machine, machine)}"


def parse_platform(text: str) -> tuple[str, str]:
    """Return system and architecture of "linux-amd64".

    Raises:
        UsageError: text has another form.
    """
    if not _PLATFORM.fullmatch(text):
        raise UsageError(f"{text[:60]!a} is no platform; write linux-amd64")
    system, _, arch = text.partition("-")
    return system, arch
