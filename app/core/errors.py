"""Every error that Moorage raises on purpose: one tree, a class for each different reaction.

    MoorageError
    ├── SettingsError            a setting is unknown, malformed or contradictory    exit 2
    ├── SchemaError              the database is older or newer than the program     exit 1
    ├── UnfitDatabaseError       it is malformed, or another data folder's           exit 1
    ├── BadInputError            the caller sent something malformed                 400
    │   └── TooLargeError        the caller's body has more bytes than a limit       413
    ├── UnknownError             known absent                                        404
    │   └── GoneError            known absent for good                               410
    ├── DeniedError              policy says no; the message is the reason           403
    ├── UnauthenticatedError     no valid token                                      401
    ├── ConflictError            the change contradicts recorded state             409
    │   └── StaleRevisionError   the object changed since the caller read it         412
    ├── OverloadedError          a limit of the service is reached; retry_after_s    503
    │   └── RateLimitedError     a limit of the caller is reached                    429
    ├── NotYetError              expected later (signature not published)            503
    ├── VerificationError        upstream's bytes failed verification                502
    ├── KeyringError             a key export is unusable or lacks the pinned key    422
    ├── StorageError             the blob store can't work now                       503
    │   ├── StorageFullError     no space left                                       507
    │   │   └── QuotaError       a tenant has used its quota                         507
    │   ├── StoreAwayError       the start waits for it; nothing here is known       503
    │   ├── BlobMissingError     no such blob                                        503
    │   └── BlobDamagedError     the blob's bytes are not its digest's               503
    ├── DatabaseBusyError        locked or unreachable; try again                    503
    ├── DefectError              a fault of this program; see the log                500
    └── UpstreamError            an upstream's answer can't be used                  502
        ├── UpstreamAbsentError       it answered 404 or 410
        ├── UpstreamRefusedError      it does not let us in: 401, 403, 407           502
        │   └── UpstreamCredentialError  the credential is worth nothing there       502
        ├── UpstreamUnavailableError  5xx, 429, refused, breaker open                503
        ├── UpstreamTimeoutError      a deadline passed                              504
        └── UpstreamContentError      short, long, or not what was asked for         502
            └── UpstreamRedirectError it redirects to a host that is not allowed     502

The message is complete for the person who reads it and holds no credential. The numbers are the
HTTP status that `web/responses.py` gives the class on a Go-facing route.
"""


class MoorageError(Exception):
    """Root of the tree.

    Attributes:
        upstream_text: why an upstream refuses, in its own words, cleaned, at most 8 lines. A client
            gets this text instead of the message; "" for no text.
    """

    upstream_text: str = ""


class SettingsError(MoorageError):
    """A setting is unknown, malformed or contradictory; the message names it."""


class SchemaError(MoorageError):
    """The database's schema is not the one that this program needs."""


class UnfitDatabaseError(MoorageError):
    """The database is malformed, or does not belong to the data folder; an operator has to act."""


class BadInputError(MoorageError):
    """The caller sent something malformed."""


class TooLargeError(BadInputError):
    """The body of a request has more bytes than are taken; the message names the limit."""


class UnknownError(MoorageError):
    """Known to be absent."""


class GoneError(UnknownError):
    """Known to be absent for good."""


class DeniedError(MoorageError):
    """Policy forbids it; the message is the reason.

    Attributes:
        by: what decided, for the log: "rule 7", "default"; "" if no rule decided.
    """

    def __init__(self, message: str, by: str = "") -> None:
        super().__init__(message)
        self.by = by


class UnauthenticatedError(MoorageError):
    """No valid token was presented."""


class ConflictError(MoorageError):
    """The change contradicts what is recorded."""


class StaleRevisionError(ConflictError):
    """The object changed since the caller read it."""


class OverloadedError(MoorageError):
    """A limit of the service is reached.

    Attributes:
        retry_after_s: whole seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = 5) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimitedError(OverloadedError):
    """A limit of the caller's tenant or address is reached."""


class NotYetError(MoorageError):
    """The answer is expected later, for example when upstream has published a signature.

    Attributes:
        retry_after_s: whole seconds after which trying again makes sense.
    """

    def __init__(self, message: str, retry_after_s: int = 60) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class VerificationError(MoorageError):
    """Upstream's bytes failed verification and are not offered."""


class KeyringError(MoorageError):
    """A key export is unusable, or lacks the pinned primary key."""


class StorageError(MoorageError):
    """The blob store can't work now (I/O error, read-only file system)."""


class StorageFullError(StorageError):
    """No space or no inode is left, or the free-space floor is reached."""


class QuotaError(StorageFullError):
    """A tenant has used its quota: nothing more is stored for it; what is stored is served."""


class StoreAwayError(StorageError):
    """The store of blobs does not answer, and what is here is not known to belong to it."""


class BlobMissingError(StorageError):
    """The store has no blob of that digest."""


class BlobDamagedError(StorageError):
    """The stored bytes are not those of the digest."""


class DatabaseBusyError(MoorageError):
    """The database is locked or out of reach; trying again may help."""


class DefectError(MoorageError):
    """This program did something that can't be; its log has the details."""


class UpstreamError(MoorageError):
    """An upstream's answer can't be used.

    Attributes:
        origin: scheme, host and port of the upstream, without credential: "https://go.dev".
        status: the HTTP status of the answer, None without an answer.
    """

    def __init__(self, message: str, *, origin: str, status: int | None = None) -> None:
        super().__init__(message)
        self.origin = origin
        self.status = status


class UpstreamAbsentError(UpstreamError):
    """The upstream answered 404 or 410."""


class UpstreamRefusedError(UpstreamError):
    """The upstream answered 401, 403 or 407 for what was asked.

    Attributes:
        had_credential: whether the request had one.
    """

    had_credential: bool = False


class UpstreamCredentialError(UpstreamRefusedError):
    """The upstream does not take the credential, whatever is asked for.

    Attributes:
        kind: of the credential, in words: "ssh key".
    """

    def __init__(
        self, message: str, *, origin: str, status: int | None = None, kind: str = "credential"
    ) -> None:
        super().__init__(message, origin=origin, status=status)
        self.had_credential = True
        self.kind = kind


class UpstreamUnavailableError(UpstreamError):
    """The upstream is down, overloaded, or its circuit breaker is open.

    Attributes:
        retry_after_s: whole seconds, the upstream's own Retry-After where it sent one.
    """

    def __init__(
        self, message: str, *, origin: str, status: int | None = None, retry_after_s: int = 30
    ) -> None:
        super().__init__(message, origin=origin, status=status)
        self.retry_after_s = retry_after_s


class UpstreamTimeoutError(UpstreamError):
    """A deadline passed while waiting for the upstream."""


class UpstreamContentError(UpstreamError):
    """The body is short, long, or not what was asked for."""


class UpstreamRedirectError(UpstreamContentError):
    """The upstream redirects to an origin that it may not lead to.

    Attributes:
        target: the host, which may be allowed.
    """

    def __init__(
        self, message: str, *, origin: str, status: int | None = None, target: str = ""
    ) -> None:
        super().__init__(message, origin=origin, status=status)
        self.target = target
