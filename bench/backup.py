"""How long a backup and a restore take: 10,000 blobs and 100,000 module versions.

The installation is made of rows and files, not of requests. Measured are a first backup, a second
one after 1 % new versions with their blobs, one with nothing new, a check by itself, and a restore
into an empty directory, which ends with fsck: seconds, CPU seconds and bytes.
"""

import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from hashlib import sha256
from pathlib import Path

BLOBS, VERSIONS, BLOB_BYTES = 10_000, 100_000, 20_000
_MOORAGE = str(Path(sys.executable).parent / "moorage")
_AT = "2026-11-01 00:00:00.000000"


def run(folder: Path | None = None) -> dict[str, dict[str, float]]:
    """Measure in a new folder, below another one; return the figures of each step."""
    with tempfile.TemporaryDirectory(prefix="moorage-backup-", dir=folder) as made:
        return _measured(Path(made))


def _measured(folder: Path) -> dict[str, dict[str, float]]:
    data = folder / "data"
    environ = {
        "PATH": os.environ["PATH"],
        "MOORAGE_DATA_DIR": str(data),
        "MOORAGE_BACKUP__URL": str(folder / "backups"),
        "MOORAGE_STORAGE__MIN_FREE_PERCENT": "0",
    }
    _moorage(environ, "migrate")
    _moorage(environ, "fsck")  # makes keys and takes the built-in key over
    _fill(data, range(VERSIONS), BLOBS)
    figures = {"first backup": _timed(environ, "backup", "create", "--json")}
    _fill(data, range(VERSIONS, VERSIONS + VERSIONS // 100), BLOBS // 100)
    figures["second backup"] = _timed(environ, "backup", "create", "--json")
    figures["nothing new"] = _timed(environ, "backup", "create", "--json")
    figures["verify"] = _timed(environ, "backup", "verify", "--json")
    shutil.copy(data / "keys" / "secrets.key", folder / "secrets.key")
    shutil.rmtree(data)
    arguments = ("restore", "--secrets-key", str(folder / "secrets.key"), "--json")
    figures["restore with fsck"] = _timed(environ, *arguments)
    figures["fsck --deep"] = _timed(environ, "fsck", "--deep", "--json")
    first, second = (figures[f"{name} backup"]["new_bytes"] for name in ("first", "second"))
    figures["second backup"]["share"] = second / first
    return figures


def _fill(data: Path, versions: range, blobs: int) -> None:
    """Add module versions with .info and .mod in their rows; the first ones have a zip, a blob."""
    dice = random.Random(versions.start)
    with closing(sqlite3.connect(data / "moorage.db")) as db, db:
        db.execute("INSERT OR IGNORE INTO origins (id, key) VALUES (1, 'https://proxy.example')")
        for number in versions:
            module, version = f"example.com/m{number // 10:06}", f"v1.{number % 10}.0"
            info = f'{{"Version":"{version}","Time":"2026-01-02T03:04:05Z"}}'.encode()
            mod = f"module {module}\n\ngo 1.24\n".encode() + dice.randbytes(150).hex().encode()
            for kind, body in (("info", info), ("mod", mod)):
                _file(db, module, version, kind, sha256(body).hexdigest(), len(body), body)
            if number - versions.start < blobs:
                content = dice.randbytes(BLOB_BYTES)
                name = sha256(content).hexdigest()
                path = data / "blobs" / name[:2] / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.write_bytes(content)
                path.chmod(0o440)
                db.execute(
                    "INSERT INTO blobs (sha256, size_bytes, damaged, stored_at, checked_at)"
                    " VALUES (?, ?, 0, ?, ?)",
                    (name, BLOB_BYTES, _AT, _AT),
                )
                _file(db, module, version, "zip", name, BLOB_BYTES, None)


def _file(
    db: sqlite3.Connection,
    module: str,
    version: str,
    kind: str,
    name: str,
    size: int,
    body: bytes | None,
) -> None:
    h1 = "" if kind == "info" else f"h1:{name[:43]}="
    blob = None if body is not None else name
    db.execute(
        "INSERT INTO module_files (origin_id, module, version, kind, sha256, size_bytes, body,"
        " blob_sha256, h1, go_mod_h1, log_state, stored_at)"
        " VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, '', '', ?)",
        (module, version, kind, name, size, body, blob, h1, _AT),
    )


def _moorage(environ: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [_MOORAGE, *arguments], env=environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"moorage {arguments[0]} ended with {done.returncode}: {done.stderr}")
    return done.stdout


def _timed(environ: dict[str, str], *arguments: str) -> dict[str, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = json.loads(_moorage(environ, *arguments))
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    figures = {"seconds": seconds, "cpu_seconds": cpu}
    keys = ("new_bytes", "database_bytes", "blobs", "blob_bytes", "checked", "clean")
    return figures | {key: float(result[key]) for key in keys if key in result}


if __name__ == "__main__":
    for step, values in run(Path(sys.argv[1]) if len(sys.argv) > 1 else None).items():
        print(f"{step:<18}", ", ".join(f"{key} {value:,.3f}" for key, value in values.items()))
