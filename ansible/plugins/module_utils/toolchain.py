"""What the module `toolchain` looks at, foresees and does, by the node program's own functions.

A task looks at the root first. In check mode it then foresees what would be different, from the
same manifest and the same trees; else it runs the node program's command and looks again. So both
have the same form, and a test compares them.

Not here: arguments and answers of Ansible (`plugins/modules/toolchain.py`); how a release comes in,
is checked and switched (`moorage_node/`).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .moorage_node.cli import main
from .moorage_node.errors import DONE, DRIFT, NodeError, RefusedError, UsageError
from .moorage_node.fetch import Limits, Servers, parse_rate
from .moorage_node.goversion import is_version, parse_platform, parse_version, this_platform
from .moorage_node.layout import Layout, default_root
from .moorage_node.lock import locked
from .moorage_node.manifest import Manifest, open_manifest
from .moorage_node.note import parse_vkey
from .moorage_node.offer import Offer, offer_of_manifest, offer_of_sums
from .moorage_node.snapshot import Record, read_record, records, remove_snapshot
from .moorage_node.state import Identity, read_identity, read_state
from .moorage_node.verify import DEFAULT, FULL, Drift, verify
from .moorage_node.wire import is_private_way

PRESENT, ABSENT, VERIFIED, ROLLED_BACK = "present", "absent", "verified", "rolled_back"


class FailedError(Exception):
    """A command of the node program failed.

    Attributes:
        stage: what failed, in the words of a report.
        warnings: lines that the program printed besides.
    """

    def __init__(self, reason: str, stage: str, warnings: list[str]) -> None:
        super().__init__(reason)
        self.stage = stage
        self.warnings = warnings


class DriftFoundError(Exception):
    """A verification found differences, and repairing them was not asked for.

    Attributes:
        outcome: what was found.
    """

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Request:
    """The module's arguments; "" is "not said".

    Attributes:
        state: PRESENT, ABSENT, VERIFIED or ROLLED_BACK.
        is_check: nothing may change.
    """

    state: str
    is_check: bool
    root: str = ""
    version: str = ""
    away_from: str = ""
    channel: str = ""
    vkey: str = ""
    servers: tuple[str, ...] = ()
    ca: str = ""
    link: str = ""
    platform: str = ""
    form: str = "auto"
    smoke: str = "full"
    keep: int = 3
    gpg: str = ""
    limit: str = ""
    idle_s: float = 30.0
    deadline_s: float = 1800.0
    level: str = FULL
    is_repair: bool = False


@dataclass
class Outcome:
    """What a task found, and did or would do.

    Attributes:
        before, after: the root as `look` shows it; they differ where the task changes something.
        facts: further values of the task's result.
        reason: a line for people; "" for none.
        warnings: lines that the node program printed.
    """

    before: dict[str, Any]
    after: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    warnings: list[str] = field(default_factory=list)

    @property
    def is_changed(self) -> bool:
        """Whether the task changes something."""
        return self.before != self.after


class Toolchain:
    """One task on one root."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._layout = Layout((Path(request.root) if request.root else default_root()).absolute())
        self._warnings: list[str] = []

    def run(self) -> Outcome:
        """Do what the task asks for, or in check mode foresee it.

        Raises:
            FailedError: a command of the node program failed; the release before is in use.
            DriftFoundError: a verification found differences.
            NodeError: what the task asks for is not possible.
        """
        steps = {
            PRESENT: self._present,
            ABSENT: self._absent,
            VERIFIED: self._verified,
            ROLLED_BACK: self._rolled_back,
        }
        outcome = steps[self._request.state]()
        outcome.warnings = self._warnings
        version = outcome.after["current"]
        outcome.facts = {
            "root": str(self._layout.root),
            "version": version,
            "previous": outcome.before["current"],
            "goroot": str(self._layout.snapshot(version)) if version else None,
            **outcome.facts,
        }
        return outcome

    def look(self) -> dict[str, Any]:
        """Return the root as it is: what is current, what is installed, whom it listens to."""
        identity = read_identity(self._layout)
        return {
            "current": self._layout.current_version(),
            "installed": self._installed(),
            **self._settings(identity, has_link=self._has_link(identity)),
        }

    def _installed(self) -> list[str]:
        """Return the snapshots; one whose record is damaged is named as such."""
        try:
            names = [path.name for path in self._layout.root.iterdir() if is_version(path.name)]
        except FileNotFoundError:
            return []
        return [shown for name in sorted(names) if (shown := self._shown(name))]

    def _shown(self, version: str) -> str:
        try:
            return version if read_record(self._layout, version) else ""
        except RefusedError:
            return f"{version} (its record is damaged)"

    def _settings(self, identity: Identity, *, has_link: bool) -> dict[str, Any]:
        return {
            "servers": list(identity.servers),
            "channel": identity.channel,
            "key": parse_vkey(identity.vkey).key_id if identity.vkey else "",
            "link": identity.link if has_link else "",
        }

    def _has_link(self, identity: Identity) -> bool:
        try:
            return os.readlink(identity.link) == str(self._layout.current)
        except OSError:
            return False

    # present

    def _present(self) -> Outcome:
        before, identity = self.look(), self._identity()
        manifest = self._manifest(identity)
        version = parse_version(self._request.version) if self._request.version else None
        if version is None:
            if manifest is None:
                raise UsageError(
                    "say a version, or a channel and the vkey of the key that signs it"
                )
            version = manifest.current
        record, differs = self._known(version)
        before["differs"] = differs
        is_in_use = bool(record and record.is_good and before["current"] == version and not differs)
        foreseen = {
            "current": version,
            "installed": before["installed"] if is_in_use else self._kept_with(version),
            **self._settings(identity, has_link=bool(identity.link)),
            "differs": [],
        }
        if before == foreseen and self._is_settled(record, identity, manifest):
            return Outcome(before, foreseen, {"result": "unchanged"})
        if self._request.is_check:
            self._check_offer(identity, manifest, version, record, is_damaged=bool(differs))
            return Outcome(before, foreseen, {"result": "foreseen"})
        value = self._command("install", version, *self._network(), *self._bring(), *self._pin())
        facts = {name: value[name] for name in ("result", "form", "pruned", "seconds")}
        return Outcome(before, {**self.look(), "differs": []}, facts)

    def _known(self, version: str) -> tuple[Record | None, list[str]]:
        """Return a snapshot's record, None without a good one, and how the snapshot differs."""
        try:
            record = read_record(self._layout, version)
            return record, _paths(verify(self._layout, record, DEFAULT)) if record else []
        except RefusedError as error:  # the program's `install` writes record and tree anew
            return None, [str(error)]

    def _identity(self) -> Identity:
        """Return what the root's `node.json` will hold, as the program's `install` makes it."""
        request, identity = self._request, read_identity(self._layout)
        changes: dict[str, Any] = {}
        if request.servers:
            changes["servers"] = request.servers
        for name in ("ca", "link"):
            if getattr(request, name):
                changes[name] = os.path.abspath(getattr(request, name))
        if request.vkey:
            parse_vkey(request.vkey)
            if identity.node and request.vkey != identity.vkey:
                raise UsageError("this node is enrolled, and its key is pinned: enroll again")
            changes["vkey"] = request.vkey
        if request.channel:
            changes["channel"] = request.channel
        return replace(identity, **changes)

    def _servers(self, identity: Identity) -> Servers:
        request = self._request
        limits = Limits(
            idle_s=request.idle_s,
            total_s=request.deadline_s,
            rate_bytes=parse_rate(request.limit) if request.limit else None,
        )
        return Servers(identity.servers, token=identity.token, ca=identity.ca, limits=limits)

    def _manifest(self, identity: Identity) -> Manifest | None:
        """Return the channel's manifest if it is needed to know the release; writes nothing."""
        if not (identity.vkey and identity.channel) or self._request.version:
            return None
        return self._opened_manifest(identity)

    def _opened_manifest(self, identity: Identity) -> Manifest:
        state = read_state(self._layout)
        with contextlib.closing(self._servers(identity)) as servers:
            raw = servers.get(f"/dl/channels/{identity.channel}/manifest")
        return open_manifest(
            raw,
            parse_vkey(identity.vkey),
            channel=identity.channel,
            seen_revision=state.seen.get(identity.channel, 0),
            now=time.time(),
            newest_signed=state.newest_signed,
        )

    def _is_settled(
        self, record: Record | None, identity: Identity, manifest: Manifest | None
    ) -> bool:
        """Whether a release came in by the key that is pinned now, and nothing is to be noted."""
        if manifest is not None:
            seen = read_state(self._layout).seen.get(manifest.channel, 0)
            if manifest.revision > seen:
                return False  # the program's `install` remembers the newer revision
        key = parse_vkey(identity.vkey).key_id if identity.vkey else ""
        platform = self._request.platform or this_platform()
        return bool(record and record.platform == platform and record.key == key)

    def _check_offer(
        self,
        identity: Identity,
        manifest: Manifest | None,
        version: str,
        record: Record | None,
        *,
        is_damaged: bool,
    ) -> None:
        """Return if the program's `install` would get the release."""
        platform = self._request.platform or this_platform()
        parse_platform(platform)
        offer = self._offer(identity, manifest, version, platform)
        final = self._layout.snapshot(version)
        if record is None and not (final.exists() or final.is_symlink()):
            offer.form("tar.gz" if self._request.gpg else self._request.form)
        elif record is None and is_damaged:
            return
        elif record is None or record.tree != offer.file.tree:
            raise UsageError(f"{final} exists, and is not the {version} that is offered: move it")

    def _offer(
        self, identity: Identity, manifest: Manifest | None, version: str, platform: str
    ) -> Offer:
        if identity.vkey:
            if not identity.channel:
                raise UsageError("a pinned key signs channels: say which one")
            manifest = manifest or self._opened_manifest(identity)
            key = parse_vkey(identity.vkey).key_id
            return offer_of_manifest(manifest, version, platform, key)
        if not all(is_private_way(url) for url in identity.servers):
            raise UsageError("without a pinned key (vkey) a server is https, or on this machine")
        with contextlib.closing(self._servers(identity)) as servers:
            return offer_of_sums(servers, version, platform)

    def _kept_with(self, version: str) -> list[str]:
        """Return what is installed after a switch to a release, when old snapshots were removed."""
        names = (name for name in self._installed() if is_version(name) and name != version)
        every = [record for record in (read_record(self._layout, name) for name in names) if record]
        every.sort(key=lambda one: (one.current_at, one.installed_at), reverse=True)
        good = [one.version for one in every if one.is_good]
        return sorted([version, *good[: max(0, self._request.keep - 1)]])

    # absent

    def _absent(self) -> Outcome:
        before = self.look()
        if self._request.version:
            version = parse_version(self._request.version)
            if version not in before["installed"]:
                return Outcome(before, before)
            if version == before["current"]:
                raise UsageError(
                    f"{version} is in use: put another release into use first, or leave the "
                    "version out to remove everything"
                )
            after = {**before, "installed": [v for v in before["installed"] if v != version]}
            if not self._request.is_check:
                with locked(self._layout):
                    remove_snapshot(self._layout, version)
            return Outcome(before, after)
        nothing = self._settings(Identity(), has_link=False)
        after = {"current": None, "installed": [], **nothing}
        if self._layout.state_folder.is_dir() and not self._request.is_check:
            self._command("uninstall")
            after = self.look()
        return Outcome(before, after)

    # verified

    def _verified(self) -> Outcome:
        request, before = self._request, self.look()
        version = parse_version(request.version) if request.version else before["current"]
        record = read_record(self._layout, version) if version else None
        if record is None:
            raise UsageError(f"{version or 'no release'} is not installed in {self._layout.root}")
        drift = self._drift(record)
        after = {**before, "differs": []}
        before["differs"] = _paths(drift)
        outcome = Outcome(before, after, {"drift": _drift_value(drift), "result": "clean"})
        if not drift:
            return outcome
        outcome.reason = f"{record.version} differs from its tree in {len(drift)} places"
        outcome.facts["result"] = "drift"
        if not request.is_repair:
            outcome.after = before
            raise DriftFoundError(outcome)
        if not request.is_check:
            self._command("repair", record.version, *self._network())
            outcome.facts["result"] = "repaired"
        return outcome

    def _drift(self, record: Record) -> Drift:
        if self._request.is_check:
            return verify(self._layout, record, self._request.level)
        # By the command, which also remembers the result for the next check-in.
        level = [] if self._request.level == DEFAULT else [f"--{self._request.level}"]
        value = self._command("verify", record.version, *level)
        return Drift(value["missing"], value["changed"], value["extra"], value["hashed"])

    # rolled back

    def _rolled_back(self) -> Outcome:
        request, before = self._request, self.look()
        version = parse_version(request.version) if request.version else None
        away_from = parse_version(request.away_from) if request.away_from else None
        is_away = version is None and before["current"] != away_from
        if before["current"] == version or is_away:
            return Outcome(before, before, {"result": "unchanged"})
        if request.is_check:
            after = {**before, "current": self._good_snapshot(version, before["current"])}
            return Outcome(before, after, {"result": "foreseen"})
        value = self._command("rollback", *([version] if version else []))
        return Outcome(before, self.look(), {name: value[name] for name in ("result", "seconds")})

    def _good_snapshot(self, version: str | None, current: str | None) -> str:
        """Return the snapshot that a rollback would choose."""
        for record in records(self._layout):
            if (
                record.is_good
                and record.version == (version or record.version)
                and record.version != current
                and not verify(self._layout, record, FULL)
            ):
                return record.version
        raise NodeError(f"no good snapshot {version or ''} to go back to".replace("  ", " "))

    # The node program's commands.

    def _network(self) -> list[str]:
        request = self._request
        options = [word for url in request.servers for word in ("--server", url)]
        options += ["--form", request.form]
        options += ["--idle", str(request.idle_s), "--deadline", str(request.deadline_s)]
        return [*options, *_said("--ca", request.ca), *_said("--limit", request.limit)]

    def _bring(self) -> list[str]:
        request = self._request
        options = ["--smoke", request.smoke, "--keep", str(request.keep)]
        return [*options, *_said("--link", request.link), *_said("--gpg", request.gpg)]

    def _pin(self) -> list[str]:
        request = self._request
        return [
            *_said("--vkey", request.vkey),
            *_said("--channel", request.channel),
            *_said("--platform", request.platform),
        ]

    def _command(self, *argv: str) -> dict[str, Any]:
        """Run a command of the node program and return the object that it prints.

        Raises:
            FailedError: it failed.
        """
        output, errors = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            code = main([*argv, "--root", str(self._layout.root), "--json"])
        value: dict[str, Any] = json.loads(output.getvalue() or "{}")
        lines = [
            line[len("moorage-node: ") :] if line.startswith("moorage-node: ") else line
            for line in errors.getvalue().splitlines()
        ]
        if code not in (DONE, DRIFT):
            reason = value.get("reason") or "; ".join(lines) or f"exit code {code}"
            raise FailedError(
                reason, value.get("stage", ""), [line for line in lines if line != reason]
            )
        self._warnings += lines
        return value


def _said(option: str, value: str) -> list[str]:
    return [option, value] if value else []


def _paths(drift: Drift) -> list[str]:
    return [
        *(f"missing {path}" for path in drift.missing),
        *(f"changed {path} ({what})" for path, what in drift.changed.items()),
        *(f"extra {path}" for path in drift.extra),
    ]


def _drift_value(drift: Drift) -> dict[str, Any]:
    return {"missing": drift.missing, "changed": drift.changed, "extra": drift.extra}
