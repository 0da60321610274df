"""The commands: each takes the lock, calls one function and prints. Options: `arguments`."""

from __future__ import annotations

import argparse
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import VERSION
from .arguments import parser
from .checkin import enroll
from .errors import DONE, DRIFT, USAGE, NodeError, UsageError, disk_error
from .fetch import Limits, Servers, parse_rate
from .goversion import parse_platform, parse_version, this_platform
from .install import UNCHANGED, Installation, Wishes, install
from .instant import show_instant
from .layout import Layout, default_root, remove
from .lock import locked
from .manifest import clock_warning
from .note import parse_vkey
from .offer import Offer, offer_of_manifest, offer_of_record, offer_of_sums
from .output import Output
from .repair import repair
from .rollback import roll_back
from .run import run_command, sandbox_command
from .sandbox import Sandbox, uninstall_sandbox
from .service import service_command, uninstall_service
from .snapshot import KEPT, Record, point_link, prune, read_record, records, remove_snapshot
from .state import Identity, read_identity, read_state, write_identity, write_state
from .transfer import Seconds
from .update import accept_manifest, declined_line, update
from .verify import Drift, verify
from .wire import is_private_way

# A method named "list" would hide the type in the class.
_METHODS = {"list": "list_"}


def main(argv: list[str]) -> int:
    """Run one command and return the exit code."""
    try:
        options = parser().parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0) and USAGE
    output = Output(as_json=options.json)
    run = Run(options, output)
    try:
        return int(getattr(run, _METHODS.get(options.command, options.command))())
    except NodeError as error:
        output.warn(f"{error} (trace {error.trace})" if error.trace else str(error))
        if options.json:
            value = {"result": "failed", "stage": error.stage, "reason": str(error)}
            output.result({**value, "trace": error.trace}, [])
        return error.exit_code
    except OSError as error:
        output.warn(str(disk_error(error, "go on")))
        return NodeError.exit_code
    except KeyboardInterrupt:
        output.warn("stopped; the next run cleans up")
        return NodeError.exit_code


class Run:
    """One run of the program."""

    def __init__(self, options: argparse.Namespace, output: Output) -> None:
        self._options = options
        self._output = output
        self._layout = Layout((options.root or default_root()).absolute())
        self._seconds = Seconds()
        self._started = time.perf_counter()
        self._next_check_s = 0.0

    # Commands, each named as on the command line.

    def enroll(self) -> int:
        """Exchange an enrolment token."""
        token = self._token()
        servers = tuple(self._options.server)
        with locked(self._layout):
            connection = self._servers(Identity(servers=servers, ca=self._options.ca))
            if not all(is_private_way(url) for url in servers):
                raise UsageError("an enrolment token goes to https servers (and loopback) only")
            granted, server_time = enroll(
                connection, token, self._options.name or socket.gethostname()[:100]
            )
            connection.close()
            parse_vkey(granted.vkey)
            identity = replace(
                granted, servers=servers, ca=self._options.ca, link=self._options.link
            )
            write_identity(self._layout, identity)
        self._warn(clock_warning(time.time(), signed=0, server_time=server_time))
        self._output.result(
            {
                "result": "enrolled",
                "node": identity.node,
                "channel": identity.channel,
                "group": identity.group,
                "key": parse_vkey(identity.vkey).key_id,
            },
            [
                f"enrolled as {identity.node} in group {identity.group or '-'}, "
                f"follows channel {identity.channel}",
                f"pinned key {parse_vkey(identity.vkey).key_id}",
            ],
        )
        return DONE

    def update(self) -> int:
        """Ask the server, and do what it orders."""
        with locked(self._layout):
            identity = self._identity()
            done = update(
                self._layout,
                lambda: self._servers(identity),
                identity,
                read_state(self._layout),
                self._seconds,
                self._wishes(),
            )
            self._link(identity)
        self._next_check_s = done.next_check_s
        self._warn(done.warning)
        more = {"reason": done.reason, "next_check_s": done.next_check_s, "trace": done.trace}
        return self._installed(done.installation, more)

    def install(self) -> int:
        """Install a release and make it current."""
        version = parse_version(self._options.release)
        platform = self._options.platform or this_platform()
        parse_platform(platform)
        with locked(self._layout):
            identity = self._identity()
            if self._options.vkey and self._options.vkey != identity.vkey:
                parse_vkey(self._options.vkey)
                if identity.node:
                    raise UsageError("this node is enrolled, and its key is pinned: enroll again")
                identity = replace(identity, vkey=self._options.vkey)
            if self._options.channel:
                identity = replace(identity, channel=self._options.channel)
            offer = self._offer(identity, version, platform)
            done = install(
                self._layout,
                lambda: self._servers(identity),
                offer,
                self._seconds,
                self._wishes(),
            )
            if identity != read_identity(self._layout):
                write_identity(self._layout, identity)
            state = read_state(self._layout)
            if state != (after := state.taken_back(version)):
                write_state(self._layout, after)
            self._link(identity)
        return self._installed(done, {})

    def verify(self) -> int:
        """Compare a snapshot with its tree."""
        record = self._record()
        drift = verify(self._layout, record, self._options.level)
        self._remember_drift(record, is_drifted=bool(drift))
        value = {"version": record.version, "level": self._options.level, **_drift_value(drift)}
        lines = _drift_lines(drift)
        if drift:
            lines.append(f"{record.version} differs in {len(drift)} places")
            self._output.result({"result": "drift", **value}, lines)
            return DRIFT
        self._output.result({"result": "clean", **value}, [f"{record.version} is clean"])
        return DONE

    def repair(self) -> int:
        """Restore what differs."""
        with locked(self._layout):
            identity, record = self._identity(), self._record()
            drift = repair(
                self._layout,
                record,
                lambda: self._servers(identity),
                offer_of_record(record),
                self._seconds,
                form=self._options.form,
            )
        self._remember_drift(record, is_drifted=False)
        value = {"version": record.version, **_drift_value(drift)}
        if not drift:
            self._output.result({"result": UNCHANGED, **value}, [f"{record.version} is clean"])
            return DONE
        self._output.result(
            {"result": "repaired", **value},
            [*_drift_lines(drift), f"repaired {record.version} in {len(drift)} places"],
        )
        return DONE

    def rollback(self) -> int:
        """Go back to another good snapshot."""
        version = parse_version(self._options.release) if self._options.release else None
        with locked(self._layout):
            done = roll_back(self._layout, self._seconds, self._wishes(), version)
            self._decline(done)
        return self._installed(done, {})

    def status(self) -> int:
        """Show what this node knows."""
        identity, state = read_identity(self._layout), read_state(self._layout)
        declined = state.declined_of(identity.channel, self._layout.current_version())
        key = parse_vkey(identity.vkey).key_id if identity.vkey else ""
        value = {
            "program": VERSION,
            "root": str(self._layout.root),
            "current": self._layout.current_version(),
            "channel": identity.channel,
            "node": identity.node,
            "group": identity.group,
            "servers": list(identity.servers),
            "key": key,
            "seen_revision": state.seen.get(identity.channel, 0),
            "drift": state.drift,
            "last": state.last,
            "declined": declined,
            "snapshots": self._snapshots(),
        }
        lines = [
            f"{name:10} {value[name] or '-'}"
            for name in ("current", "root", "channel", "node", "group", "key", "seen_revision")
        ]
        lines.append(f"{'servers':10} {', '.join(identity.servers) or '-'}")
        if state.drift:
            lines.append(
                "drift      found by the last verification; `moorage-node repair` mends it"
            )
        if state.last:
            lines.append(f"last       {state.last['result']} {state.last['reason']}".rstrip())
        if declined:
            lines.append(f"declined   {declined_line(declined['version'], identity.channel)}")
        self._output.result(value, lines)
        return DONE

    def list_(self) -> int:
        """List the snapshots."""
        snapshots = self._snapshots()
        lines = [
            f"{'*' if one['current'] else ' '} {one['version']:12} {one['platform']:14} "
            f"{one['installed_at']}{'' if one['good'] else '  failed its test'}"
            for one in snapshots
        ]
        self._output.result({"snapshots": snapshots}, lines)
        return DONE

    def prune(self) -> int:
        """Remove old snapshots."""
        if self._options.keep < 1:
            raise UsageError("at least one snapshot is kept")
        with locked(self._layout):
            removed = prune(self._layout, keep=self._options.keep)
        self._output.result({"removed": removed}, [f"removed {version}" for version in removed])
        return DONE

    def sandbox(self) -> int:
        """Set up, look at or remove the sandbox of this user."""
        return sandbox_command(self._options, self._layout, self._output)

    def run(self) -> int:
        """Run a command in the sandbox."""
        return run_command(self._options, self._output)

    def service(self) -> int:
        """Install, remove or be the service that updates this node."""

        def update() -> tuple[int, float]:
            self._next_check_s = 0.0
            try:
                code = self.update()
            except NodeError as error:
                self._output.warn(str(error))
                code = error.exit_code
            return code, self._next_check_s

        return service_command(self._options, self._layout, self._output, update)

    def uninstall(self) -> int:
        """Remove service, sandbox, all snapshots, the links and the state."""
        removed = [
            *uninstall_service(self._layout, any_root=False),
            *uninstall_sandbox(Sandbox(Path.home()), self._layout.root),
        ]
        with locked(self._layout):
            identity = self._identity()
            snapshots = [record.version for record in records(self._layout)]
            link = Path(identity.link) if identity.link else None
            for path in (link, self._layout.current):
                if path is not None and path.is_symlink():
                    path.unlink()
            for version in snapshots:
                remove_snapshot(self._layout, version)
            remove(self._layout.state_folder)
        removed += snapshots
        self._output.result({"removed": removed}, [f"removed {version}" for version in removed])
        return DONE

    # What several commands need.

    def _token(self) -> str:
        source = self._options.token_file
        try:
            text = Path("/dev/stdin" if source == "-" else source).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the enrolment token can't be read from {source}") from error
        token = text.strip()
        if not token or not token.isascii() or not token.isprintable():
            raise UsageError(f"{source} holds no enrolment token")
        return token

    def _identity(self) -> Identity:
        """Return the stored identity, with the servers of the command line in front."""
        identity = read_identity(self._layout)
        options = self._options
        if getattr(options, "server", ()):
            identity = replace(identity, servers=tuple(options.server))
        if getattr(options, "ca", ""):
            identity = replace(identity, ca=str(Path(options.ca).absolute()))
        if getattr(options, "link", ""):
            identity = replace(identity, link=str(Path(options.link).absolute()))
        return identity

    def _servers(self, identity: Identity) -> Servers:
        options = self._options
        limits = Limits(
            idle_s=options.idle,
            total_s=options.deadline,
            rate_bytes=parse_rate(options.limit) if options.limit else None,
        )
        return Servers(identity.servers, token=identity.token, ca=identity.ca, limits=limits)

    def _offer(self, identity: Identity, version: str, platform: str) -> Offer:
        servers = self._servers(identity)
        try:
            if not identity.vkey:
                if not all(is_private_way(url) for url in identity.servers):
                    raise UsageError(
                        "without a pinned key (--vkey) a server is https, or on this machine"
                    )
                return offer_of_sums(servers, version, platform)
            if not identity.channel:
                raise UsageError("a pinned key signs channels: say which one with --channel")
            raw = servers.get(f"/dl/channels/{identity.channel}/manifest")
            state = read_state(self._layout)
            manifest = accept_manifest(self._layout, identity, state, raw)
            self._warn(clock_warning(time.time(), signed=manifest.issued_at, server_time=None))
            key = parse_vkey(identity.vkey).key_id
            return offer_of_manifest(manifest, version, platform, key)
        finally:
            servers.close()

    def _wishes(self) -> Wishes:
        options = self._options
        return Wishes(
            form=getattr(options, "form", "auto"),
            smoke=getattr(options, "smoke", "none"),
            keep=getattr(options, "keep", KEPT),
            gpg=getattr(options, "gpg", None),
            progress=self._output.progress,
        )

    def _record(self) -> Record:
        """Return the record of the snapshot that is asked for; of the current one by default."""
        asked = self._options.release
        version = parse_version(asked) if asked else self._layout.current_version()
        if version is None:
            raise UsageError(f"{self._layout.root} has no current release; say which one")
        record = read_record(self._layout, version)
        if record is None:
            raise UsageError(f"{version} is not installed in {self._layout.root}")
        return record

    def _snapshots(self) -> list[dict[str, Any]]:
        current = self._layout.current_version()
        return [
            {
                "version": record.version,
                "platform": record.platform,
                "current": record.version == current,
                "good": record.is_good,
                "channel": record.channel,
                "revision": record.revision,
                "key": record.key,
                "tree": record.tree,
                "installed_at": show_instant(record.installed_at),
                "current_at": show_instant(record.current_at) if record.current_at else None,
            }
            for record in records(self._layout)
        ]

    def _link(self, identity: Identity) -> None:
        if identity.link:
            point_link(self._layout, Path(identity.link))

    def _decline(self, done: Installation) -> None:
        """Remember that a release was taken back, and tell the server at the next check-in."""
        state = read_state(self._layout)
        identity = read_identity(self._layout)
        if done.previous is None or not identity.node:
            return
        after = state.rolled_back(identity.channel, done.previous, done.version)
        write_state(self._layout, after)

    def _remember_drift(self, record: Record, *, is_drifted: bool) -> None:
        state = read_state(self._layout)
        if record.version == self._layout.current_version() and state.drift != is_drifted:
            try:
                with locked(self._layout):
                    write_state(self._layout, replace(state, drift=is_drifted))
            except NodeError as error:
                self._warn(f"the result is not remembered: {error}")

    def _installed(self, done: Installation, more: dict[str, Any]) -> int:
        self._seconds.add("whole", time.perf_counter() - self._started)
        value = {
            "result": done.result,
            "version": done.version,
            "previous": done.previous,
            "root": str(self._layout.root),
            "form": done.form,
            "repaired": done.repaired,
            "pruned": list(done.pruned),
            "seconds": self._seconds.stages,
            **more,
        }
        if done.result == UNCHANGED:
            lines = [f"{done.version or 'nothing'} stays current"]
        else:
            came = f" (from {done.form})" if done.form else ""
            instead = f", before {done.previous}" if done.previous else ""
            lines = [f"{done.version} is current{came}{instead}"]
            stages = ", ".join(f"{name} {s:.1f} s" for name, s in self._seconds.stages.items())
            lines.append(f"  {stages}")
        if more.get("reason"):
            lines.append(f"  {more['reason']}")
        self._output.result(value, lines)
        return DONE

    def _warn(self, line: str) -> None:
        if line:
            self._output.warn(line)


def _drift_value(drift: Drift) -> dict[str, Any]:
    return {
        "missing": drift.missing,
        "changed": drift.changed,
        "extra": drift.extra,
        "hashed": drift.hashed,
    }


def _drift_lines(drift: Drift) -> list[str]:
    return [
        *(f"missing  {_shown(path)}" for path in drift.missing),
        *(f"changed  {_shown(path)} ({what})" for path, what in drift.changed.items()),
        *(f"extra    {_shown(path)}" for path in drift.extra),
    ]


def _shown(path: str) -> str:
    """Return a path for a terminal: control characters and undecodable bytes escaped."""
    return path if path.isprintable() else ascii(path)[1:-1]
