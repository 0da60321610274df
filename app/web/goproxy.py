"""`/goproxy/…`: the GOPROXY protocol of every tenant. Plain ASGI: this is the hot path.

Parsing is `core/goproxy`'s, the tenant `tenancy`'s, who may do what `services/tenants`', and what
is answered `services/modules`'. Every request is logged with the decision about it, hits too.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from secrets import token_hex

from cachetools import TTLCache

from app import logs, metrics
from app.core.digest import Digest
from app.core.errors import (
    DeniedError,
    MoorageError,
    RateLimitedError,
    UnauthenticatedError,
    UnknownError,
)
from app.core.goproxy import CONTENT_TYPES, GoproxyRequest, RequestKind, parse_path
from app.core.principal import Principal
from app.core.token import looks_like_token
from app.services.authorization import (
    Operation,
    authenticate,
    authorize,
    principal_of,
    token_of,
)
from app.services.clock import Now
from app.services.modules.caller import Caller, Resolved
from app.services.modules.front import ModuleFront
from app.services.policy import Policy, PolicyReader, TenantPolicy
from app.services.slots import Buckets
from app.services.sumdb.front import SumdbFront
from app.services.usage import UsageCounter
from app.web.credentials import presented_token
from app.web.decisions import DecisionLog, DecisionRecord
from app.web.hotcache import HotCache
from app.web.responses import (
    IMMUTABLE,
    PRIVATE_IMMUTABLE,
    TEXT,
    Answer,
    Header,
    body_answer,
    error_answer,
    file_answer,
    plain,
)
from app.web.sending import Sender
from app.web.streaming import Receive, Scope, Send
from app.web.tenancy import PREFIX, Gateways, TenantPath, addressed, names_tenant

SUMDB = b"sumdb/"
IN_MEMORY_BYTES = 1024 * 1024
"""A blob up to this size is kept in memory and sent in one write; a larger one from its file."""

_REFUSED_S = 5.0  # go repeats each 4xx at once; the repetition is answered from here
_MAX_REFUSED = 8192
_STALE_S = 5.0
_METHODS = ("GET", "HEAD")
_KEY_BYTES = 512  # of a credential: keys are in memory too, and what is no token may be long
_NOT_INSTANT = frozenset(
    {
        b"if-none-match",
        b"if-modified-since",
        b"range",
        b"if-range",
        b"x-tenant-id",
        b"disable-module-fetch",
    }
)


@dataclass(frozen=True, slots=True)
class TenantDefaults:
    """Limits of all tenants; one tenant's own take their place.

    Attributes:
        streams: zips sent to one tenant at once.
        rate: requests a second of one tenant that are not answered from memory.
        bad_tokens: wrong tokens a minute from one address.
    """

    streams: int
    rate: int
    bad_tokens: int


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """An answer that one credential may have of one path.

    Attributes:
        until: monotonic seconds from which it must be asked for again.
        tenant: whose it is.
        token: the id of the token, or "".
        line: what the decision log says of it.
        download: the module version, where it is a zip to be counted.
    """

    answer: Answer
    until: float
    tenant: str
    token: str
    line: DecisionRecord
    download: tuple[str, str] | None = None


class GoproxyApp:
    """The ASGI application of `/goproxy`."""

    def __init__(
        self,
        policies: PolicyReader,
        modules: ModuleFront,
        sumdb: SumdbFront,
        usage: UsageCounter,
        sender: Sender,
        gateways: Gateways,
        limits: TenantDefaults,
        now: Now,
    ) -> None:
        self._policies = policies
        self._modules = modules
        self._sumdb = sumdb
        self._usage = usage
        self._sender = sender
        self._gateways = gateways
        self._limits = limits
        self._now = now
        self._hot: HotCache[PreparedAnswer] = HotCache(
            lambda p: len(p.answer.wire) + len(p.answer.body)
        )
        self._refused: TTLCache[tuple[bytes, int], tuple[Answer, DecisionRecord]] = TTLCache(
            _MAX_REFUSED, _REFUSED_S
        )
        self._buckets = Buckets(time.monotonic)
        self._bad_tokens = Buckets(time.monotonic, burst_s=60.0)
        self._streams: dict[str, int] = {}
        self.decisions = DecisionLog()

    def instant(self, url: bytes, headers: list[Header], client: str) -> bytes | None:
        """Return what a plain GET is answered with if it lies prepared, without any await.

        Args:
            url: path and query as they came over the wire.
            headers: of the request, with lower-case names.
            client: the peer's address.
        """
        key = _key(url, headers, is_plain_only=True)
        if key is None:
            return None
        prepared = self._hot.get(key, self._policies.generation)
        if prepared is None or not prepared.answer.wire or time.monotonic() >= prepared.until:
            return None
        sender = self._gateways.client_behind(client, headers)
        self._count(prepared, sender, prepared.answer.size_bytes)
        metrics.count_hot(hit=True)
        metrics.count_request("goproxy", "GET", 200, prepared.answer.size_bytes)
        return prepared.answer.wire

    def _count(self, prepared: PreparedAnswer, client: str, sent: int) -> None:
        self.decisions.add(prepared.line, client, sent)
        metrics.count_decision(allowed=True)
        if prepared.download is not None:
            self._usage.count(prepared.tenant, prepared.token, *prepared.download)
        if prepared.token:
            self._usage.used(prepared.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        reset = logs.request_id.set(token_hex(8))
        try:
            peer = scope["client"][0] if scope.get("client") else ""
            client = self._gateways.client_behind(peer, scope["headers"])
            key = _key(_url(scope), scope["headers"], is_plain_only=False)
            if key is not None and self._gateways.trusts(peer):
                key += _gateways_tenant(scope["headers"])
            prepared = self._lookup(key) if key and scope["method"] in _METHODS else None
            metrics.count_hot(hit=prepared is not None)
            if prepared is None:
                prepared, line, answer = await self._prepare(scope, key, peer, client)
            else:
                line, answer = prepared.line, prepared.answer
            status, sent = await self._send(prepared, answer, scope, receive, send)
            if prepared is not None and status < 400:
                is_sent = scope["method"] == "GET" and status != 304
                self._count(prepared if is_sent else _uncounted(prepared), client, sent)
            else:
                metrics.count_decision(allowed=line.is_allowed)
                self.decisions.add(line.with_status(status), client, sent)
            metrics.count_request("goproxy", scope["method"], status, sent)
        finally:
            logs.request_id.reset(reset)

    def _lookup(self, key: bytes) -> PreparedAnswer | None:
        prepared = self._hot.get(key, self._policies.generation)
        if prepared is not None and time.monotonic() >= prepared.until:
            self._hot.drop(key)
            return None
        return prepared

    async def _prepare(
        self, scope: Scope, key: bytes | None, peer: str, client: str
    ) -> tuple[PreparedAnswer | None, DecisionRecord, Answer]:
        """Return what to answer; Prepared where it is a success, which the next one may have."""
        if scope["method"] not in _METHODS:
            answer = plain(405, "only GET and HEAD are answered here", (b"allow", b"GET, HEAD"))
            return None, DecisionRecord.of_path(scope["raw_path"], "method"), answer
        # Of before the look at the policy: a refusal that a change overtakes is not kept for it.
        generation = self._policies.generation
        repeated = self._refused.get((key, generation)) if key else None
        if repeated is not None:
            return None, repeated[1], repeated[0]
        request: _Request | None = None
        try:
            request = await self._entered(scope, peer, client)
            prepared = await self._answered(request)
        except MoorageError as error:
            refused = error_answer(error)
            known = (
                request.line if request else DecisionRecord.of_path(scope["raw_path"], "request")
            )
            line = known.refused(error)
            is_lasting = isinstance(error, UnauthenticatedError | DeniedError | UnknownError)
            # "Not stored here" is no answer for one who does not forbid the fetch.
            if key and is_lasting and (request is None or request.may_keep):
                self._refused[key, generation] = (refused, line)
            return None, line, refused
        is_lasting = prepared.until > time.monotonic() and not scope["query_string"]
        if key and is_lasting and request.may_keep:
            self._hot.put(key, request.policy.generation, prepared)
        return prepared, prepared.line, prepared.answer

    async def _entered(self, scope: Scope, peer: str, client: str) -> "_Request":
        """Return a request that is addressed, authenticated and within its tenant's rate."""
        policy, now = await self._policies.current(), self._now()
        path: bytes = scope["raw_path"]
        whole = path if path.startswith(PREFIX) else path + b"/"
        to = addressed(whole, scope["headers"], peer, self._gateways, policy.hosts)
        of_tenant, presented = policy.tenants.get(to.tenant), None
        try:
            presented = presented_token(scope["headers"])
            if of_tenant is None:
                raise _no_such_tenant(policy, to.tenant, presented, now)
            principal, expires_at = authenticate(policy, of_tenant, presented, now)
        except UnauthenticatedError:
            if any(name == b"authorization" for name, _ in scope["headers"]):
                self._check_bad_tokens(client)
            raise
        self._check_rate(of_tenant)
        fetch = not any(
            name == b"disable-module-fetch" and value.strip().lower() == b"true"
            for name, value in scope["headers"]
        )
        asking = Caller(policy, of_tenant, principal, now, fetch)
        return _Request(to, asking, expires_at, DecisionRecord.of(to, principal), fetch)

    def _check_bad_tokens(self, client: str) -> None:
        wait_s = self._bad_tokens.take(client, self._limits.bad_tokens / 60)
        if wait_s:
            raise RateLimitedError(
                "too many wrong tokens from this address; set the right one and try again later",
                retry_after_s=max(1, round(wait_s)),
            )

    def _check_rate(self, of_tenant: TenantPolicy) -> None:
        tenant = of_tenant.tenant
        wait_s = self._buckets.take(tenant.name, tenant.limits.rate or self._limits.rate)
        if wait_s:
            raise RateLimitedError(
                f"tenant {tenant.name} sends more requests than it may; try again",
                retry_after_s=max(1, round(wait_s)),
            )

    async def _answered(self, request: "_Request") -> PreparedAnswer:
        by = self._let_in(request.asking)
        if not request.to.rest:
            return self._root(request, by)
        if request.to.rest.startswith(SUMDB):
            return await self._of_log(request)
        requested = parse_path(request.to.rest)
        request.line = request.line.about(requested)
        found = await self._modules.answer(request.asking, requested)
        answer = await self._rendered(request, requested, found)
        line = request.line.decided(found.decided_by, found.version)
        is_zip = requested.kind is RequestKind.ZIP
        if is_zip:
            self._sumdb.record_served(request.asking, requested.module, requested.version)
        download = (requested.module, requested.version) if is_zip else None
        return self._prepared(request, found.fresh_s, answer, line, download)

    async def _of_log(self, request: "_Request") -> PreparedAnswer:
        """Return the answer to a request about a checksum database."""
        found = await self._sumdb.answer(request.asking, request.to.rest.removeprefix(SUMDB))
        kind = b"application/octet-stream" if found.is_tile else TEXT
        is_open = request.asking.of_tenant.tenant.anonymous_read
        vary = () if is_open else ((b"vary", b"Authorization"),)
        if found.fresh_s is None:
            caching = IMMUTABLE if is_open else PRIVATE_IMMUTABLE
        else:
            caching = _changing(found.fresh_s, is_open=is_open)
        answer = body_answer(found.body, kind, caching, *vary)
        if found.module:
            request.line = request.line.of_lookup(found.module, found.version)
        line = request.line.decided(found.decided_by)
        return self._prepared(request, found.fresh_s, answer, line, None)

    def _let_in(self, asking: Caller) -> str:
        """Return what lets somebody in at all; nothing else is told to whom nothing does.

        Raises:
            DeniedError: the token is not for this tenant, or the tenant is switched off.
        """
        decision = authorize(
            asking.principal, asking.of_tenant, Operation.ROOT, None, None, asking.now
        )
        if not decision.allowed:
            raise DeniedError(decision.reason, decision.by)
        return decision.by

    def _root(self, request: "_Request", by: str) -> PreparedAnswer:
        asking = request.asking
        told = (
            f"this is the GOPROXY of tenant {asking.tenant}; use it: go env -w GOPROXY=<this URL>"
        )
        answer = plain(200, told)
        return PreparedAnswer(
            answer, 0.0, asking.tenant, asking.principal.token, request.line.decided(by)
        )

    async def _rendered(
        self, request: "_Request", requested: GoproxyRequest, found: Resolved
    ) -> Answer:
        is_open = request.asking.of_tenant.tenant.anonymous_read
        vary = () if is_open else ((b"vary", b"Authorization"),)
        content_type = CONTENT_TYPES[requested.kind]
        if found.file is not None and found.fresh_s is None:
            caching = IMMUTABLE if is_open else PRIVATE_IMMUTABLE
            if found.file.body is not None:
                return body_answer(found.body, content_type, caching, *vary)
            return await self._blob(found, content_type, caching, vary)
        caching = _changing(found.fresh_s or 0, is_open=is_open)
        stale: tuple[Header, ...] = ()
        if found.stale_s:
            warning = b'111 moorage "Revalidation Failed"'
            stale = ((b"age", b"%d" % found.stale_s), (b"warning", warning))
        return body_answer(found.body, content_type, caching, *vary, *stale)

    async def _blob(
        self, found: Resolved, content_type: bytes, caching: bytes, vary: tuple[Header, ...]
    ) -> Answer:
        file = found.file
        if file is None:
            raise AssertionError("a blob is a file's")
        # Opening proves the bytes before the answer is prepared, and heals them if need be.
        blob = await self._sender.open(file.sha256, file.size_bytes)
        try:
            body = None
            if file.size_bytes <= IN_MEMORY_BYTES:
                body = bytes(await blob.read(0, file.size_bytes))
        finally:
            blob.close()
        return file_answer(
            file.sha256,
            file.size_bytes,
            content_type,
            file.stored_at,
            *vary,
            caching=caching,
            body=body,
        )

    def _prepared(
        self,
        request: "_Request",
        fresh_s: float | None,
        answer: Answer,
        line: DecisionRecord,
        download: tuple[str, str] | None,
    ) -> PreparedAnswer:
        # Of now, since a fetch that took long must not lengthen what ends after it began.
        asking, monotonic, now = request.asking, time.monotonic(), self._now()
        ends = [asking.of_tenant.next_change(asking.now), request.expires_at]
        left = [(end - now).total_seconds() for end in ends if end is not None]
        if fresh_s is not None:
            left.append(max(fresh_s, _STALE_S))
        until = monotonic + min(left, default=float("inf"))
        return PreparedAnswer(answer, until, asking.tenant, asking.principal.token, line, download)

    async def _send(
        self,
        prepared: PreparedAnswer | None,
        answer: Answer,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> tuple[int, int]:
        # What fits into memory is no stream: a herd at a small new zip must not end in 429.
        is_stream = answer.blob is not None and not answer.wire and scope["method"] == "GET"
        if prepared is None or not is_stream:
            return await self._sender.send(answer, scope, receive, send)
        tenant = prepared.tenant
        policy = (await self._policies.current()).tenants.get(tenant)
        most = (policy.tenant.limits.streams if policy else None) or self._limits.streams
        if self._streams.get(tenant, 0) >= most:
            error = RateLimitedError(f"tenant {tenant} has {most} downloads under way; try again")
            return await self._sender.send(error_answer(error), scope, receive, send)
        self._streams[tenant] = self._streams.get(tenant, 0) + 1
        try:
            return await self._sender.send(answer, scope, receive, send)
        finally:
            self._streams[tenant] -= 1
            if not self._streams[tenant]:
                del self._streams[tenant]


@dataclass(slots=True)
class _Request:
    """A request on its way to an answer; `line` grows as more is known of it."""

    to: TenantPath
    asking: Caller
    expires_at: datetime | None
    line: DecisionRecord
    may_keep: bool

    @property
    def policy(self) -> Policy:
        return self.asking.policy


def _url(scope: Scope) -> bytes:
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


def _key(url: bytes, headers: list[Header], *, is_plain_only: bool) -> bytes | None:
    """Return what an answer is kept under: URL, credential and, without a tenant, the Host.

    None where no answer may be kept: several credentials, or a header that changes the answer.
    """
    authorization: bytes | None = None
    host = b""
    for name, value in headers:
        if name == b"authorization":
            if authorization is not None:
                return None
            # An empty one is refused where none is welcome: the two must not share an answer.
            authorization = value if 0 < len(value) <= _KEY_BYTES else _short(value)
        elif name == b"host":
            host = value
        elif is_plain_only and name in _NOT_INSTANT:
            return None
    if names_tenant(url.partition(b"?")[0]):
        host = b""
    return url + b"\n" + (authorization or b"") + b"\n" + host


def _short(value: bytes) -> bytes:
    """Return what stands for a long or an empty credential: no header has a line feed as this."""
    return b"\n" + Digest.of(value).hex.encode()


def _changing(fresh_s: float, *, is_open: bool) -> bytes:
    """Return the Cache-Control of an answer that changes."""
    return b"%s, max-age=%d" % (b"public" if is_open else b"private", int(min(fresh_s, 60)))


def _gateways_tenant(headers: list[Header]) -> bytes:
    told = b",".join(value for name, value in headers if name == b"x-tenant-id")
    return b"\n" + told if told else b""


def _uncounted(prepared: PreparedAnswer) -> PreparedAnswer:
    return PreparedAnswer(
        prepared.answer, prepared.until, prepared.tenant, prepared.token, prepared.line
    )


def _no_such_tenant(
    policy: Policy, name: str, presented: str | None, now: datetime
) -> MoorageError:
    """Return the refusal of a tenant that is none: strangers are not told that it is none."""
    if presented is None or not looks_like_token(presented):
        return UnauthenticatedError(
            f"tenant {name} needs a token, as the password in .netrc or by GOAUTH"
        )
    principal: Principal = principal_of(token_of(policy, presented, now))
    if principal.tenant is not None:
        return DeniedError(f"this token is not one for tenant {name}")
    return UnknownError(f"there is no tenant {name[:80]}; see `moorage tenant list`")
