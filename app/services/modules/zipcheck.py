"""The check of a module zip that lies in a file: one with many entries in a process of its own.

The names of 200,000 entries take seconds of Python. So

    python -I -m app.services.modules.zipcheck

reads {"path": …, "module": …, "version": …} from stdin and writes the outcome to stdout, both JSON.
"""

import asyncio
import base64
import gc
import io
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.core.errors import BadInputError, StorageError
from app.core.modzip import ZipFacts, inspect
from app.core.modzip_directory import declared_entries
from app.services.ownprocess import own_process

_ENTRIES_HERE = 5_000  # their names take a tenth of a second
_NICENESS = 10


async def inspect_file(path: Path, module: str, version: str) -> ZipFacts:
    """Return what `core.modzip.inspect` returns of the zip in a file.

    Raises:
        BadInputError: it is not the zip of that module version.
        StorageError: the file can't be read, or the process of the check did not do its work.
    """
    try:
        facts = await asyncio.to_thread(_inspect_here, path, module, version)
    except OSError as error:
        raise _unreadable(f"{module}@{version}", error) from error
    return facts or await _inspect_apart(path, module, version)


def _inspect_here(path: Path, module: str, version: str) -> ZipFacts | None:
    """Return the facts of a zip; None, at once, where it has many entries."""
    with path.open("rb") as stream:
        if declared_entries(stream, stream.seek(0, io.SEEK_END)) > _ENTRIES_HERE:
            return None
        return inspect(stream, module, version)


async def _inspect_apart(path: Path, module: str, version: str) -> ZipFacts:
    # By stdin, and not as arguments: the module may be private.
    question = json.dumps({"path": str(path), "module": module, "version": version})
    async with own_process(__name__) as process:
        printed, _ = await process.communicate(question.encode())
    if process.returncode:
        raise StorageError(
            f"the check of {module}@{version} ended early, with exit code {process.returncode}"
        )
    outcome = await asyncio.to_thread(_read_outcome, printed)  # a go.mod may have 16 MiB
    if isinstance(outcome, OSError):
        raise _unreadable(f"{module}@{version}", outcome)
    return outcome


def _unreadable(name: str, error: OSError) -> StorageError:
    return StorageError(f"the zip of {name} can't be read back: {error.strerror}")


def _outcome_of(facts: ZipFacts) -> dict[str, Any]:
    go_mod = None if facts.go_mod is None else base64.b64encode(facts.go_mod).decode()
    return {**asdict(facts), "go_mod": go_mod}


def _read_outcome(printed: bytes) -> ZipFacts | OSError:
    """Return what a check has printed.

    Raises:
        BadInputError: the check refused the zip.
    """
    outcome = json.loads(printed)
    if "refused" in outcome:
        raise BadInputError(outcome["refused"])
    if "errno" in outcome:
        return OSError(outcome["errno"], os.strerror(outcome["errno"]))
    go_mod = outcome["go_mod"]
    return ZipFacts(**{**outcome, "go_mod": None if go_mod is None else base64.b64decode(go_mod)})


def main() -> None:
    """Check one zip, behind everybody else in the queue for the processor."""
    os.nice(_NICENESS)
    gc.disable()  # entries are in no cycles, and the process ends soon
    question = json.load(sys.stdin)
    outcome: dict[str, Any]
    try:
        with Path(question["path"]).open("rb") as stream:
            outcome = _outcome_of(inspect(stream, question["module"], question["version"]))
    except BadInputError as error:
        outcome = {"refused": str(error)}
    except OSError as error:
        outcome = {"errno": error.errno}
    json.dump(outcome, sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # letting go of every entry takes longer than the check's last step


if __name__ == "__main__":
    main()
