"""The node program as one file: a zipapp of `app/node`, the same bytes on each machine.

Nothing is compressed: zlib's output differs between its versions. Names are sorted, and no time or
user of the machine gets in.
"""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

FILENAME = "moorage-node.pyz"

_PACKAGE = "moorage_node"
_SHEBANG = b"#!/usr/bin/env python3\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Read by every Python, so that an old one says what it lacks.
_MAIN = f"""import sys

if sys.version_info < (3, 9):
    sys.exit("moorage-node needs Python 3.9 or newer; this is %s" % sys.version.split()[0])

from {_PACKAGE}.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, slots=True)
class NodeProgram:
    """The zipapp.

    Attributes:
        content: its bytes.
        sha256: of the bytes, in hex.
    """

    content: bytes
    sha256: str


@cache
def node_program() -> NodeProgram:
    """Return the node program of this version; built once in a process."""
    folder = files("app") / "node"
    sources = {
        f"{_PACKAGE}/{item.name}": item.read_bytes()
        for item in folder.iterdir()
        if item.name.endswith(".py") and item.name != "__main__.py"
    }
    sources["__main__.py"] = _MAIN.encode()
    archive = io.BytesIO()
    archive.write(_SHEBANG)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as zipped:
        for name in sorted(sources):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # Unix, also where Windows builds it
            entry.external_attr = 0o100644 << 16
            zipped.writestr(entry, sources[name])
    content = archive.getvalue()
    return NodeProgram(content, hashlib.sha256(content).hexdigest())
