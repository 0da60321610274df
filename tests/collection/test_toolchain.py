"""What the module does to a root, and that check mode foresees exactly that."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.collection.conftest import V1, V2, V3
from tests.fakes.fleet import FakeFleet


@pytest.fixture
def plan(collections: Path) -> ModuleType:
    from ansible_collections.moorage.go.plugins.module_utils import toolchain

    return toolchain


@pytest.fixture(autouse=True)
def no_pauses(plan: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.moorage.go.plugins.module_utils.moorage_node import fetch

    monkeypatch.setattr(fetch, "FIRST_WAIT_S", 0.0)


@dataclass
class Host:
    """A root, and the tasks that run on it."""

    plan: ModuleType
    fleet: FakeFleet
    root: Path

    def run(self, state: str = "present", **more: Any) -> Any:
        """Run one task."""
        options = {"is_check": False, **more}
        return self.plan.Toolchain(
            self.plan.Request(state=state, root=str(self.root), **options)
        ).run()

    def signed(self, **more: Any) -> Any:
        """Put the channel's release into use, or one that it offers."""
        return self.run(
            **{
                "servers": (self.fleet.base_url,),
                "vkey": self.fleet.vkey,
                "channel": "stable",
                **more,
            }
        )

    def publish(self, version: str) -> None:
        """Make a release current in the channel."""
        self.fleet.put_release(version)
        self.fleet.revision += 1

    def files(self) -> dict[str, int]:
        """Return every path below the root with its time of change, but for the caches."""
        return {
            str(path): os.lstat(path).st_mtime_ns
            for path in (self.root, *self.root.rglob("*"))
            if path.suffix != ".stat" and path.name != "snapshots" and os.path.lexists(path)
        }

    @property
    def current(self) -> str:
        return (self.root / "current").readlink().name


@pytest.fixture
def host(plan: ModuleType, fleet: FakeFleet, tmp_path: Path) -> Host:
    return Host(plan, fleet, tmp_path / "root")


def drift(host: Host) -> None:
    (host.root / V1 / "VERSION").write_text("another\n")
    (host.root / V1 / "extra").touch()


def damaged_record(host: Host) -> None:
    host.signed()
    (host.root / f".moorage/snapshots/{V1}.json").write_text("{")


def damaged_tree(host: Host) -> None:
    host.signed()
    (host.root / f".moorage/snapshots/{V1}.tree").write_text("")


def three(host: Host) -> None:
    for version in (V2, V3):
        host.publish(version)
        host.signed()


def no_link(host: Host) -> None:
    host.signed(link=str(host.root.parent / "go"))
    (host.root.parent / "go").unlink()


SCENARIOS: dict[str, tuple[Callable[[Host], object] | None, dict[str, Any]]] = {
    "on an empty root": (None, {}),
    "a release by its number": (None, {"version": "1.99.1"}),
    "with a link": (lambda host: host.signed(), {"link": "LINK"}),
    "with the link gone": (no_link, {}),
    "a newer release": (lambda host: (host.signed(), host.publish(V2)), {}),
    "a newer release, and one kept": (lambda host: (host.signed(), host.publish(V2)), {"keep": 1}),
    "an older release that is there": (lambda host: (host.signed(), three(host)), {"version": V1}),
    "after drift": (lambda host: (host.signed(), drift(host)), {}),
    "after damage to the record": (damaged_record, {}),
    "after damage to the tree": (damaged_tree, {}),
    "from another server": (lambda host: host.signed(), {"servers": ("ANOTHER",)}),
    "verified and mended": (
        lambda host: (host.signed(), drift(host)),
        {"state": "verified", "is_repair": True},
    ),
    "back": (
        lambda host: (host.signed(), three(host)),
        {"state": "rolled_back", "away_from": V3},
    ),
    "back to one": (
        lambda host: (host.signed(), three(host)),
        {"state": "rolled_back", "version": V1},
    ),
    "one absent": (
        lambda host: (host.signed(), three(host)),
        {"state": "absent", "version": V1},
    ),
    "all absent": (lambda host: host.signed(), {"state": "absent"}),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_check_mode_foresees_what_the_task_does_and_a_second_run_changes_nothing(
    host: Host, scenario: str
) -> None:
    prepare, options = SCENARIOS[scenario]
    if prepare is not None:
        prepare(host)
    if "link" in options:
        options = {**options, "link": str(host.root.parent / "go")}
    if "servers" in options:
        options = {**options, "servers": (host.fleet.base_url + "/",)}
    run = host.run if options.get("state") in ("absent", "rolled_back") else host.signed
    before = host.files() if host.root.exists() else None
    foreseen = run(is_check=True, **options)
    assert before == (host.files() if host.root.exists() else None)
    done = run(**options)
    assert (foreseen.before, foreseen.after) == (done.before, done.after)
    assert done.is_changed
    again = run(**options)
    assert not again.is_changed
    assert not run(is_check=True, **options).is_changed


def test_a_second_run_by_number_asks_nobody_and_by_channel_for_the_manifest(host: Host) -> None:
    host.signed()
    host.fleet.forget()
    host.signed(version=V1)
    assert not host.fleet.hits
    host.signed()
    assert host.fleet.hits == {"/dl/channels/stable/manifest": 1}


def test_a_newer_revision_with_the_same_release_is_remembered(host: Host) -> None:
    host.signed()
    host.fleet.revision = 5
    assert not host.signed().is_changed
    host.fleet.revision = 4
    for is_check in (True, False):
        with pytest.raises(Exception, match="replayed older one"):
            host.signed(is_check=is_check)


def test_without_a_key_the_sums_count_and_a_key_later_is_a_change(host: Host) -> None:
    done = host.run(version=V1, servers=(host.fleet.base_url,))
    assert (done.is_changed, host.current, done.facts["result"]) == (True, V1, "installed")
    assert not host.run(version=V1, servers=(host.fleet.base_url,)).is_changed
    pinned = host.signed(version=V1)
    assert pinned.is_changed
    assert pinned.before["key"] == ""
    assert not host.signed(version=V1).is_changed


def test_a_release_that_fails_its_test_leaves_the_old_one(host: Host) -> None:
    host.signed()
    hooks = host.root / ".moorage/test.d"
    hooks.mkdir()
    (hooks / "10-check").write_text("#!/bin/sh\necho the site is down; exit 1\n")
    (hooks / "10-check").chmod(0o755)
    host.publish(V2)
    with pytest.raises(host.plan.FailedError, match="the site is down") as failure:
        host.signed()
    assert failure.value.stage == "tested"
    assert host.current == V1


@pytest.mark.parametrize("is_check", [True, False])
def test_what_the_channel_lacks_fails_in_check_mode_too(host: Host, is_check: bool) -> None:
    with pytest.raises(Exception, match=r"does not offer go1\.98\.1"):
        host.signed(version="1.98.1", is_check=is_check)


def test_drift_is_named_and_fails(host: Host) -> None:
    host.signed()
    drift(host)
    for is_check in (True, False):
        with pytest.raises(host.plan.DriftFoundError) as failure:
            host.run("verified", is_check=is_check)
        assert failure.value.outcome.facts["drift"] == {
            "missing": [],
            "changed": {"VERSION": "size"},
            "extra": ["extra"],
        }


def test_a_rollback_needs_no_server_and_leaves_other_releases_alone(host: Host) -> None:
    host.signed()
    host.publish(V2)
    host.signed()
    host.fleet.stop()
    try:
        assert not host.run("rolled_back", away_from=V3).is_changed
        assert host.run("rolled_back", away_from=V2).is_changed
        assert host.current == V1
        assert not host.run("rolled_back", away_from=V2).is_changed
    finally:
        host.fleet.start()


@pytest.mark.parametrize("is_check", [True, False])
def test_the_release_in_use_is_not_taken_away(host: Host, is_check: bool) -> None:
    host.signed()
    with pytest.raises(Exception, match="is in use"):
        host.run("absent", version=V1, is_check=is_check)
    assert host.current == V1
