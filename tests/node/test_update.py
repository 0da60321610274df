"""Enrolment, check-ins and reports: what a node does on a server's order, and what it tells."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.core.fleetmessages import CheckIn, Report
from app.core.traceparent import trace_id
from tests.fakes.faults import Fault
from tests.fakes.fleet import go_script
from tests.node.conftest import V1, V2, Node

CHECK, REPORT = "/fleet/v1/check", "/fleet/v1/report"


def put_hook(node: Node, kind: str, script: str, name: str = "10-hook") -> Path:
    folder = node.root / ".moorage" / f"{kind}.d"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_enrolment_pins_the_key_and_hides_the_token(node: Node):
    done = node.enroll()
    assert (done.code, done.value["result"], done.value["group"]) == (0, "enrolled", "canary")
    kept = node.root / ".moorage" / "node.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    status = node.run("status")
    assert status.value["key"] == node.fleet.signer.verifier.key_id
    assert "node-token" not in json.dumps(status.value)


def test_a_refused_enrolment_shows_the_servers_line(node: Node):
    node.fleet.fault("/fleet/v1/enroll", Fault.status(401))
    done = node.enroll()
    assert (done.code, node.fleet.hits["/fleet/v1/enroll"]) == (1, 1)
    assert "401" in done.stderr


def test_an_enrolment_token_goes_nowhere_in_the_clear(node: Node, tmp_path: Path):
    (tmp_path / "token").write_text("x")
    done = node.run("enroll", "--server", "http://moorage.example", "--token-file",
                    str(tmp_path / "token"))  # fmt: skip
    assert (done.code, "https" in done.stderr) == (2, True)


def test_an_update_reports_each_event_under_one_trace(enrolled: Node):
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update()
    done = enrolled.run("update")
    assert (done.code, done.value["version"], done.value["previous"]) == (0, V2, V1)
    reports = enrolled.fleet.reports
    assert [one["event"] for one in reports] == [
        "downloaded", "verified", "unpacked", "tested", "switched",
    ]  # fmt: skip
    assert {one["grant"] for one in reports} == {"00ff"}
    assert {trace_id(one["traceparent"]) for one in reports} == {done.value["trace"]}
    for one in reports:
        Report.model_validate({k: v for k, v in one.items() if k != "traceparent"})
    enrolled.run("update")
    CheckIn.model_validate(enrolled.fleet.check_ins[-1])
    assert enrolled.fleet.check_ins[-1]["last"] == {
        "version": V2, "grant": "00ff", "result": "succeeded", "stage": "switched", "reason": "",
    }  # fmt: skip


def test_stay_changes_nothing_and_hold_is_exit_code_4(enrolled: Node):
    enrolled.fleet.put_release(V2)
    assert enrolled.run("update").value["result"] == "unchanged"
    enrolled.fleet.orders.append({"action": "hold", "reason": "three failures in a row"})
    done = enrolled.run("update")
    assert (done.code, "three failures in a row" in done.stderr) == (4, True)
    assert enrolled.current == V1


def test_an_order_without_a_signed_manifest_changes_nothing(enrolled: Node):
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update(manifest="")
    assert enrolled.run("update").code == 1
    assert enrolled.current == V1
    assert [(one["event"], one["stage"]) for one in enrolled.fleet.reports] == [
        ("failed", "verified")
    ]


def test_a_server_that_is_down_changes_nothing(enrolled: Node):
    enrolled.fleet.stop()
    assert enrolled.run("update").code == 1
    assert enrolled.current == V1
    enrolled.fleet.start()


def test_reports_that_get_lost_fail_nothing(enrolled: Node):
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update()
    enrolled.fleet.fault(REPORT, Fault.status(503), times=None)
    assert enrolled.run("update").code == 0
    assert enrolled.current == V2


@pytest.mark.parametrize("said", ["go1.99.9", "devel"])
def test_a_release_that_fails_its_smoke_test_never_becomes_current(enrolled: Node, said: str):
    enrolled.fleet.put_release(V2, go_command=go_script(V2, said=said))
    enrolled.fleet.order_update()
    assert enrolled.run("update").code == 1
    assert enrolled.current == V1
    assert enrolled.fleet.reports[-1]["event"] == "failed"
    assert enrolled.fleet.reports[-1]["stage"] == "tested"
    enrolled.run("update")
    assert enrolled.fleet.check_ins[-1]["last"]["result"] == "failed"
    assert enrolled.run("rollback").code == 1


def test_a_release_that_can_not_compile_never_becomes_current(enrolled: Node):
    broken = f'#!/bin/sh\n[ "$1" = version ] && echo go version {V2} x && exit\nexit 7\n'
    enrolled.fleet.put_release(V2, go_command=broken.encode())
    enrolled.fleet.order_update()
    done = enrolled.run("update")
    assert (done.code, "go build ended with 7" in done.stderr) == (1, True)
    assert enrolled.current == V1


def test_go_writes_no_telemetry_into_the_folder_of_the_smoke_test(enrolled: Node):
    mode = '[ "$(cat "$HOME/.config/go/telemetry/mode")" = off ] || exit 8'
    command = go_script(V2).replace(b"#!/bin/sh\n", f"#!/bin/sh\n{mode}\n".encode(), 1)
    enrolled.fleet.put_release(V2, go_command=command)
    enrolled.fleet.order_update()
    assert enrolled.run("update").value["version"] == V2
    assert enrolled.is_clean(V1, V2)


def test_a_failing_hook_keeps_the_release_out_until_it_succeeds(enrolled: Node):
    hook = put_hook(enrolled, "test", "echo no such luck; exit 9")
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update()
    done = enrolled.run("update")
    assert (done.code, enrolled.current) == (1, V1)
    assert "the hook 10-hook ended with 9: no such luck" in done.stderr
    hook.write_text(f"#!/bin/sh\ntest $MOORAGE_PREVIOUS,$MOORAGE_VERSION = {V1},{V2}\n")
    enrolled.fleet.order_update()
    done = enrolled.run("update")
    assert (done.code, done.value["result"], enrolled.current) == (0, "switched", V2)


def test_a_hook_that_fails_after_the_switch_takes_it_back(enrolled: Node):
    put_hook(enrolled, "switched", 'test "$(basename $(readlink $MOORAGE_ROOT/current))" = nothing')
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update()
    assert enrolled.run("update").code == 1
    assert enrolled.current == V1
    assert [one["event"] for one in enrolled.fleet.reports][-2:] == ["rolled-back", "failed"]


def test_a_hook_that_others_can_write_is_not_run(enrolled: Node):
    put_hook(enrolled, "test", f"touch {enrolled.root}/ran").chmod(0o757)
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update()
    assert enrolled.run("update").code == 1
    assert not (enrolled.root / "ran").exists()


def test_drift_goes_with_the_next_check_in(enrolled: Node):
    enrolled.path("VERSION").unlink()
    enrolled.run("verify")
    enrolled.run("update")
    assert enrolled.fleet.check_ins[-1]["drift"] is True


@pytest.mark.parametrize("off", [timedelta(days=-400), timedelta(hours=1)])
def test_a_clock_that_is_off_is_named(enrolled: Node, off: timedelta):
    then = datetime.now(UTC) + off
    enrolled.fleet.orders.append(
        {"action": "stay", "server_time": f"{then:%Y-%m-%dT%H:%M:%SZ}", "reason": ""}
    )
    done = enrolled.run("update")
    word = "ahead" if off < timedelta() else "behind"
    assert (done.code, f"clock is {word}" in done.stderr) == (0, True)


def test_a_clock_that_is_ahead_makes_manifests_expire(
    enrolled: Node, monkeypatch: pytest.MonkeyPatch
):
    now = datetime.now(UTC).timestamp()
    monkeypatch.setattr("time.time", lambda: now + 40 * 86400)
    enrolled.fleet.put_release(V2)
    enrolled.fleet.order_update(manifest=enrolled.fleet.manifest(issued=datetime.now(UTC)).decode())
    done = enrolled.run("update")
    assert (done.code, enrolled.current) == (1, V1)
    assert "check the clock" in done.stderr


def test_a_clock_that_is_behind_does_not_make_an_old_manifest_fresh(
    enrolled: Node, monkeypatch: pytest.MonkeyPatch
):
    now = datetime.now(UTC)
    monkeypatch.setattr("time.time", (now - timedelta(days=60)).timestamp)
    old = enrolled.fleet.manifest(issued=now - timedelta(days=59))
    enrolled.fleet.order_update(manifest=old.decode())
    done = enrolled.run("update")
    assert (done.code, "expired" in done.stderr) == (1, True)


def test_an_enrolled_node_takes_no_other_key(enrolled: Node):
    other = "other.example+" + enrolled.fleet.vkey.partition("+")[2]
    done = enrolled.run("install", V1, "--vkey", other)
    assert done.code == 2


def test_the_link_leads_to_current(enrolled: Node, tmp_path: Path):
    link = tmp_path / "go"
    assert enrolled.run("install", V1, "--link", str(link)).code == 0
    assert (link / "VERSION").read_text().startswith(V1)
    link.unlink()
    link.mkdir()
    assert enrolled.run("install", V1, "--link", str(link)).code == 2


def test_uninstall_leaves_nothing_of_it(enrolled: Node):
    (enrolled.root / "own").touch()
    assert enrolled.run("uninstall").value["removed"] == [V1]
    assert [path.name for path in enrolled.root.iterdir()] == ["own"]


def test_a_second_run_is_told_that_another_one_works(enrolled: Node):
    import fcntl

    with (enrolled.root / ".moorage" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = enrolled.run("update")
        assert (done.code, "another moorage-node" in done.stderr) == (4, True)
        assert enrolled.run("verify").code == 0
