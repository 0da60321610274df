"""Work in a process of its own, which ends with whoever waits for it.

Python runs one thread of a process at a time: work that keeps a thread for seconds would make the
event loop wait for its turn again and again. A module that does such work is run as a program.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import BinaryIO

from app.core.errors import StorageError

_BUFFER_BYTES = 1 << 20


@asynccontextmanager
async def own_process(
    module: str, *arguments: str, stdin: BinaryIO | int = PIPE
) -> AsyncIterator[Process]:
    """Return a context with a running `python -m module`, whose three streams are pipes.

    It is ended when the context is left, by a cancelled caller too.

    Args:
        module: of this program.
        *arguments: every user of the machine can read them: no secret, no name of a module.
        stdin: a file that it reads instead of a pipe.

    Raises:
        StorageError: it can't be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", module, *arguments),
            stdin=stdin,
            stdout=PIPE,
            stderr=PIPE,
            env={},  # the service's may hold secrets
            limit=_BUFFER_BYTES,
        )
    except OSError as error:
        raise StorageError(f"no process can be started: {error.strerror}") from error
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.communicate())  # reaps it, and lets go of its pipes
