"""Rendering what services answer to `/goproxy/…` requests: content type, caching, validators.

Pure functions; how an `Answer` is built and sent is `responses`' and `sending`'s.
"""

from app.core.goproxy import CONTENT_TYPES, RequestKind
from app.db.modules import ModuleFile
from app.services.modules.caller import Caller, Resolved
from app.services.sumdb.front import LogAnswer
from app.web.responses import (
    IMMUTABLE,
    PRIVATE_IMMUTABLE,
    TEXT,
    Answer,
    Header,
    body_answer,
    file_answer,
    plain,
)

_MAX_AGE_S = 60
_TILE = b"application/octet-stream"
_STALE = (b"warning", b'111 moorage "Revalidation Failed"')


def root_answer(tenant: str) -> Answer:
    """Return the answer to the tenant's root: how to use it."""
    return plain(
        200, f"this is the GOPROXY of tenant {tenant}; use it: go env -w GOPROXY=<this URL>"
    )


def module_answer(caller: Caller, kind: RequestKind, resolved: Resolved, max_age_s: int) -> Answer:
    """Return the answer that sends a list, a query's result, a .info or a .mod from memory.

    max_age_s: see `blob_answer`.
    """
    stale: tuple[Header, ...] = ()
    if resolved.stale_s:
        stale = ((b"age", b"%d" % resolved.stale_s), _STALE)
    # Only a stored file is good for ever.
    fresh_s = resolved.fresh_s if resolved.file is not None else resolved.fresh_s or 0.0
    return body_answer(
        resolved.body,
        CONTENT_TYPES[kind],
        _file_caching(caller, max_age_s) if fresh_s is None else _caching(caller, fresh_s),
        *_vary(caller),
        *stale,
    )


def blob_answer(
    caller: Caller, kind: RequestKind, file: ModuleFile, body: bytes | None, max_age_s: int
) -> Answer:
    """Return the answer that sends a blob, from `body` if that is not None.

    max_age_s: how long caches in front may keep a file of an open tenant.
    """
    return file_answer(
        file.sha256,
        file.size_bytes,
        CONTENT_TYPES[kind],
        file.stored_at,
        *_vary(caller),
        caching=_file_caching(caller, max_age_s),
        body=body,
    )


def log_answer(caller: Caller, answer: LogAnswer) -> Answer:
    """Return the answer to a request about a checksum database."""
    content_type = _TILE if answer.is_tile else TEXT
    caching = _caching(caller, answer.fresh_s)
    return body_answer(answer.body, content_type, caching, *_vary(caller))


def _file_caching(caller: Caller, max_age_s: int) -> bytes:
    """Return the Cache-Control of a module's file, which never changes but may be denied.

    A shared cache in front does not ask this server before it answers, so that a denial holds there
    only when the file's age is over. A private cache belongs to whoever had the file anyway.
    """
    if caller.of_tenant.tenant.anonymous_read:
        return b"public, max-age=%d" % max_age_s
    return PRIVATE_IMMUTABLE


def _caching(caller: Caller, fresh_s: float | None) -> bytes:
    """Return the Cache-Control of an answer that stays fresh so long; None means for ever."""
    is_open = caller.of_tenant.tenant.anonymous_read
    if fresh_s is None:
        return IMMUTABLE if is_open else PRIVATE_IMMUTABLE
    scope = b"public" if is_open else b"private"
    return b"%s, max-age=%d" % (scope, int(min(fresh_s, _MAX_AGE_S)))


def _vary(caller: Caller) -> tuple[Header, ...]:
    is_open = caller.of_tenant.tenant.anonymous_read
    return () if is_open else ((b"vary", b"Authorization"),)
