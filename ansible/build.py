"""Build the collection moorage.go: `python ansible/build.py [--output DIR] [--tree DIR]`.

The tree is what lies in this folder, and the very code of `app/node` as
`plugins/module_utils/moorage_node`. The archive has the same bytes each time: ansible-galaxy packs
it, then its times, owners and order are replaced by fixed ones. Nothing in it is compressed, since
zlib's output differs between its versions.
"""

import argparse
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
NODE = HERE.parent / "app" / "node"
PLACE = "ansible_collections/moorage/go"


def lay_out(folder: Path) -> Path:
    """Write the collection's tree below folder, and return where it begins."""
    place = folder / PLACE
    ignored = shutil.ignore_patterns("__pycache__", "build.py", ".*")
    shutil.copytree(HERE, place, ignore=ignored, dirs_exist_ok=True)
    shutil.copyfile(HERE.parent / "LICENSE", place / "LICENSE")
    inside = place / "plugins" / "module_utils" / "moorage_node"
    inside.mkdir(exist_ok=True)
    for path in sorted(NODE.glob("*.py")):
        if path.name != "__main__.py":
            shutil.copyfile(path, inside / path.name)
    return place


def pack(place: Path, output: Path) -> Path:
    """Build the archive of a tree in the folder output, and return its path."""
    for path in [place, *place.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    output.mkdir(parents=True, exist_ok=True)
    command = [
        str(Path(sys.executable).parent / "ansible-galaxy"),
        "collection",
        "build",
        "--force",
    ]
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(
            [*command, "--output-path", scratch, str(place)], check=True, capture_output=True
        )
        [built] = Path(scratch).glob("*.tar.gz")
        target = output / built.name
        target.write_bytes(_same_each_time(built))
    return target


def _same_each_time(archive: Path) -> bytes:
    """Return the archive with fixed times, owners and order, stored."""
    packed = io.BytesIO()
    with (
        tarfile.open(archive) as source,
        gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=0, mtime=0) as stored,
        tarfile.open(fileobj=stored, mode="w", format=tarfile.PAX_FORMAT) as result,
    ):
        contents = {member.name: (member, _content(source, member)) for member in source}
        _sort_list_of_files(contents)
        for name in sorted(contents):
            member, content = contents[name]
            fixed = tarfile.TarInfo(name)
            fixed.type, fixed.mode, fixed.size = member.type, member.mode, len(content)
            result.addfile(fixed, io.BytesIO(content))
    return packed.getvalue()


def _content(source: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    reader = source.extractfile(member)
    return reader.read() if reader else b""


def _sort_list_of_files(contents: dict[str, tuple[tarfile.TarInfo, bytes]]) -> None:
    """Sort FILES.json, which has the order of the file system; MANIFEST.json has its SHA-256."""
    member, content = contents["FILES.json"]
    listing = json.loads(content)
    listing["files"].sort(key=lambda entry: entry["name"])
    content = _json(listing)
    contents["FILES.json"] = (member, content)
    member, manifest = contents["MANIFEST.json"]
    value = json.loads(manifest)
    value["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(content).hexdigest()
    contents["MANIFEST.json"] = (member, _json(value))


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()


def main() -> None:
    """Build what the command line asks for, and print where it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE.parent / "dist")
    parser.add_argument("--tree", type=Path, help="only write the tree, below this folder")
    asked = parser.parse_args()
    if asked.tree:
        print(lay_out(asked.tree))
        return
    with tempfile.TemporaryDirectory() as scratch:
        print(pack(lay_out(Path(scratch)), asked.output))


if __name__ == "__main__":
    main()
