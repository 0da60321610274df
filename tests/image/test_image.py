"""What can be said of the image without building it; `make test-image` builds it."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.image.__main__ import locked, secrets_in
from tests.image.building import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
# One line per instruction, without comments.
INSTRUCTIONS = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
LAST_STAGE = INSTRUCTIONS[INSTRUCTIONS.rindex("\nFROM ") :]


def instructions(name: str, text: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", text, flags=re.MULTILINE)


def test_the_base_is_named_once_and_can_be_named_by_digest() -> None:
    assert instructions("ARG", INSTRUCTIONS)[0].startswith("BASE_IMAGE=")
    bases = [line.split()[0] for line in instructions("FROM", INSTRUCTIONS)]
    assert bases == ["${BASE_IMAGE}", "runtime", "runtime"]


def test_nothing_is_installed_in_what_the_last_stage_is_made_of_but_what_runs() -> None:
    runtime = INSTRUCTIONS[: INSTRUCTIONS.index("AS build")]
    installs = re.findall(r"install -y --no-install-recommends ([^&]*)", runtime + LAST_STAGE)
    (packages,) = (set(line.split()) for line in installs)
    clients = {"git", "gpg", "openssh-client", "postgresql-client"}
    assert packages == {"ca-certificates", "python3", "tzdata"} | clients
    assert "RUN" not in LAST_STAGE


def test_the_last_stage_runs_as_a_number_and_tells_its_health() -> None:
    assert instructions("USER", LAST_STAGE) == ["65532:65532"]
    (health,) = instructions("HEALTHCHECK", LAST_STAGE)
    assert health.endswith('CMD ["moorage", "health"]')
    assert instructions("STOPSIGNAL", LAST_STAGE) == ["SIGTERM"]


def test_every_package_is_installed_by_the_hash_of_a_lock() -> None:
    commands = re.findall(r"bin/(?:pip|python) [^&]*?install[^&]*", INSTRUCTIONS)
    assert len(commands) == 3
    for command in commands:
        assert "--no-deps" in command
        assert "--require-hashes" in command or "--no-index" in command


def test_what_the_build_copies_is_let_in_and_nothing_else_is() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name
        for line in instructions("COPY", INSTRUCTIONS)
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)


def test_the_sbom_lists_exactly_the_lock(tmp_path: Path) -> None:
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    (command,) = re.findall(r"\$\(BIN\)/(python .*cyclonedx_py.*) -o ", text)
    assert command.partition("cyclonedx_py")[2].split() in [
        line.partition("cyclonedx_py")[2].split()
        for line in re.findall(r"bin/(python .*?cyclonedx_py.*?) -o ", INSTRUCTIONS)
    ]
    listed = sbom(command, tmp_path / "sbom.cdx.json")
    assert {(one["name"], one["version"]) for one in listed["components"]} == locked()
    assert listed["metadata"]["component"]["name"] == "moorage"


def sbom(command: str, path: Path) -> Any:
    arguments = shlex.split(command.replace("$(VERSION)", "0"))[1:]
    subprocess.run(
        [sys.executable, *arguments, "--no-validate", "-o", str(path)], cwd=ROOT, check=True
    )
    return json.loads(path.read_text())


def test_the_lock_of_the_sbom_program_agrees_with_the_lock_of_development() -> None:
    pinned = re.compile(r"^([a-z0-9-]+==\S+)", re.MULTILINE)
    development = set(pinned.findall((ROOT / "requirements-dev.lock").read_text()))
    assert set(pinned.findall((ROOT / "requirements-sbom.lock").read_text())) <= development


@pytest.mark.parametrize(
    ("works", "used"),
    [
        ({"docker", "podman", "buildah"}, "docker"),
        ({"podman", "buildah"}, "podman"),
        ({"buildah"}, "buildah"),
        (set(), None),
    ],
)
def test_make_image_takes_the_first_builder_that_works(
    tmp_path: Path, works: set[str], used: str | None
) -> None:
    """A client without its daemon does not work: `docker info` fails."""
    for name in ("docker", "podman", "buildah"):
        script = f'[ "$1" = info ] && exit {int(name not in works)}; echo "{name} $*" > calls'
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["make", "image", "BASE_IMAGE=debian@sha256:00", "IMAGE=moorage:trial"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if used is None:
        assert done.returncode != 0
        assert "docker, podman or buildah is needed" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    command = (tmp_path / "calls").read_text()
    assert command.startswith(f"{used} build ")
    # Only Docker's own format keeps the health check.
    assert ("--format docker" in command) is (used != "docker")
    assert "--tag moorage:trial" in command
    assert "--build-arg BASE_IMAGE=debian@sha256:00" in command


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("data/keys/secrets.key", b"x"),
        ("root/.netrc", b"machine moorage.example"),
        ("etc/a.pem", b"-----BEGIN PRIVATE KEY-----\n" + b"M" * 64),
        ("etc/b", b"token = moor_" + b"a" * 43),
        ("etc/c", b"key=AKIA" + b"Z" * 16 + b"\n"),
        ("etc/pip.conf", b"index-url = https://builder:hunter22@pypi.corp.example/simple"),
    ],
)
def test_a_secret_in_a_layer_is_noticed(tmp_path: Path, name: str, content: bytes) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as packed:
        for path, data in (("usr/bin/true", b"\x7fELF"), (name, content)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    (hit,) = secrets_in(layer)
    assert hit.startswith(name)
