"""The check of a module zip that lies in a file: one with many entries in a process of its own.

Python runs one thread of a process at a time. The names of 200,000 entries keep a thread at work
for seconds, in which the event loop would wait for its turn again and again. So

    python -m app.services.modules.zipcheck

reads {"path": …, "module": …, "version": …} from stdin and writes the outcome to stdout, both JSON.
"""

import base64
import gc
import io
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.core.errors import BadInputError, StorageError
from app.core.modzip import ZipFacts, inspect
from app.core.modzip_directory import declared_entries

_ENTRIES_HERE = 5_000  # their names take a tenth of a second
_NICENESS = 10
_TIMEOUT_S = 600.0  # some hundred times what the largest zip takes


def inspect_file(path: Path, module: str, version: str) -> ZipFacts:
    """Return what `core.modzip.inspect` returns of the zip in a file. Blocks.

    Raises:
        BadInputError: it is not the zip of that module version.
        OSError: the file can't be read.
        StorageError: the process of the check could not do its work.
    """
    with path.open("rb") as stream:
        if declared_entries(stream, stream.seek(0, io.SEEK_END)) <= _ENTRIES_HERE:
            return inspect(stream, module, version)
    return _inspect_apart(path, module, version)


def _inspect_apart(path: Path, module: str, version: str) -> ZipFacts:
    # By stdin: every user of the machine can read a command line, and the module may be private.
    # Without the environment, which may hold secrets of the service.
    question = {"path": str(path), "module": module, "version": version}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-m", __name__],
            input=json.dumps(question).encode(),
            env={},
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StorageError(f"the check of {module}@{version} did not run to its end") from error
    if done.returncode:
        raise StorageError(
            f"the check of {module}@{version} ended early, with exit code {done.returncode}"
        )
    outcome = json.loads(done.stdout)
    if "refused" in outcome:
        raise BadInputError(outcome["refused"])
    if "errno" in outcome:
        raise OSError(outcome["errno"], os.strerror(outcome["errno"]))
    return _facts_of(outcome)


def _outcome_of(facts: ZipFacts) -> dict[str, Any]:
    go_mod = None if facts.go_mod is None else base64.b64encode(facts.go_mod).decode()
    return {**asdict(facts), "go_mod": go_mod}


def _facts_of(outcome: dict[str, Any]) -> ZipFacts:
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
