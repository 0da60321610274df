"""The decision log: a line for each request of a tenant, written in batches off the hot path.

A line says who asked for what, whether it was allowed, by which rule, and what was answered.
"""

import time
from dataclasses import dataclass, replace

from app import logs
from app.core.errors import DeniedError, MoorageError, UnauthenticatedError
from app.core.goproxy import Requested
from app.core.principal import Principal
from app.web.responses import status_of
from app.web.tenancy import Addressed

_MAX_PENDING = 100_000  # about ten seconds of the highest load


@dataclass(frozen=True, slots=True)
class Line:
    """What stays the same of a line however often its answer is given.

    Attributes:
        asked: "example.com/x@v1.0.0.zip", or the path where it could not be parsed.
        decided_by: "rule 7", "default", "token", …
        reason: why it was refused; "" otherwise.
    """

    tenant: str
    actor: str
    asked: str
    kind: str = ""
    version: str = ""
    decided_by: str = ""
    reason: str = ""
    is_allowed: bool = True
    status: int = 200

    @classmethod
    def of(cls, to: Addressed, principal: Principal) -> "Line":
        """Return the line of a request that was authenticated."""
        return cls(to.tenant, principal.actor, to.rest.decode("ascii", "backslashreplace"))

    @classmethod
    def of_path(cls, path: bytes, kind: str) -> "Line":
        """Return the line of a request of which nothing is known yet."""
        return cls("", "", path.decode("ascii", "backslashreplace"), kind)

    def about(self, requested: Requested) -> "Line":
        """Return the line, now that the path is parsed."""
        return replace(self, asked=requested.module, kind=requested.kind, version=requested.version)

    def decided(self, by: str, version: str = "") -> "Line":
        """Return the line of a request that was allowed."""
        return replace(self, decided_by=by, version=version or self.version)

    def refused(self, error: MoorageError) -> "Line":
        """Return the line of a request that ends in an error."""
        return replace(
            self,
            reason=str(error),
            is_allowed=not isinstance(error, DeniedError | UnauthenticatedError),
            status=status_of(error),
        )

    def with_status(self, status: int) -> "Line":
        """Return the line with the status that was sent."""
        return self if status == self.status else replace(self, status=status)

    def facts(self) -> dict[str, object]:
        """Return what the log says."""
        facts: dict[str, object] = {
            "tenant": self.tenant,
            "actor": self.actor,
            "module": self.asked,
            "kind": self.kind,
            "version": self.version,
            "decision": "allow" if self.is_allowed else "deny",
            "by": self.decided_by,
            "status": self.status,
            "reason": self.reason,
        }
        return {name: value for name, value in facts.items() if value != ""}


class DecisionLog:
    """Lines of this process that are not written yet."""

    def __init__(self) -> None:
        self._pending: list[tuple[float, Line, str, int, str | None]] = []
        self._lost = 0

    def add(self, line: Line, client: str, sent_bytes: int) -> None:
        """Take one more line; client is an address."""
        if len(self._pending) >= _MAX_PENDING:
            self._lost += 1
            return
        self._pending.append((time.time(), line, client, sent_bytes, logs.request_id.get()))

    def flush(self) -> None:
        """Write what was taken; a flood that memory could not hold is told as a number."""
        pending, self._pending = self._pending, []
        lost, self._lost = self._lost, 0
        writer = logs.Batch("goproxy", "decision")
        for at, line, client, sent, request_id in pending:
            more = {"client": client, "bytes": sent, "request_id": request_id}
            writer.add(at, line, line.facts, **more)
        writer.write()
        if lost:
            logs.get("goproxy").error("decisions not logged", count=lost)
