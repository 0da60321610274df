"""The decision log: a line for each request of a tenant, written in batches.

A line says who asked for what, whether it was allowed, by which rule, and what was answered.
"""

import time
from dataclasses import dataclass, replace

from app import logs
from app.core.errors import DeniedError, MoorageError, UnauthenticatedError
from app.core.goproxy import GoproxyRequest
from app.core.principal import Principal
from app.db.denials import Denial
from app.web.responses import status_of
from app.web.tenancy import TenantPath


@dataclass(frozen=True, slots=True, eq=False)
class DecisionRecord:
    """The decision about a request: a line of the log without time, client and size.

    Two are equal only if they are the same: a hash of all fields would cost each hit more than its
    line.

    Attributes:
        subject: the module path, or the path of the request where that could not be parsed.
        decided_by: "rule 7", "default", "token", …
        reason: why it was refused; "" otherwise.
    """

    tenant: str
    actor: str
    subject: str
    kind: str = ""
    version: str = ""
    decided_by: str = ""
    reason: str = ""
    is_allowed: bool = True
    status: int = 200

    @classmethod
    def of(cls, to: TenantPath, principal: Principal) -> "DecisionRecord":
        """Return the record of a request that was authenticated."""
        return cls(to.tenant, principal.actor, to.rest.decode("ascii", "backslashreplace"))

    @classmethod
    def of_path(cls, path: bytes, kind: str) -> "DecisionRecord":
        """Return the record of a request of which only the path is known."""
        return cls("", "", path.decode("ascii", "backslashreplace"), kind)

    def about(self, request: GoproxyRequest) -> "DecisionRecord":
        """Return the record of a request whose path was parsed."""
        return replace(self, subject=request.module, kind=request.kind, version=request.version)

    def of_lookup(self, module: str, version: str) -> "DecisionRecord":
        """Return the record of a lookup at a checksum database."""
        return replace(self, subject=module, kind="lookup", version=version)

    def decided(self, by: str, version: str = "") -> "DecisionRecord":
        """Return the record of a request that was allowed."""
        return replace(self, decided_by=by, version=version or self.version)

    def refused(self, error: MoorageError) -> "DecisionRecord":
        """Return the record of a request that ends in an error."""
        by = "token" if isinstance(error, UnauthenticatedError) else ""
        return replace(
            self,
            decided_by=error.by if isinstance(error, DeniedError) else by,
            reason=str(error),
            is_allowed=not isinstance(error, DeniedError | UnauthenticatedError),
            status=status_of(error),
        )

    def denial(self, principal: Principal) -> Denial:
        """Return a refusal as it is counted.

        Who may not use the tenant at all counts as nobody, asking for nothing: strangers must not
        use up the rows.
        """
        is_of_tenant = principal.tenant in (None, self.tenant)
        return Denial(
            self.tenant,
            principal.token if is_of_tenant else "",
            self.subject if self.kind else "",
            self.decided_by,
        )

    def with_status(self, status: int) -> "DecisionRecord":
        """Return the record with the status that was sent."""
        return self if status == self.status else replace(self, status=status)

    def facts(self) -> dict[str, object]:
        """Return the facts of the line in the log."""
        facts: dict[str, object] = {
            "tenant": self.tenant,
            "actor": self.actor,
            "module": self.subject,
            "kind": self.kind,
            "version": self.version,
            "decision": "allow" if self.is_allowed else "deny",
            "by": self.decided_by,
            "status": self.status,
            "reason": self.reason,
        }
        return {name: value for name, value in facts.items() if value != ""}


class DecisionLog:
    """Collects the records of this process and writes them in batches."""

    def __init__(self) -> None:
        self._batch = logs.Batch("goproxy", "decision", _facts)

    def add(
        self, record: DecisionRecord, client: str, sent_bytes: int, trace: str | None = None
    ) -> None:
        """Take one more record; client is an address, trace the id of the request's trace."""
        parts = record, client, sent_bytes
        self._batch.add(time.time(), parts, logs.request_id.get(), trace)

    def flush(self) -> None:
        """Write the records that were taken."""
        self._batch.write()


def _facts(record: DecisionRecord, client: str, sent_bytes: int) -> dict[str, object]:
    return {**record.facts(), "client": client, "bytes": sent_bytes}
