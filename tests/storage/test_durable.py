"""The durable steps one by one; their order under faults is for the sweep and the power cut."""

import errno
import os
import stat
from pathlib import Path

import pytest

from app.core.errors import StorageError, StorageFullError
from app.storage import durable
from app.storage.blobstore import BlobCondition

pytestmark = pytest.mark.on_disk

STORAGE = Path(durable.__file__).parent


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EIO, StorageError),
        (errno.EROFS, StorageError),
        (errno.EMFILE, StorageError),
        (errno.EXDEV, StorageError),
    ],
)
def test_an_oserror_becomes_the_error_that_names_operation_and_reason(number, kind):
    with pytest.raises(StorageError) as raised, durable.storage_errors("store blobs/ab/abcd"):
        raise OSError(number, os.strerror(number), "/srv/secret/place")
    assert type(raised.value) is kind
    assert str(raised.value) == f"store blobs/ab/abcd: {os.strerror(number)}"
    assert raised.value.__cause__.errno == number


def test_an_oserror_without_reason_is_named_by_its_class():
    with pytest.raises(StorageError, match=r"^read: TimeoutError$"), durable.storage_errors("read"):
        raise TimeoutError


def test_other_errors_pass_unchanged():
    with pytest.raises(ZeroDivisionError), durable.storage_errors("read"):
        raise ZeroDivisionError


def test_make_folder_makes_missing_parents_private(tmp_path):
    durable.make_folder(tmp_path / "a" / "b" / "c")
    for name in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_make_folder_accepts_a_folder_and_refuses_a_file(tmp_path):
    durable.make_folder(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        durable.make_folder(tmp_path / "file")


def test_sync_folder_refuses_what_is_no_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        durable.sync_folder(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        durable.sync_folder(tmp_path / "missing")


def test_sync_file_reports_a_failing_fsync():
    reading, writing = os.pipe()  # fsync(2): EINVAL for what can't be synced
    with pytest.raises(OSError, match="Invalid argument"):
        durable.sync_file(writing)
    os.close(reading)
    os.close(writing)


class Place:
    """A temporary file and the name it is to have."""

    def __init__(self, folder: Path) -> None:
        self.temp = folder / "temp"
        self.target = folder / "shard" / "blob"
        self.temp.write_bytes(b"new")
        self.target.parent.mkdir()
        self.asked = 0

    def publish(self, *conditions: BlobCondition) -> None:
        """Publish; the n-th look at the present file finds conditions[n], the last for ever."""

        def condition() -> BlobCondition:
            self.asked += 1
            return conditions[min(self.asked, len(conditions)) - 1]

        durable.publish(self.temp, self.target, condition)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_publish_moves_the_file_to_a_free_name_without_asking(place):
    inode = place.temp.stat().st_ino
    place.publish(BlobCondition.DAMAGED)
    assert place.target.read_bytes() == b"new"
    assert (place.target.stat().st_ino, place.target.stat().st_nlink) == (inode, 1)
    assert not place.temp.exists()
    assert place.asked == 0


@pytest.mark.parametrize(
    ("condition", "content"),
    [
        (BlobCondition.OK, b"old"),
        (BlobCondition.SHORT, b"new"),
        (BlobCondition.DAMAGED, b"new"),
    ],
)
def test_publish_keeps_a_right_file_and_replaces_a_wrong_one(place, condition, content):
    place.target.write_bytes(b"old")
    place.publish(condition)
    assert place.target.read_bytes() == content
    assert not place.temp.exists()


def test_publish_links_again_when_the_present_file_went_meanwhile(place):
    place.target.write_bytes(b"old")

    def condition() -> BlobCondition:
        place.target.unlink()
        return BlobCondition.MISSING

    durable.publish(place.temp, place.target, condition)
    assert place.target.read_bytes() == b"new"


def test_publish_gives_up_on_a_name_that_keeps_coming_and_going(place):
    place.target.write_bytes(b"old")
    with pytest.raises(StorageError, match="keeps being taken"):
        place.publish(BlobCondition.MISSING)
    assert place.temp.exists()


def test_publish_into_a_missing_folder_changes_nothing(place):
    place.target.parent.rmdir()
    with pytest.raises(FileNotFoundError):
        place.publish(BlobCondition.OK)
    assert place.temp.exists()


def test_move_aside_numbers_what_it_keeps(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for number in range(3):
        (tmp_path / "blob").write_bytes(b"%d" % number)
        assert durable.move_aside(tmp_path / "blob", kept) == kept / f"blob.{number}"
    assert [(kept / f"blob.{number}").read_bytes() for number in range(3)] == [b"0", b"1", b"2"]


def test_move_aside_of_nothing_leaves_nothing(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    assert durable.move_aside(tmp_path / "missing", kept) is None
    assert list(kept.iterdir()) == []


def test_move_aside_of_what_cannot_be_moved_leaves_nothing(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "blob").mkdir()  # a folder can't be renamed over a file
    with pytest.raises(NotADirectoryError):
        durable.move_aside(tmp_path / "blob", kept)
    assert list(kept.iterdir()) == []


class Syncs(list[tuple[Path, frozenset[str]]]):
    """Each folder that was synced, with the names in it at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if path.is_dir():
                self.append((path, frozenset(entry.name for entry in path.iterdir())))

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def syncs(monkeypatch):
    return Syncs(monkeypatch)


def test_make_folder_makes_every_new_name_durable_from_the_top_down(tmp_path, syncs):
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert syncs == [(tmp_path, {"a"}), (tmp_path / "a", {"b"}), (tmp_path / "a" / "b", {"c"})]


def test_make_folder_syncs_a_name_that_another_process_may_not_have_synced(tmp_path, syncs):
    (tmp_path / "a").mkdir()
    durable.make_folder(tmp_path / "a")
    assert syncs == [(tmp_path, {"a"})]


def test_make_folders_syncs_once_when_all_names_are_there(tmp_path, syncs):
    durable.make_folders(tmp_path, ["00", "01", "02"])
    assert syncs == [(tmp_path, {"00", "01", "02"})]


def test_create_once_syncs_the_name_of_a_complete_file(tmp_path, syncs):
    durable.create_once(tmp_path / "secrets.key", b"secret")
    [(folder, names)] = syncs
    assert folder == tmp_path
    assert "secrets.key" in names
    assert (tmp_path / "secrets.key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "secrets.key").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secrets.key"]


def test_create_once_leaves_what_is_there(tmp_path, syncs):
    (tmp_path / "secrets.key").write_bytes(b"first")
    durable.create_once(tmp_path / "secrets.key", b"second")
    assert (tmp_path / "secrets.key").read_bytes() == b"first"
    assert syncs == []


@pytest.mark.parametrize("is_there", [False, True])
def test_publish_syncs_the_name_while_the_temporary_file_is_still_there(
    tmp_path, place, syncs, is_there
):
    """A name that existed before is synced too: its writer may have been killed before that."""
    if is_there:
        place.target.write_bytes(b"new")
    at_sync = []
    real = os.fsync
    os.fsync = lambda fd: (real(fd), at_sync.append(place.temp.exists()))[0]  # undone by `syncs`
    place.publish(BlobCondition.OK)
    assert syncs == [(place.target.parent, {"blob"})]
    assert at_sync == [True]


def test_move_aside_syncs_the_new_name_and_then_the_missing_one(tmp_path, syncs):
    """In this order a power cut leaves one name or both, never none."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "blob").write_bytes(b"damaged")
    durable.move_aside(tmp_path / "blob", kept)
    assert syncs == [(kept, {"blob.0"}), (tmp_path, {"kept"})]


def test_nothing_else_in_storage_syncs_links_or_renames_over():
    for path in STORAGE.glob("*.py"):
        if path.name != "durable.py":
            text = path.read_text(encoding="utf-8")
            for call in ("fsync(", "fdatasync(", "os.link(", "hardlink_to(", ".replace("):
                assert call not in text, path.name
