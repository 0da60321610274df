"""`/goproxy/…`: the GOPROXY protocol of every tenant. Plain ASGI: this is the hot path.

A hit is a prepared answer, looked up by `answerkey` and sent. A miss goes down once and comes back
once: `admission` says who asks, `goproxycontents` has a service answer and renders the answer.
Every request, a hit too, is logged with the decision about it.
"""

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from secrets import token_hex

from cachetools import TTLCache

from app import logs, tracing
from app.core.errors import (
    DeniedError,
    MoorageError,
    OverloadedError,
    UnauthenticatedError,
    UnknownError,
)
from app.db.denials import Denial
from app.metrics import hotpath
from app.services.clock import ClockWatch, Now
from app.services.denials import DenialCounter
from app.services.modules.caller import Caller
from app.services.modules.front import ModuleFront
from app.services.policy import PolicyReader
from app.services.sumdb.front import SumdbFront
from app.services.usage import UsageCounter
from app.storage.blobstore import OpenBlob
from app.web.admission import Admission
from app.web.answerkey import answer_key, key_tail, with_gateways_tenant
from app.web.decisions import DecisionLog, DecisionRecord
from app.web.goproxycontents import Content, GoproxyContents, Progress
from app.web.hotcache import HotCache
from app.web.plainhead import PlainHead
from app.web.responses import Answer, Header, error_answer, plain
from app.web.sending import Sender, is_stream
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import Gateways

_REFUSED_S = 5.0  # go repeats each 4xx at once; the repetition is answered from here
_MAX_REFUSED = 8192
_STALE_S = 5.0
_DECISIONS = 3  # of one request, where the policy changes while it is answered
_METHODS = ("GET", "HEAD")


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedAnswer:
    """An answer that one credential may have of one path.

    Attributes:
        until: monotonic seconds from which it must be asked for again.
        ends: monotonic seconds at which the decision ends: a rule or the token does.
        generation: of the decision; None for a refusal.
        record: what the decision log says of it.
        tenant: whose it is; "" for a refusal.
        concerned: the tenants whose changes end it.
        token: the id of the token, or "".
        download: the module version, where it is a zip to be counted.
        denial: what is counted, where it is a refusal by policy.
    """

    answer: Answer
    until: float
    record: DecisionRecord
    tenant: str = ""
    concerned: tuple[str, ...] = ("",)
    token: str = ""
    download: tuple[str, str] | None = None
    denial: Denial | None = None
    ends: float = float("inf")
    generation: int | None = None


class GoproxyApp:
    """The ASGI application of `/goproxy`."""

    def __init__(
        self,
        policies: PolicyReader,
        modules: ModuleFront,
        sumdb: SumdbFront,
        usage: UsageCounter,
        denials: DenialCounter,
        sender: Sender,
        gateways: Gateways,
        admission: Admission,
        now: Now,
        clock: ClockWatch,
        *,
        max_age_s: int,
    ) -> None:
        self._policies = policies
        self._sumdb = sumdb
        self._usage = usage
        self._denials = denials
        self._sender = sender
        self._contents = GoproxyContents(modules, sumdb, sender, max_age_s)
        self._gateways = gateways
        self._admission = admission
        self._now = now
        self._clock = clock
        self._hot: HotCache[PreparedAnswer] = HotCache(
            size_of=lambda p: len(p.answer.wire) + len(p.answer.body),
            since=lambda p: policies.since(p.concerned),
        )
        self._refused: TTLCache[tuple[bytes, int], PreparedAnswer] = TTLCache(
            _MAX_REFUSED, _REFUSED_S
        )
        self.decisions = DecisionLog()
        clock.on_jump(self._forget)

    def instant(self, url: bytes, head: PlainHead, trace: str | None = None) -> bytes | None:
        """Return the prepared answer to a plain GET, without any await; None where there is none.

        Args:
            url: path and query as they came over the wire.
            head: of the request.
            trace: the id of the request's trace, for the log.
        """
        key = answer_key(url, head.key_tail) if head.key_tail is not None else None
        if key is None:
            return None
        prepared = self._hot.get(key)
        began = time.monotonic()
        if prepared is None or not prepared.answer.wire or began >= prepared.until:
            return None
        size_bytes = prepared.answer.size_bytes
        self._account(prepared, head.client, trace, status=200, sent=size_bytes, is_sent=True)
        hotpath.count_instant("goproxy", prepared.tenant, size_bytes, began)
        return prepared.answer.wire

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reset = logs.request_id.set(token_hex(8))
        began, method = time.monotonic(), scope["method"]
        blob: OpenBlob | None = None
        try:
            peer = scope["client"][0] if scope.get("client") else ""
            client = self._gateways.client_behind(peer, scope["headers"])
            key = self._key(scope, peer)
            prepared = self._look_up(key) if key and method in _METHODS else None
            is_hit = prepared is not None
            hotpath.count_hot(hit=is_hit)
            async with AsyncExitStack() as turns:
                has_turn = False
                for _ in range(_DECISIONS):
                    if prepared is None:
                        prepared, blob = await self._prepare(scope, key, peer, client)
                    if not has_turn and is_stream(prepared.answer, scope):
                        has_turn = True
                        prepared = await self._take_turn(turns, prepared, client)
                    if blob is None and is_stream(prepared.answer, scope):
                        prepared, blob = await self._open_prepared(prepared)
                    if self._holds(prepared):
                        break
                    if blob is not None:
                        blob.close()
                    prepared = blob = None
                prepared = prepared or _overtaken(scope["raw_path"])
                if is_hit:
                    hotpath.observe_hit("goproxy", time.monotonic() - began)
                sending = self._sender.send(prepared.answer, scope, receive, send, blob)
                status, sent = await sending
            is_sent = method == "GET" and status != 304
            trace = logs.trace_id.get()
            self._account(prepared, client, trace, status=status, sent=sent, is_sent=is_sent)
            # Both name existing tenants alone: strangers must not make labels.
            tenant = prepared.record.tenant or (prepared.denial.tenant if prepared.denial else "")
            hotpath.count_decision(tenant, sent, allowed=prepared.record.is_allowed)
            hotpath.count_request("goproxy", method, status, sent)
        finally:
            if blob is not None:
                blob.close()
            logs.request_id.reset(reset)

    def _forget(self) -> None:
        """Forget all prepared answers: the wall clock was set, and they end by its earlier time."""
        self._hot.clear()
        self._refused.clear()

    def _key(self, scope: Scope, peer: str) -> bytes | None:
        headers: list[Header] = scope["headers"]
        tail = key_tail(headers, is_plain_only=False)
        key = answer_key(scope["raw_path"], tail) if tail is not None else None
        if key is not None and self._gateways.trusts(peer):
            return with_gateways_tenant(key, headers)
        return key

    def _look_up(self, key: bytes) -> PreparedAnswer | None:
        prepared = self._hot.get(key)
        if prepared is not None and time.monotonic() >= prepared.until:
            self._hot.drop(key)
            return None
        return prepared

    def _account(
        self,
        prepared: PreparedAnswer,
        client: str,
        trace: str | None,
        *,
        status: int,
        sent: int,
        is_sent: bool,
    ) -> None:
        """Log and count an answer; is_sent: a body was sent, whole or in part."""
        self.decisions.add(prepared.record.with_status(status), client, sent, trace)
        if prepared.denial is not None:
            self._denials.count(prepared.denial, logs.request_id.get() or "")
        if status >= 400:
            return
        if is_sent and prepared.download is not None:
            self._usage.count(prepared.tenant, prepared.token, *prepared.download)
        if prepared.token:
            self._usage.used(prepared.token)

    async def _prepare(
        self, scope: Scope, key: bytes | None, peer: str, client: str
    ) -> tuple[PreparedAnswer, OpenBlob | None]:
        """Return the answer to a request, kept for the next one if it lasts, and its open blob."""
        raw_path: bytes = scope["raw_path"]
        if scope["method"] not in _METHODS:
            answer = plain(405, "only GET and HEAD are answered here", (b"allow", b"GET, HEAD"))
            record = DecisionRecord.of_path(raw_path, "method")
            return PreparedAnswer(answer=answer, until=0.0, record=record), None
        # Read before the policy: if the policy changes in between, a refusal is kept under the old
        # generation and never served.
        generation = self._policies.generation
        refusal = self._refused.get((key, generation)) if key else None
        if refusal is not None:
            return refusal, None
        progress = Progress(DecisionRecord.of_path(raw_path, "request"))
        try:
            content, caller, generation = await self._decide(progress, scope, peer, client)
        except MoorageError as error:
            record = progress.record.refused(error)
            refusal = PreparedAnswer(
                answer=error_answer(error),
                until=0.0,
                record=record,
                denial=await self._denial(progress.caller, record, scope, peer),
            )
            is_lasting = isinstance(error, UnauthenticatedError | DeniedError | UnknownError)
            # "Not stored here" is no answer for a client that does not forbid the fetch.
            if key and is_lasting and (progress.caller is None or progress.caller.fetch):
                self._refused[key, generation] = refusal
            return refusal, None
        try:
            if content.download is not None:
                self._sumdb.record_served(caller, *content.download)
            prepared = self._prepare_answer(caller, progress.record, content, generation)
            if key and caller.fetch and prepared.until > time.monotonic():
                self._hot.put(key, generation, prepared)
        except BaseException:
            content.close()
            raise
        return prepared, content.blob

    async def _denial(
        self, caller: Caller | None, record: DecisionRecord, scope: Scope, peer: str
    ) -> Denial | None:
        """Return what is counted of a refusal; None where policy did not refuse."""
        if record.is_allowed:
            return None
        if caller is not None:
            return record.denial(caller.principal)
        tenant = await self._admission.tenant_of(scope, peer)
        return Denial(tenant, rule="token") if tenant else None

    async def _decide(
        self, progress: Progress, scope: Scope, peer: str, client: str
    ) -> tuple[Content, Caller, int]:
        """Return the content for a caller who may have it by the policy of now, and its generation.

        Upstream may have taken its time, and meanwhile the policy may have changed or the clock may
        have been set. Then the request is judged again; what was fetched is stored by now.

        Raises:
            OverloadedError: policy or clock changed during every attempt.
        """
        for attempt in range(_DECISIONS):
            jumps, generation = self._clock.look(), self._policies.generation
            with tracing.span("authorize"):
                caller, path = await self._admission.admit(
                    scope, peer, client, is_counted=attempt == 0
                )
            # The policy may be newer: an unknown token has it looked up.
            generation = max(generation, caller.policy.generation)
            progress.caller, progress.record = caller, DecisionRecord.of(path, caller.principal)
            content = await self._contents.answer(progress, caller, path)
            is_of_now = generation >= self._policies.since(caller.concerned)
            if is_of_now and self._clock.look() == jumps:
                return content, caller, generation
            content.close()
        raise OverloadedError("the rules changed again and again meanwhile; try again")

    def _prepare_answer(
        self, caller: Caller, record: DecisionRecord, content: Content, generation: int
    ) -> PreparedAnswer:
        """Return a prepared answer that ends with the caller's rights, or with its freshness."""
        began = time.monotonic()
        ends = until = float("inf")
        if caller.valid_until is not None:
            # By the clock of now: a fetch that took long must not lengthen what ends.
            ends = until = began + (caller.valid_until - self._now()).total_seconds()
        if content.fresh_s is not None:
            until = min(ends, began + max(content.fresh_s, _STALE_S))
        return PreparedAnswer(
            answer=content.answer,
            until=0.0 if content.is_root else until,
            ends=ends,
            generation=generation,
            record=record.decided(content.decided_by, content.version),
            tenant=caller.tenant,
            concerned=caller.concerned,
            token=caller.principal.token,
            download=content.download,
        )

    def _holds(self, prepared: PreparedAnswer) -> bool:
        """Whether the decision about an answer is still the one that would be made now."""
        if prepared.generation is None:
            return True  # a refusal
        is_of_now = prepared.generation >= self._policies.since(prepared.concerned)
        return is_of_now and time.monotonic() < prepared.ends

    async def _take_turn(
        self, turns: AsyncExitStack, prepared: PreparedAnswer, client: str
    ) -> PreparedAnswer:
        """Wait for the turn of a stream, of its tenant and of the process.

        Returns:
            The same answer, or an error if no turn came in time.
        """
        try:
            await turns.enter_async_context(self._admission.stream(prepared.tenant, client))
            await turns.enter_async_context(self._sender.turn(prepared.tenant))
        except OverloadedError as error:
            return replace(prepared, answer=error_answer(error), generation=None)
        return prepared

    async def _open_prepared(
        self, prepared: PreparedAnswer
    ) -> tuple[PreparedAnswer, OpenBlob | None]:
        """Return a kept answer and its blob, or an error; the bytes may have to be hashed again."""
        answer = prepared.answer
        if answer.blob is None:
            return prepared, None
        try:
            return prepared, await self._sender.open(answer.blob, answer.size_bytes)
        except MoorageError as error:
            return replace(prepared, answer=error_answer(error), generation=None), None


def _overtaken(raw_path: bytes) -> PreparedAnswer:
    """Return the answer to a request that changes of the policy overtook again and again."""
    error = OverloadedError("the rules changed again and again meanwhile; try again")
    record = DecisionRecord.of_path(raw_path, "request").refused(error)
    return PreparedAnswer(answer=error_answer(error), until=0.0, record=record)
