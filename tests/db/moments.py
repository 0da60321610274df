"""Moments, digests and rows that others refer to."""

from datetime import UTC, datetime, timedelta

from app.core.digest import Digest
from app.db.blobs import Blobs
from app.db.engine import Session

T0 = datetime(2026, 11, 23, 12, tzinfo=UTC)


def later(**by: float) -> datetime:
    return T0 + timedelta(**by)


def blob(session: Session, content: bytes) -> Digest:
    """Record a blob of some content."""
    digest = Digest.of(content)
    Blobs(session).record(digest, len(content), T0)
    return digest
