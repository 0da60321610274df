"""What a request below `/goproxy/<tenant>/` is answered with, before the answer is prepared.

One parse (`core/goproxy`), then one service: `services/modules` or `services/sumdb`. Headers are
`goproxy_answers`'.
"""

from dataclasses import dataclass

from app.core.goproxy import GoproxyRequest, RequestKind, parse_path
from app.db.modules import ModuleFile
from app.services.modules.caller import Caller, allowed
from app.services.modules.front import ModuleFront
from app.services.sumdb.front import SumdbFront, looked_up
from app.storage.blobstore import OpenBlob
from app.web.decisions import DecisionRecord
from app.web.goproxy_answers import blob_answer, log_answer, module_answer, root_answer
from app.web.responses import Answer
from app.web.sending import Sender
from app.web.tenancy import TenantPath

SUMDB = b"sumdb/"
IN_MEMORY_BYTES = 1024 * 1024
"""A blob up to this size is kept in memory and sent in one write; a larger one from its file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a service answered, rendered.

    Attributes:
        decided_by: the rule that allowed it.
        version: the one that it is about, or "".
        fresh_s: seconds for which the same answer may be given again; None means for ever.
        download: module and version of a zip.
        blob: the opened blob whose bytes are the body; closed once the answer is sent.
        is_root: whether it is the tenant's root, which is never kept.
    """

    answer: Answer
    decided_by: str
    version: str = ""
    fresh_s: float | None = None
    download: tuple[str, str] | None = None
    blob: OpenBlob | None = None
    is_root: bool = False

    def close(self) -> None:
        """Close the blob of an answer that is not sent."""
        if self.blob is not None:
            self.blob.close()


@dataclass(slots=True)
class Progress:
    """What is known of a request so far, for the log line of a refusal."""

    record: DecisionRecord
    caller: Caller | None = None


class GoproxyContents:
    """Has the service that a path belongs to answer.

    Args:
        modules: answers requests about modules.
        sumdb: answers requests about checksum databases.
        sender: opens blobs.
        max_age_s: for how long clients may keep what changes.
    """

    def __init__(
        self, modules: ModuleFront, sumdb: SumdbFront, sender: Sender, max_age_s: int
    ) -> None:
        self._modules = modules
        self._sumdb = sumdb
        self._sender = sender
        self._max_age_s = max_age_s

    async def answer(self, progress: Progress, caller: Caller, path: TenantPath) -> Content:
        """Return what a service answers to a caller who was admitted.

        Args:
            progress: gets what the path is about, for the log line.
            caller: who asks.
            path: below the tenant.

        Raises:
            MoorageError: the answer is an error.
        """
        entry = allowed(caller.may_enter())
        if not path.rest:
            return Content(answer=root_answer(caller.tenant), decided_by=entry.by, is_root=True)
        if path.rest.startswith(SUMDB):
            of_log = path.rest.removeprefix(SUMDB)
            if (asked := looked_up(of_log)) is not None:
                progress.record = progress.record.of_lookup(*asked)
            return await self._of_log(caller, of_log)
        request = parse_path(path.rest)
        progress.record = progress.record.about(request)
        return await self._of_module(caller, request)

    async def _of_module(self, caller: Caller, request: GoproxyRequest) -> Content:
        resolved = await self._modules.answer(caller, request)
        download = None
        if request.kind is RequestKind.ZIP:
            download = (request.module, request.version)
        blob: OpenBlob | None = None
        if resolved.file is not None and resolved.file.body is None and not resolved.body:
            answer, blob = await self._open(caller, request.kind, resolved.file)
        else:
            answer = module_answer(caller, request.kind, resolved, self._max_age_s)
        return Content(
            answer=answer,
            decided_by=resolved.decided_by,
            version=resolved.version,
            fresh_s=resolved.fresh_s,
            download=download,
            blob=blob,
        )

    async def _open(
        self, caller: Caller, kind: RequestKind, file: ModuleFile
    ) -> tuple[Answer, OpenBlob | None]:
        """Return the answer that sends a blob; one that is too large for memory stays open.

        Opening proves the bytes before the answer is prepared, and heals them if need be.
        """
        blob = await self._sender.open(file.sha256, file.size_bytes)
        try:
            if file.size_bytes > IN_MEMORY_BYTES:
                return blob_answer(caller, kind, file, None, self._max_age_s), blob
            cached = blob.read_cached(0, file.size_bytes)
            body = bytes(await blob.read(0, file.size_bytes) if cached is None else cached)
        except BaseException:
            blob.close()
            raise
        blob.close()
        return blob_answer(caller, kind, file, body, self._max_age_s), None

    async def _of_log(self, caller: Caller, path: bytes) -> Content:
        """Return the answer to a request about a checksum database."""
        answer = await self._sumdb.answer(caller, path)
        return Content(
            answer=log_answer(caller, answer),
            decided_by=answer.decided_by,
            fresh_s=answer.fresh_s,
        )
