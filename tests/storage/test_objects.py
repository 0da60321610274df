"""LocalObjects and S3Objects: the contract, and what only one of them promises."""

from dataclasses import replace

import pytest

from app.core.errors import ConflictError, StorageError
from app.storage.objects import ANY, LocalObjects, S3Objects
from app.storage.s3client import S3Client, S3Place
from tests.contracts.objects import ObjectStoreContract
from tests.fakes.s3faults import S3Fault, S3FaultProxy


class TestLocalObjects(ObjectStoreContract):
    @pytest.fixture
    def objects(self, tmp_path):
        return LocalObjects(tmp_path / "objects")


class TestS3Objects(ObjectStoreContract):
    @pytest.fixture
    def objects(self, s3):
        return S3Objects(s3.client("some/where"), "objects")


def test_files_of_objects_are_private_and_leave_nothing_beside_them(tmp_path):
    objects = LocalObjects(tmp_path / "objects")
    objects.put("a/b", b"1", expected=None)
    objects.put("a/b", b"2", expected=ANY)
    objects.put_file("a/b", tmp_path / "objects" / "a" / "b")
    names = {path.name for path in (tmp_path / "objects").rglob("*")}
    assert names == {".lock", "a", "b"}
    assert (tmp_path / "objects" / "a" / "b").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "objects" / "a").stat().st_mode & 0o777 == 0o700


def test_two_prefixes_of_one_bucket_do_not_see_each_other(s3):
    client = s3.client()
    one, two = S3Objects(client, "one"), S3Objects(client, "one-more")
    one.put("k", b"1", expected=None)
    two.put("k", b"2", expected=None)
    assert [info.key for info in one.walk()] == ["k"]
    assert one.get("k").data == b"1"


def test_a_store_that_knows_no_conditions_is_compared_by_a_look(s3, monkeypatch):
    def refuse(*_args, **_options):
        raise NotImplementedError

    monkeypatch.setattr(S3Client, "put_if", refuse)
    objects = S3Objects(s3.client(), "objects")
    version = objects.put("k", b"1", expected=None)
    with pytest.raises(ConflictError):
        objects.put("k", b"2", expected=None)
    assert objects.put("k", b"2", expected=version) != version


def test_a_conditional_put_whose_answer_is_lost_is_looked_at_again(s3):
    place = s3.place()
    direct = S3Objects(S3Client(place), "objects")
    with S3FaultProxy(s3.endpoint) as proxy:
        objects = S3Objects(S3Client(replace(place, endpoint=proxy.endpoint)), "objects")
        # A new object: a put over an old one costs some servers two requests, for its quotes.
        proxy.fault("PUT", S3Fault.LOST)
        version = objects.put("k", b"1", expected=None)
        assert objects.get("k").version == version

        def lose_the_race(method, _path):
            if method != "PUT":
                return None
            direct.put("k", b"theirs", expected=ANY)
            return S3Fault.BUSY  # as Ceph 16 answers a lost race, by a status of its own trouble

        proxy.choose = lose_the_race
        with pytest.raises(ConflictError):
            objects.put("k", b"3", expected=version)
        proxy.choose = lambda method, _path: S3Fault.BUSY if method == "PUT" else None
        with pytest.raises(StorageError):
            objects.put("k", b"3", expected=direct.get("k").version)


def test_a_store_that_is_down_is_a_storage_error_without_its_address(s3):
    place = s3.place()
    down = S3Place(place.bucket, "", "http://127.0.0.1:1", "us-east-1", "access", "very-secret")
    objects = S3Objects(S3Client(down), "objects")
    for call in (lambda: objects.get("k"), lambda: objects.put("k", b"", expected=ANY)):
        with pytest.raises(StorageError) as refused:
            call()
        text = str(refused.value)
        assert not any(word in text for word in ("127.0.0.1", place.bucket, "secret", "access"))
    assert "very-secret" not in repr(down)


def test_a_folder_that_is_gone_has_no_absent_objects(tmp_path):
    objects = LocalObjects(tmp_path / "objects")
    assert objects.get("k") is None
    (tmp_path / "objects").rmdir()
    with pytest.raises(StorageError):
        objects.get("k")
