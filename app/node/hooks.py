"""The operator's own programs before and after a switch.

    <root>/.moorage/test.d/*       before: one that fails keeps the release from becoming current
    <root>/.moorage/switched.d/*   after: one that fails takes the switch back

Executable files, in the order of their names, with GOROOT, MOORAGE_ROOT, MOORAGE_VERSION and
MOORAGE_PREVIOUS ("" for none) in their environment.
"""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from .errors import SmokeTestError, disk_error
from .layout import Layout

BEFORE, AFTER = "test", "switched"
_TIMEOUT_S = 600.0


def run_hooks(layout: Layout, kind: str, version: str, previous: str | None) -> int:
    """Run the hooks of a kind and return how many there were.

    Raises:
        SmokeTestError: a hook failed, or somebody else could have written it.
        DiskError: the folder can't be read.
    """
    try:
        paths = sorted(layout.hooks(kind).iterdir())
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise disk_error(error, "read") from error
    hooks = [path for path in paths if os.access(path, os.X_OK) and path.is_file()]
    environment = {
        **os.environ,
        "GOROOT": str(layout.snapshot(version)),
        "MOORAGE_ROOT": str(layout.root),
        "MOORAGE_VERSION": version,
        "MOORAGE_PREVIOUS": previous or "",
    }
    for path in hooks:
        _run(path, environment)
    return len(hooks)


def _run(path: Path, environment: dict[str, str]) -> None:
    status = path.stat()
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & stat.S_IWOTH:
        raise SmokeTestError(f"the hook {path} is not run: another user can write it")
    try:
        done = subprocess.run(
            [str(path)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SmokeTestError(f"the hook {path.name} took longer than {_TIMEOUT_S:.0f} s") from error
    except OSError as error:
        raise SmokeTestError(f"the hook {path.name} does not start: {error.strerror}") from error
    if done.returncode:
        last = done.stdout.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SmokeTestError(
            f"the hook {path.name} ended with {done.returncode}: {ascii(last[:200])[1:-1]}"
        )
