"""Back to another snapshot, in a second and without network."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from .errors import NodeError
from .hooks import AFTER, run_hooks
from .install import SWITCHED, Installation, Wishes
from .snapshot import records, switch
from .verify import FULL, verify

if TYPE_CHECKING:
    from .layout import Layout
    from .transfer import Seconds


def roll_back(
    layout: Layout, seconds: Seconds, wishes: Wishes, version: str | None
) -> Installation:
    """Make another good snapshot current, after a full check of it, without network.

    Args:
        layout: of the root.
        seconds: of the stages.
        wishes: hooks run as after an installation; the smoke test does not run again.
        version: the one to go to; None for the one that was current before.

    Raises:
        UsageError: version is not installed, or is current already.
        NodeError: no snapshot is good.
    """
    current = layout.current_version()
    others = [one for one in records(layout) if one.version != current]
    if version is not None:
        others = [one for one in others if one.version == version]
    candidates = [one for one in others if one.is_good]
    if not candidates:
        installed = ", ".join(one.version for one in others) or "nothing else"
        raise NodeError(f"there is no good snapshot to go back to; {installed} is installed")
    reasons = []
    for record in candidates:
        with seconds.of("hashing"):
            drift = verify(layout, record, FULL)
        if drift:
            reasons.append(f"{record.version} has drifted in {len(drift)} places")
            continue
        switch(layout, record, now=time.time())
        run_hooks(layout, AFTER, record.version, current)
        wishes.tell("rolled-back", "rolled-back", f"from {current} to {record.version}")
        return Installation(record.version, current, SWITCHED)
    raise NodeError(f"no snapshot is good to go back to: {'; '.join(reasons)}")
