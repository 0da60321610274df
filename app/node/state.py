"""What a node remembers between runs, each part written durably as a whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .durable import read_json, write_json
from .errors import RefusedError, disk_error

if TYPE_CHECKING:
    from .layout import Layout


_ROLLED_BACK = "rolled-back"


@dataclass(frozen=True)
class Identity:
    """How this node talks to whom. In `node.json`, which only its owner reads.

    Attributes:
        servers: base URLs in order of preference.
        channel: that the node follows; "" for none.
        vkey: the pinned key; "" for none. With a key only manifests count.
        node, token: from enrolment; "" for a node that is not enrolled.
        group: for people.
        ca: path of a file with further certificate authorities; "" for the system's alone.
        link: path of a further link to `current`; "" for none.
    """

    servers: tuple[str, ...] = ()
    channel: str = ""
    vkey: str = ""
    node: str = ""
    token: str = field(default="", repr=False)
    group: str = ""
    ca: str = ""
    link: str = ""


@dataclass(frozen=True)
class State:
    """What the node has seen and done. In `state.json`.

    Attributes:
        seen: newest revision seen, by channel.
        newest_signed: newest `issued_at` seen, seconds since 1970.
        last: the last grant's result, repeated at each check-in; None before the first. With the
            `version` that the grant brought, since 0.1.0.
        declined: release that was rolled back by hand here, the newest revision of which this node
            knew then, and their channel. An update leaves the release alone until the channel has
            a newer revision, or an operator of the server releases the node.
        drift: whether the last verification found a difference.
    """

    seen: dict[str, int] = field(default_factory=dict)
    newest_signed: int = 0
    last: dict[str, Any] | None = None
    declined: dict[str, Any] | None = None
    drift: bool = False

    def with_seen(self, channel: str, revision: int, issued_at: int) -> State:
        """Return the state after a valid manifest; neither number ever falls."""
        newest = max(revision, self.seen.get(channel, 0))
        return replace(
            self,
            seen={**self.seen, channel: newest},
            newest_signed=max(issued_at, self.newest_signed),
        )

    def declined_of(self, channel: str, current: str | None) -> dict[str, Any] | None:
        """Return version and revision of what this node declines of a channel; None for nothing.

        A newer revision that was seen since ends it, and so does the release if it is current.
        """
        declined = self.declined
        if (
            declined is None
            or declined["version"] == current
            or declined.get("channel", channel) != channel
            or declined["revision"] < self.seen.get(channel, 0)
        ):
            return None
        return {"version": declined["version"], "revision": declined["revision"]}

    def rolled_back(self, channel: str, version: str, to: str) -> State:
        """Return the state after a rollback by hand from one release to another.

        The grant that brought the release has failed after all; its next report says so.
        """
        state = self.taken_back(to)
        declined = {"version": version, "revision": self.seen.get(channel, 0), "channel": channel}
        last = state.last
        if last and last.get("version", version) == version:
            reason = f"rolled back by hand on this node, to {to}"
            last = {**last, "result": "failed", "stage": _ROLLED_BACK, "reason": reason}
        return replace(state, declined=declined, last=last)

    def taken_back(self, version: str) -> State:
        """Return the state after a release became current by hand: it is declined no more.

        If it had been rolled back by hand, its grant has succeeded after all.
        """
        last = self.last
        if last and last.get("version") == version and last["stage"] == _ROLLED_BACK:
            last = {**last, "result": "succeeded", "stage": "switched", "reason": ""}
        return replace(self, declined=None, last=last)


def read_identity(layout: Layout) -> Identity:
    """Return what `node.json` holds; empty without the file.

    Raises:
        RefusedError: the file is damaged.
        DiskError: the file can't be read.
    """
    try:
        fields = read_json(layout.node_file)
        return Identity(**{**fields, "servers": tuple(fields.get("servers", ()))})
    except TypeError as error:
        raise RefusedError(f"{layout.node_file} is of another form; enroll again") from error
    except OSError as error:
        raise disk_error(error, "read") from error


def write_identity(layout: Layout, identity: Identity) -> None:
    """Write `node.json` durably, readable by its owner alone.

    Raises:
        DiskError: the file can't be written.
    """
    try:
        write_json(layout.node_file, asdict(identity), mode=0o600)
    except OSError as error:
        raise disk_error(error, "write") from error


def read_state(layout: Layout) -> State:
    """Return what `state.json` holds; empty without the file.

    Raises:
        RefusedError: the file is damaged.
        DiskError: the file can't be read.
    """
    try:
        return State(**read_json(layout.state_file))
    except TypeError as error:
        raise RefusedError(f"{layout.state_file} is of another form") from error
    except OSError as error:
        raise disk_error(error, "read") from error


def write_state(layout: Layout, state: State) -> None:
    """Write `state.json` durably.

    Raises:
        DiskError: the file can't be written.
    """
    try:
        write_json(layout.state_file, asdict(state))
    except OSError as error:
        raise disk_error(error, "write") from error
