"""What `moorage releases publish` sends: files with their signatures or sums, checked before."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.cli.api import Api, FileUpload, path_of
from app.cli.progress import uploading
from app.core.errors import BadInputError


@dataclass(frozen=True, slots=True)
class PlannedUpload:
    """A file to publish: with a signature, or the sum that it must have, or both."""

    path: Path
    signature: bytes | None
    sha256: str | None


def planned_uploads(
    files: Sequence[Path], release: str, signatures: Sequence[Path], sums: Sequence[str]
) -> list[PlannedUpload]:
    """Return what is to be sent, so that a wrong name or a missing file ends the command at once.

    Args:
        files: to publish.
        release: whose name each file's must begin with.
        signatures: for each file in turn; none takes FILE.asc where it exists.
        sums: for each file in turn, or none.

    Raises:
        BadInputError: a file is of another release, can't be read, or has no signature and no sum.
    """
    for option, values in (("--signature", signatures), ("--sha256", sums)):
        if values and len(values) != len(files):
            raise BadInputError(f"give {option} once for each FILE, in the same order")
    planned = []
    for number, path in enumerate(files):
        if not path.name.startswith(f"{release}."):
            raise BadInputError(
                f"{path.name} is not a file of {release}: its name begins otherwise"
            )
        beside = path.with_name(f"{path.name}.asc")
        signed_by = signatures[number] if signatures else beside
        signature = _read(signed_by) if signatures or beside.is_file() else None
        sha256 = sums[number].lower() if sums else None
        if signature is None and sha256 is None:
            raise BadInputError(f"{path.name} has no signature: give --signature, or --sha256")
        planned.append(PlannedUpload(path, signature, sha256))
    return planned


def send_file(api: Api, planned: PlannedUpload) -> Any:
    """Publish one file; return its record.

    Raises:
        BadInputError: the file can't be read.
        MoorageError: the server refuses it, or can't be reached.
    """
    path = planned.path
    query = urlencode({"sha256": planned.sha256} if planned.sha256 else {})
    headers = {}
    if planned.signature is not None:
        headers["X-Moorage-Signature"] = base64.b64encode(planned.signature).decode()
    try:
        with path.open("rb") as file, uploading(path.name, path.stat().st_size) as report:
            upload = FileUpload(file, path.stat().st_size, headers, report)
            target = path_of("releases", "files", path.name)
            return api.upload(f"{target}?{query}" if query else target, upload)
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: {error.strerror}") from error
