"""A key export is imported by gpg once in a process, not once for the installation of each test.

The product imports its export at each start: five runs of gpg, most of what a start costs. The
keyring file that comes of it depends on the export, the pins and the program alone, so later
installations of a process get a copy of the first one's folder. Each of them runs gpg itself
for every verdict.
"""

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from functools import cache, wraps
from pathlib import Path

from app.upstream.gpg import Gpg
from app.upstream.gpg_home import writing
from app.upstream.gpg_ring import Ring
from tests.installation import memory

_Import = Callable[[Gpg, bytes], Ring]
_Key = tuple[bytes, frozenset[str], str, int]
_imported_by_gpg = Gpg._import


def share() -> None:
    """Let all installations of this process share what gpg has imported."""
    Gpg._import = _sharing(_imported_by_gpg)  # type: ignore[method-assign]


@contextmanager
def each_by_itself() -> Iterator[None]:
    """Return a context in which gpg imports each export anew, for the tests of the import."""
    sharing = Gpg._import
    Gpg._import = _imported_by_gpg  # type: ignore[method-assign]
    try:
        yield
    finally:
        Gpg._import = sharing  # type: ignore[method-assign]


@cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="moorage-imported-", dir=memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


_rings: dict[_Key, tuple[Ring, Path]] = {}


def _key(gpg: Gpg, armored: bytes) -> _Key | None:
    """Return all that an import depends on; None where gpg is missing."""
    program = shutil.which(gpg._binary)
    if program is None:
        return None
    return armored, gpg._pinned, program, Path(program).stat().st_mtime_ns


def _sharing(import_: _Import) -> _Import:
    @wraps(import_)
    def shared(gpg: Gpg, armored: bytes) -> Ring:
        key = _key(gpg, armored)
        if key in _rings:
            return _copied(gpg, *_rings[key])
        ring = import_(gpg, armored)
        if key is not None:
            kept = Path(tempfile.mkdtemp(dir=_folder()))
            shutil.copytree(ring._home, kept, dirs_exist_ok=True)
            _rings[key] = ring, kept
        return ring

    return shared


def _copied(gpg: Gpg, ring: Ring, kept: Path) -> Ring:
    """Return a ring of this gpg with a copy of another ring's folder."""
    with writing(gpg._root):
        home = Path(tempfile.mkdtemp(dir=gpg._root))
        shutil.copytree(kept, home, dirs_exist_ok=True)
    program = copy(ring._program)
    program.gnupghome = str(home)
    program.env = {**program.env, "HOME": str(home)}
    program.keyring = [str(home / ring.path.name)]
    program._timeout_s, program._running = (lambda: gpg.timeout_s), gpg._running
    gpg._version = program.version_text
    made = Ring(program, home, gpg._pinned)
    made.keys = ring.keys
    return made
