"""The decision log: a line for each request of a tenant, written in batches.

A line says who asked for what, whether it was allowed, by which rule, and what was answered.
"""

import time
from dataclasses import dataclass, replace

from app import logs
from app.core.errors import DeniedError, MoorageError, UnauthenticatedError
from app.core.goproxy import GoproxyRequest
from app.core.principal import Principal
from app.web.responses import status_of
from app.web.tenancy import TenantPath


@dataclass(frozen=True, slots=True)
class DecisionRecord:
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
    def of(cls, to: TenantPath, principal: Principal) -> "DecisionRecord":
        """Return the line of a request that was authenticated."""
        return cls(to.tenant, principal.actor, to.rest.decode("ascii", "backslashreplace"))

    @classmethod
    def of_path(cls, path: bytes, kind: str) -> "DecisionRecord":
        """Return the line of a request of which nothing is known yet."""
        return cls("", "", path.decode("ascii", "backslashreplace"), kind)

    def about(self, requested: GoproxyRequest) -> "DecisionRecord":
        """Return the line, now that the path is parsed."""
        return replace(self, asked=requested.module, kind=requested.kind, version=requested.version)

    def of_lookup(self, module: str, version: str) -> "DecisionRecord":
        """Return the line of a lookup at a checksum database, now that its path is parsed."""
        return replace(self, asked=module, kind="lookup", version=version)

    def decided(self, by: str, version: str = "") -> "DecisionRecord":
        """Return the line of a request that was allowed."""
        return replace(self, decided_by=by, version=version or self.version)

    def refused(self, error: MoorageError) -> "DecisionRecord":
        """Return the line of a request that ends in an error."""
        return replace(
            self,
            decided_by=error.by if isinstance(error, DeniedError) else "",
            reason=str(error),
            is_allowed=not isinstance(error, DeniedError | UnauthenticatedError),
            status=status_of(error),
        )

    def with_status(self, status: int) -> "DecisionRecord":
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
    """Takes the lines of this process; those that are not written yet fill no batch."""

    def __init__(self) -> None:
        self._batch = logs.Batch("goproxy", "decision")

    def add(self, line: DecisionRecord, client: str, sent_bytes: int) -> None:
        """Take one more line; client is an address."""
        self._batch.add(
            time.time(),
            line,
            line.facts,
            client=client,
            bytes=sent_bytes,
            request_id=logs.request_id.get(),
        )

    def flush(self) -> None:
        """Write what was taken."""
        self._batch.write()
