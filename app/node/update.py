"""One update: a check-in, and what the server orders, as far as the pinned key has signed it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .checkin import HOLD, STAY, Order, Reporter, check_in, result_of
from .errors import NodeError, NotNowError, UsageError
from .goversion import this_platform
from .install import UNCHANGED, Installation, Wishes, install
from .manifest import Manifest, clock_warning, open_manifest
from .note import parse_vkey
from .offer import offer_of_manifest
from .state import Identity, State, read_state, write_identity, write_state

if TYPE_CHECKING:
    from .layout import Layout
    from .repair import ServersMaker
    from .transfer import Seconds


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes:
        installation: UNCHANGED if the server said "stay".
        reason: the server's line for people.
        next_check_s: when to ask next; 0 if the server did not say.
        trace: trace id under which the server knows this update.
        warning: about the clock; "" for none.
    """

    installation: Installation
    reason: str
    next_check_s: float
    trace: str
    warning: str


def update(
    layout: Layout,
    make_servers: ServersMaker,
    identity: Identity,
    state: State,
    seconds: Seconds,
    wishes: Wishes,
) -> Update:
    """Ask the server and do what it orders. The caller holds the root's lock.

    Raises:
        UsageError: the node is not enrolled.
        NotNowError: the server holds the node, or the release was rolled back by hand here.
        NodeError: the update failed; what was current before still is.
    """
    if not identity.node:
        raise UsageError("this node is not enrolled; `moorage-node enroll` does that")
    servers = make_servers()
    try:
        order = check_in(servers, layout, identity, state)
        warning = clock_warning(
            time.time(), signed=state.newest_signed, server_time=order.server_time
        )
        if order.channel != identity.channel:
            identity = replace(identity, channel=order.channel)
            write_identity(layout, identity)
        current = layout.current_version()
        if order.action == HOLD:
            raise NotNowError(_held(identity, state, order, current))
        if order.action == STAY:
            stayed = Installation(current or "", current, UNCHANGED)
            return Update(stayed, order.reason, order.next_check_s, order.trace, warning)
        reporter = Reporter(servers, identity, order, seconds)
        try:
            done = _obey(layout, make_servers, identity, state, seconds, wishes, order, reporter)
        except NodeError as error:
            error.trace = order.trace
            _remember(layout, order, reporter.version, failure=error)
            reporter.tell("failed", error.stage, str(error))
            raise
        _remember(layout, order, reporter.version, failure=None)
        return Update(done, order.reason, order.next_check_s, order.trace, warning)
    finally:
        servers.close()


def _obey(
    layout: Layout,
    make_servers: ServersMaker,
    identity: Identity,
    state: State,
    seconds: Seconds,
    wishes: Wishes,
    order: Order,
    reporter: Reporter,
) -> Installation:
    manifest = accept_manifest(layout, identity, state, order.manifest)
    reporter.version = manifest.current
    offered = {"version": manifest.current, "revision": manifest.revision}
    current = layout.current_version()
    if not order.is_released and state.declined_of(manifest.channel, current) == offered:
        raise NotNowError(declined_line(manifest.current, manifest.channel))
    key = parse_vkey(identity.vkey).key_id
    offer = offer_of_manifest(manifest, manifest.current, this_platform(), key)
    return install(layout, make_servers, offer, seconds, replace(wishes, tell=reporter.tell))


def _held(identity: Identity, state: State, order: Order, current: str | None) -> str:
    """Return why the server holds this node, and what this node itself has against an update."""
    line = f"the server holds this node: {order.reason or 'no reason given'}"
    declined = state.declined_of(identity.channel, current)
    if declined and _rolled_back(declined["version"]) not in order.reason:
        line += f"; {declined_line(declined['version'], identity.channel)}"
    return line


def declined_line(version: str, channel: str) -> str:
    """Return why this node leaves a release alone, and what changes that."""
    return (
        f"{_rolled_back(version)}; a newer revision of channel {channel}, `moorage node release` "
        f"on the server or `moorage-node install {version}` here changes that"
    )


def _rolled_back(version: str) -> str:
    # Servers begin their line with these words, too.
    return f"{version} was rolled back by hand on this node"


def accept_manifest(layout: Layout, identity: Identity, state: State, raw: bytes) -> Manifest:
    """Return the manifest if the node may act on it; its revision is remembered durably first.

    Raises:
        RefusedError: it is not one that the node may act on.
        DiskError: the revision can't be remembered.
    """
    manifest = open_manifest(
        raw,
        parse_vkey(identity.vkey),
        channel=identity.channel,
        seen_revision=state.seen.get(identity.channel, 0),
        now=time.time(),
        newest_signed=state.newest_signed,
    )
    seen = state.with_seen(manifest.channel, manifest.revision, manifest.issued_at)
    if seen != state:
        write_state(layout, seen)
    return manifest


def _remember(layout: Layout, order: Order, version: str, *, failure: NodeError | None) -> None:
    # Read anew: the manifest's revision was remembered meanwhile.
    state = read_state(layout)
    declined = state.declined if failure else None  # the channel's release is current now
    last = result_of(order, version, failure=failure)
    write_state(layout, replace(state, declined=declined, last=last))
