"""The suite that every ObjectStore must pass.

A test module subclasses `ObjectStoreContract` and provides the fixture `objects`, an empty store.
"""

import threading
from collections.abc import Callable

import pytest

from app.core.errors import BadInputError, ConflictError, StorageError
from app.storage import objects as objects_module
from app.storage.objects import ANY, ObjectStore

KEYS = ["head", "logs/sum.example%2Facme.head", "a/b/c@v1.0.0+incompatible", "x=,-_~/0"]
NO_KEYS = ["", "/a", "a/", "a//b", "..", "a/../b", ".lock", "a/.b", "a b", "a\n", "ä", "a" * 251]


class ObjectStoreContract:
    """Subclass it, and provide the fixture `objects`."""

    @pytest.mark.parametrize("key", KEYS)
    @pytest.mark.parametrize("data", [b"", b"abc", bytes(range(256)) * 300])
    def test_get_returns_what_was_put(self, objects: ObjectStore, key: str, data: bytes) -> None:
        version = objects.put(key, data, expected=ANY)
        stored = objects.get(key)
        assert stored is not None
        assert (stored.data, stored.version) == (data, version)
        assert [(info.key, info.size_bytes) for info in objects.walk()] == [(key, len(data))]

    def test_what_is_absent_is_none(self, objects: ObjectStore, tmp_path) -> None:
        assert objects.get("absent") is None
        assert not objects.get_file("absent/x", tmp_path / "copy")
        objects.delete("absent/x")
        assert list(objects.walk()) == []
        assert list(objects.walk("absent/")) == []

    def test_a_prefix_of_a_key_is_no_object(self, objects: ObjectStore) -> None:
        objects.put("a/b", b"1", expected=ANY)
        assert objects.get("a") is None

    @pytest.mark.parametrize("key", NO_KEYS)
    def test_a_key_that_is_none_is_refused(self, objects: ObjectStore, key: str, tmp_path) -> None:
        calls: list[Callable[[], object]] = [
            lambda: objects.get(key),
            lambda: objects.put(key, b"", expected=ANY),
            lambda: objects.put_file(key, tmp_path),
            lambda: objects.get_file(key, tmp_path / "copy"),
            lambda: objects.delete(key),
        ]
        for call in calls:
            with pytest.raises(BadInputError):
                call()

    def test_put_overwrites_any_version(self, objects: ObjectStore) -> None:
        first = objects.put("k", b"one", expected=ANY)
        assert objects.put("k", b"two", expected=ANY) != first
        assert objects.get("k").data == b"two"

    def test_put_makes_only_what_is_not_there(self, objects: ObjectStore) -> None:
        objects.put("k", b"one", expected=None)
        with pytest.raises(ConflictError):
            objects.put("k", b"two", expected=None)
        assert objects.get("k").data == b"one"

    def test_put_replaces_only_the_version_that_was_read(self, objects: ObjectStore) -> None:
        first = objects.put("k", b"one", expected=None)
        second = objects.put("k", b"two", expected=first)
        with pytest.raises(ConflictError):
            objects.put("k", b"three", expected=first)
        assert objects.get("k").data == b"two"
        assert objects.put("k", b"three", expected=second)
        objects.delete("k")
        with pytest.raises(ConflictError):
            objects.put("k", b"four", expected=second)
        assert objects.get("k") is None

    def test_of_many_that_replace_one_version_one_wins(self, objects: ObjectStore) -> None:
        first = objects.put("k", b"start", expected=None)
        winners: list[int] = []
        uncertain: list[int] = []
        ready = threading.Barrier(8)

        def replace(number: int) -> None:
            ready.wait()
            try:
                objects.put("k", b"%d" % number, expected=first)
            except ConflictError:
                return
            except StorageError:  # written or not
                uncertain.append(number)
                return
            winners.append(number)

        threads = [threading.Thread(target=replace, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(winners) == 1 or (uncertain and not winners)
        assert objects.get("k").data in [b"%d" % number for number in winners or uncertain]

    @pytest.mark.parametrize("size_bytes", [0, 3, (17 << 20) + 5])
    def test_files_come_back_whole(self, objects: ObjectStore, tmp_path, size_bytes: int) -> None:
        source, copy = tmp_path / "source", tmp_path / "copy"
        source.write_bytes(bytes(range(251)) * (size_bytes // 251) + b"x" * (size_bytes % 251))
        copy.write_bytes(b"earlier")
        objects.put("backups/1", b"earlier", expected=ANY)
        objects.put_file("backups/1", source)
        assert objects.get_file("backups/1", copy)
        assert copy.read_bytes() == source.read_bytes()
        assert [info.size_bytes for info in objects.walk()] == [size_bytes]

    def test_walk_yields_what_is_below_a_prefix(self, objects: ObjectStore) -> None:
        for key in ("a/1", "a/2/3", "ab/4", "b"):
            objects.put(key, b"%d" % len(key), expected=ANY)
        assert [info.key for info in objects.walk()] == ["a/1", "a/2/3", "ab/4", "b"]
        assert [info.key for info in objects.walk("a/")] == ["a/1", "a/2/3"]
        assert all(info.stored_at.utcoffset() is not None for info in objects.walk())

    def test_delete_removes_one_object(self, objects: ObjectStore) -> None:
        objects.put("a/1", b"1", expected=ANY)
        objects.put("a/2", b"2", expected=ANY)
        objects.delete("a/1")
        objects.delete("a/1")
        assert [info.key for info in objects.walk()] == ["a/2"]

    def test_get_refuses_an_object_that_is_not_small(
        self, objects: ObjectStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(objects_module, "MAX_SMALL_BYTES", 3)
        objects.put("k", b"abc", expected=ANY)
        assert objects.get("k").data == b"abc"
        objects.put("k", b"abcd", expected=ANY)
        with pytest.raises(StorageError):
            objects.get("k")
