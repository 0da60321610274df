"""A log's newest head outside the database, to notice that an older database was restored.

A restored database may lack records whose proof clients have seen. If the log grew from there, it
would sign a second timeline, and every such client would refuse the log for ever. So nothing is
appended to a log whose database is behind this head, or that has records and no head.

The heads are objects, which all replicas have: in `keys/logs` of the data directory, or in `heads/`
of the bucket if blobs are in S3.
"""

from urllib.parse import quote

from app.core import tlog
from app.core.errors import BadInputError, ConflictError, StorageError
from app.core.note import parse_note
from app.core.tlog import Tree
from app.storage.objects import ANY, ObjectStore, StoredObject

_TRIES = 20  # each lost one means that another process kept a head meanwhile


class HeadFiles:
    """The heads of all logs, each an object."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def knows(self, name: str) -> bool:
        """Return whether a log of that name has a head.

        Raises:
            StorageError: the store does not answer.
        """
        return self._objects.get(key_of(name)) is not None

    def read(self, name: str) -> Tree | None:
        """Return the tree of a log's newest head; None without a head.

        Raises:
            StorageError: the store does not answer, or what it has is no head.
        """
        stored = self._objects.get(key_of(name))
        return None if stored is None else _tree(name, stored)

    def keep(self, name: str, note: bytes) -> None:
        """Replace an older head by this one, durably; a newer head stays.

        The first head that is kept of a log is that of the empty log. So a missing head was lost,
        and only `replace` makes another one: nobody knows how large the newest head was.

        Raises:
            StorageError: the store can't be written.
        """
        size = tlog.parse_tree(parse_note(note).text).size
        for _ in range(_TRIES):
            stored = self._objects.get(key_of(name))
            if stored is None and size > 0:
                return
            if stored is not None and _tree(name, stored).size >= size:
                return
            version = None if stored is None else stored.version
            try:
                self._objects.put(key_of(name), note, expected=version)
            except ConflictError:
                continue
            return
        raise StorageError(f"keep the head of {name}: others keep changing it; try again")

    def replace(self, name: str, note: bytes) -> None:
        """Replace any head by this one, durably.

        Raises:
            StorageError: the store can't be written.
        """
        self._objects.put(key_of(name), note, expected=ANY)


def key_of(name: str) -> str:
    """Return the key of a log's head; slashes in the log's name are escaped."""
    return f"{quote(name, safe='')}.head"


def _tree(name: str, stored: StoredObject) -> Tree:
    try:
        return tlog.parse_tree(parse_note(stored.data).text)
    except BadInputError as error:
        raise StorageError(
            f"{key_of(name)}, the newest head of a log, holds no tree head; restore it"
        ) from error
