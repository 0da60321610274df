"""Which module zips are let go: the rules of retention, without I/O.

Only zips that a public upstream can give again come here; their hashes stay recorded, so that the
same bytes come back or none (`services/retention.py`).
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.semver import precedence

MIN_AGE = timedelta(days=7)
"""Nothing that was stored within a week is let go: its builds may still run."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """The rules; 0 switches a rule off.

    Attributes:
        unused_days: let go what was not downloaded for so many days.
        max_age_days: let go what was stored so many days ago.
        versions: keep so many of the newest versions of each module.
        max_bytes: let go what was used longest ago, until no more than this is left.
    """

    unused_days: int = 0
    max_age_days: int = 0
    versions: int = 0
    max_bytes: int = 0

    @property
    def is_on(self) -> bool:
        """Whether any rule is on."""
        return any((self.unused_days, self.max_age_days, self.versions, self.max_bytes))


@dataclass(frozen=True, slots=True)
class StoredZip:
    """A zip that can be fetched again.

    Attributes:
        id: of its row.
        used_at: of the last download, else when it was stored.
    """

    id: int
    module: str
    version: str
    size_bytes: int
    stored_at: datetime
    used_at: datetime

    @property
    def name(self) -> str:
        """The name for people: "example.com/x@v1.0.0"."""
        return f"{self.module}@{self.version}"


def let_go(
    zips: Iterable[StoredZip], policy: RetentionPolicy, now: datetime
) -> list[tuple[StoredZip, str]]:
    """Return the zips that the rules let go, by name, each with the reason."""
    every = list(zips)
    reasons: dict[int, str] = {}
    if policy.versions:
        for one in _beyond(every, policy.versions):
            reasons[one.id] = f"{policy.versions} newer versions are kept"
    for one in every:
        if policy.max_age_days and one.stored_at < now - timedelta(days=policy.max_age_days):
            reasons.setdefault(one.id, f"stored more than {policy.max_age_days} days ago")
        if policy.unused_days and one.used_at < now - timedelta(days=policy.unused_days):
            reasons.setdefault(one.id, f"not used for {policy.unused_days} days")
    old = [one for one in every if one.stored_at < now - MIN_AGE]
    if policy.max_bytes:
        old_ids = {one.id for one in old}
        left = sum(o.size_bytes for o in every if o.id not in reasons or o.id not in old_ids)
        for one in sorted(old, key=lambda o: (o.used_at, o.id)):
            if left <= policy.max_bytes:
                break
            if one.id not in reasons:
                reasons[one.id] = "used longest ago, and more is stored than is to be"
                left -= one.size_bytes
    chosen = [(one, reasons[one.id]) for one in old if one.id in reasons]
    return sorted(chosen, key=lambda pair: (pair[0].name, pair[0].id))


def _beyond(zips: list[StoredZip], count: int) -> list[StoredZip]:
    """Return the zips whose module has so many newer versions stored."""
    versions: defaultdict[str, list[StoredZip]] = defaultdict(list)
    for one in zips:
        versions[one.module].append(one)
    beyond = []
    for of_module in versions.values():
        newest = sorted({one.version for one in of_module}, key=precedence, reverse=True)[:count]
        beyond += [one for one in of_module if one.version not in newest]
    return beyond
