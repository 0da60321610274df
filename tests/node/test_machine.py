"""What a machine may do: full disks, read-only roots, strange umasks, other users."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.fleet import FakeFleet
from tests.node.conftest import V1, V2, Node

MOUNT_AND_RUN = """
mount -t tmpfs -o "$1" tmpfs "$2" || exit 77
exec "$3" -c "$4" "$2" "$5" "$6"
"""
ON_A_SMALL_DISK = f"""
import subprocess, sys
from pathlib import Path
from app.node.cli import main
root, url, vkey = sys.argv[1:]
node = Path(root) / "node"
argv = ["--root", str(node), "--smoke", "none", "--server", url]
argv += ["--vkey", vkey, "--channel", "stable"]
assert main(["install", "{V1}", *argv]) == 0
filler = 0
%s
code = main(["install", "{V2}", *argv])
names = sorted(path.name for path in node.iterdir())
assert (code, names) == (1, [".moorage", "current", "{V1}"]), (code, names)
assert main(["verify", "--full", "--root", str(node)]) == 0
%s
"""
FILL = """
for number in range(100_000):
    try:
        (Path(root) / f"inode-{number}").touch()
    except OSError:
        break
for number in range(4): (Path(root) / f"inode-{number}").unlink()
"""
READ_ONLY = 'subprocess.run(["mount", "-o", "remount,ro", root], check=True)'
WRITABLE = 'subprocess.run(["mount", "-o", "remount,rw", root], check=True)'
DISKS = {
    "full": ("size=3M", "", "", "the disk is full"),
    "no inodes": ("size=64M,nr_inodes=400", FILL, "", "the disk is full"),
    "read-only": ("size=64M", READ_ONLY, WRITABLE, "the file system is read-only"),
}


@pytest.mark.parametrize("kind", DISKS)
def test_a_disk_that_refuses_leaves_the_old_release_in_place(
    tmp_path: Path, fleet: FakeFleet, kind: str
):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    options, before, after, line = DISKS[kind]
    fleet.put_release(V2, extra_bytes=4 << 20)
    # Without the look at free space: the disk fills while the program writes.
    script = f"import app.node.transfer as t; t.check_space = lambda *_: None\n{ON_A_SMALL_DISK}"
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", MOUNT_AND_RUN, "sh"]
    python = [options, str(folder), sys.executable, script % (before, after)]
    done = subprocess.run(
        [*command, *python, fleet.base_url, fleet.vkey],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if (
        done.returncode in (1, 77) and "unshare" in done.stderr + done.stdout
    ) or done.returncode == 77:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_too_little_space_is_named_before_anything_is_fetched(
    node: Node, monkeypatch: pytest.MonkeyPatch
):
    node.install(V1)
    node.fleet.put_release(V2)
    real = os.statvfs(node.root)
    poor = os.statvfs_result((*real[:3], 10, 10, *real[5:]))
    monkeypatch.setattr("os.statvfs", lambda _: poor)
    done = node.install(V2)
    assert (done.code, "MiB are free" in done.stderr) == (1, True)
    monkeypatch.setattr("os.statvfs", lambda _: os.statvfs_result((*real[:6], 7, 7, *real[8:])))
    done = node.install(V2)
    assert (done.code, "inodes" in done.stderr) == (1, True)
    assert node.is_clean(V1)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_the_modes_are_those_of_the_tree_whatever_the_umask(node: Node, umask: int):
    before = os.umask(umask)
    try:
        done = node.install(V1)
    finally:
        os.umask(before)
    assert done.code == 0, done.stderr
    assert node.path("bin/go").stat().st_mode & 0o777 == 0o755
    for path in (node.root, node.path(""), node.path("bin")):
        assert path.stat().st_mode & 0o777 == 0o755
    assert node.is_clean(V1)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_another_user_can_read_and_not_write(node: Node, tmp_path: Path):
    tmp_path.chmod(0o755)
    node.install(V1)

    def as_nobody(*argv: str) -> tuple[int, str]:
        code = (
            "import os, sys; sys.path.insert(0, sys.argv[1]); os.setgid(65534); os.setuid(65534);"
            "from app.node.cli import main; sys.exit(main(sys.argv[2:]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parents[2]), *argv],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stderr

    root = ("--root", str(node.root))
    if as_nobody("list", *root)[0]:
        pytest.skip("the checkout or the temporary folder is closed to other users")
    code, said = as_nobody("install", V1, *root, "--server", node.fleet.base_url)
    assert (code, said.count("\n")) == (1, 1)
    assert "permission denied" in said
    assert node.is_clean(V1)


def test_a_folder_that_was_not_made_here_is_not_touched(node: Node):
    (node.root / V1).mkdir(parents=True)
    (node.root / V1 / "mine").touch()
    done = node.install(V1)
    assert (done.code, "move it away" in done.stderr) == (2, True)
    assert (node.root / V1 / "mine").exists()


@pytest.mark.parametrize("name", ["node.json", "state.json", f"snapshots/{V1}.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"other": 1}', b"\xff"])
def test_a_damaged_state_is_named(node: Node, name: str, content: bytes):
    node.install(V1)
    (node.root / ".moorage" / name).write_bytes(content)
    done = node.run("verify" if name.startswith("snap") else "status")
    assert (done.code, name.partition("/")[2] in done.stderr) == (1, True)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_damaged_tree_of_the_state_is_named_and_an_installation_mends_it(node: Node):
    node.install(V1)
    (node.root / ".moorage" / "snapshots" / f"{V1}.tree").write_bytes(b"")
    done = node.run("verify")
    assert (done.code, f"install {V1} again" in done.stderr) == (1, True)
    assert node.install(V1).code == 0
    assert node.is_clean(V1)


def test_a_repair_as_its_owner_opens_what_is_closed(node: Node):
    node.install(V1)
    node.path("src").chmod(0o000)
    node.path("VERSION").chmod(0o000)
    assert node.run("verify", "--full").code == 3
    assert node.run("repair").code == 0
    assert node.is_clean(V1)
