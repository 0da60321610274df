"""Heads outside the database, in a folder and in S3: the newest stays, whoever keeps it last."""

import threading

import pytest

from app.core import tlog
from app.core.errors import StorageError
from app.core.note import sign
from app.core.notekey import generate
from app.core.tlog import Tree
from app.services.tenantlog.head import HeadFiles, key_of
from app.storage.objects import LocalObjects, S3Objects

NAME = "sum.example/acme"
SIGNER = generate(NAME, b"\x07" * 32)


def head(size: int) -> bytes:
    root = tlog.EMPTY_ROOT if size == 0 else tlog.leaf_hash(b"%d" % size)
    return sign(tlog.format_tree(Tree(size, root)), SIGNER)


@pytest.fixture(params=["folder", "S3"])
def objects(request, tmp_path):
    if request.param == "folder":
        return LocalObjects(tmp_path / "logs")
    return S3Objects(request.getfixturevalue("s3").client("moorage"), "heads")


def test_a_head_replaces_an_older_one_alone(objects):
    heads = HeadFiles(objects)
    assert not heads.knows(NAME)
    for size, newest in [(0, 0), (3, 3), (2, 3), (5, 5)]:
        heads.keep(NAME, head(size))
        assert heads.read(NAME).size == newest
    heads.replace(NAME, head(1))
    assert HeadFiles(objects).read(NAME).size == 1


def test_a_lost_head_is_not_made_again_by_keeping_one(objects):
    heads = HeadFiles(objects)
    heads.keep(NAME, head(4))
    assert heads.read(NAME) is None


def test_of_many_processes_that_keep_heads_the_newest_stays(objects):
    HeadFiles(objects).keep(NAME, head(0))
    ready = threading.Barrier(8)

    def keep(size: int) -> None:
        heads, note = HeadFiles(objects), head(size)
        ready.wait()
        heads.keep(NAME, note)

    threads = [threading.Thread(target=keep, args=(size,)) for size in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert HeadFiles(objects).read(NAME).size == 8


def test_what_is_no_head_is_an_error(objects):
    objects.put(key_of(NAME), b"nothing", expected=None)
    for call in (
        lambda: HeadFiles(objects).read(NAME),
        lambda: HeadFiles(objects).keep(NAME, head(1)),
    ):
        with pytest.raises(StorageError):
            call()
