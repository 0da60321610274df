"""Where a root keeps what.

<root>/go1.23.1/             a snapshot: GOROOT, exactly the files of its tree
<root>/current               a link to the snapshot in use
<root>/.staging-…            what a run unpacks into; removed by the next run
<root>/.moorage/lock         held by the run that changes something
<root>/.moorage/node.json    servers, channel, pinned key, token: only the owner reads it
<root>/.moorage/state.json   newest revision seen, last result, what was current before
<root>/.moorage/snapshots/   for each snapshot: .json (record), .tree, .stat
<root>/.moorage/test.d/      hooks before the switch
<root>/.moorage/switched.d/  hooks after the switch
"""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from .errors import disk_error
from .goversion import is_version

STAGING = ".staging-"
STATE = ".moorage"


def default_root() -> Path:
    """Return /opt/go for root, else ~/.local/share/moorage/go."""
    if os.geteuid() == 0:
        return Path("/opt/go")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "moorage/go"


class Layout:
    """The paths of one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.current = root / "current"
        self.state_folder = root / STATE
        self.records = self.state_folder / "snapshots"
        self.lock = self.state_folder / "lock"
        self.node_file = self.state_folder / "node.json"
        self.state_file = self.state_folder / "state.json"

    def snapshot(self, version: str) -> Path:
        """Return the folder of a release."""
        return self.root / version

    def record(self, version: str, kind: str) -> Path:
        """Return the file beside the snapshot: kind is "json", "tree" or "stat"."""
        return self.records / f"{version}.{kind}"

    def hooks(self, kind: str) -> Path:
        """Return the folder of hooks: kind is "test" or "switched"."""
        return self.state_folder / f"{kind}.d"

    def make(self) -> None:
        """Make the root and the folders of the state.

        Raises:
            DiskError: a folder can't be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self.state_folder.mkdir(mode=0o755, exist_ok=True)
            self.records.mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise disk_error(error, "make") from error

    def new_staging(self) -> Path:
        """Make and return a new folder to unpack into, on the root's file system.

        Raises:
            DiskError: the folder can't be made.
        """
        folder = self.root / f"{STAGING}{secrets.token_hex(8)}"
        try:
            folder.mkdir(mode=0o755)
        except OSError as error:
            raise disk_error(error, "make") from error
        return folder

    def clean(self) -> int:
        """Remove what a killed run left, and return how many things; the caller has the lock.

        Raises:
            DiskError: something can't be removed.
        """
        count = 0
        try:
            for folder, marks in ((self.root, (STAGING, ".current.")), (self.state_folder, (".",))):
                for path in folder.iterdir():
                    if path.name.startswith(marks) and path != self.state_folder:
                        remove(path)
                        count += 1
            for path in self.records.iterdir():
                version = path.name.rpartition(".")[0]
                if path.name.startswith(".") or not self.snapshot(version).is_dir():
                    remove(path)
                    count += 1
        except OSError as error:
            raise disk_error(error, "remove") from error
        return count

    def current_version(self) -> str | None:
        """Return the release that `current` points to; None without one."""
        try:
            target = os.readlink(self.current)
        except OSError:
            return None
        return target if is_version(target) else None


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with everything in it, read-only folders too.

    Raises:
        OSError: something can't be removed.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink()
        return
    try:
        shutil.rmtree(path)
    except PermissionError:
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o700)
        shutil.rmtree(path)
