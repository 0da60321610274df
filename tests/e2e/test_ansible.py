"""The collection's playbooks on a few hosts of this machine, with a real Moorage."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.control import CHANNEL, Control, publish, set_channel
from tests.e2e.process import Server, Site
from tests.e2e.warm import Warm
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer

V1, V2 = "go1.99.1", "go1.99.2"
HOSTS = ["h0", "h1", "h2", "h3"]
GOOD = ["h0", "h2", "h3"]

# A host's Python that notes when a module begins and ends; one write of a few bytes is not divided.
NOTING = """#!/bin/sh
echo begin >> {log}
{python} "$@"
code=$?
echo end >> {log}
exit $code
"""


@pytest.fixture
def mirror(site: Site, warm: Warm, fake: FakeGodev, signer: Signer) -> Iterator[Server]:
    for version in (V1, V2):
        publish(fake, signer, version)
    with warm.serve(site) as server:
        set_channel(server, V1)
        yield server


@pytest.fixture
def control(tmp_path: Path, mirror: Server) -> Control:
    made = Control.new(tmp_path / "control")
    made.write_hosts(
        HOSTS,
        toolchain_servers=[mirror.url],
        toolchain_channel=CHANNEL,
        toolchain_vkey=mirror.get("/api/v1/channel-key").json["vkey"],
    )
    return made


def most_at_once(log: Path) -> int:
    """Return how many modules ran at the same time."""
    running, most = 0, 0
    for line in log.read_text().split():
        running += 1 if line == "begin" else -1
        most = max(most, running)
    return most


def break_host(control: Control, host: str) -> None:
    """Make a release fail its test on a host."""
    hooks = control.root(host) / ".moorage" / "test.d"
    hooks.mkdir(parents=True)
    (hooks / "10-site").write_text("#!/bin/sh\necho the site is down; exit 1\n")
    (hooks / "10-site").chmod(0o755)


@pytest.mark.slow
def test_a_rollout_isolates_who_fails_a_second_run_changes_nothing_and_it_goes_back(
    control: Control, mirror: Server, tmp_path: Path
) -> None:
    break_host(control, "h1")
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(NOTING.format(log=log, python=sys.executable))
    python.chmod(0o755)

    first = control.play(
        "moorage.go.rollout",
        rollout_steps=[1, "100%"],
        rollout_max_fail_percentage=50,
        toolchain_throttle=2,
        ansible_python_interpreter=str(python),
    )
    assert first.code == 2, first.out
    assert [batch["hosts"] for batch in first.report["batches"]] == [["h0"], ["h1", "h2", "h3"]]
    assert first.outcomes() == {**dict.fromkeys(GOOD, "changed"), "h1": "failed"}
    assert first.report["hosts"]["h1"]["stage"] == "tested"
    assert "the site is down" in first.report["hosts"]["h1"]["reason"]
    assert control.limit_file.read_text() == "h1\n"
    assert most_at_once(log) == 2  # never more, and more than one
    assert [control.current(host) for host in HOSTS] == [V1, None, V1, V1]

    set_channel(mirror, V2)
    # The second batch fails: the third one is not begun.
    halted = control.play("moorage.go.rollout", rollout_steps=[1, 1, "100%"])
    assert halted.code == 2, halted.out
    assert halted.outcomes() == {"h0": "changed", "h1": "failed"}
    assert halted.report["not_reached"] == ["h2", "h3"]
    assert [control.current(host) for host in HOSTS] == [V2, None, V1, V1]

    everything = ("moorage.go.rollout", "moorage.go.rollout", "moorage.go.rollback")
    rest = control.play(
        *everything, options=("--limit", "h0,h2"), rollout_steps=["100%"], rollback_from=V2
    )
    assert rest.code == 0, rest.out
    changed = [{host: n["changed"] for host, n in recap.items()} for recap in rest.recaps()]
    # Ansible's counts go on from playbook to playbook: the second one changed nothing.
    assert changed == [{"h0": 0, "h2": 1}, {"h0": 0, "h2": 1}, {"h0": 1, "h2": 2}]
    assert [control.current(host) for host in HOSTS] == [V1, None, V1, V1]


ENROL = """
- name: Enrol
  hosts: h0
  gather_facts: false
  roles:
    - role: moorage.go.node
  tasks:
    - name: Read the inventory anew
      ansible.builtin.meta: refresh_inventory
- name: See the node
  hosts: group_canary
  gather_facts: false
  tasks:
    - name: Look at groups, and at the release
      ansible.builtin.assert:
        that:
          - groups.channel_stable == ['web-1']
          - groups.step_1 is not defined
          - moorage_node | length > 0
          - release.version == 'go1.99.1'
          - release.sha256 | length == 64
          - listed == release
      vars:
        release: "{{ lookup('moorage.go.release', 'current', url=url, channel='stable',
                     vkey=toolchain_vkey) }}"
        listed: "{{ lookup('moorage.go.release', '1.99.1', url=url, channel='stable') }}"
"""


@pytest.mark.slow
def test_a_machine_is_enrolled_and_the_inventory_has_it(
    control: Control, mirror: Server, tmp_path: Path
) -> None:
    body = {"channel": CHANNEL, "group": "canary"}
    token = mirror.admin("POST", "/enroll-tokens", body).json["token"]
    (control.folder / "inventory" / "fleet.yml").write_text(
        f"plugin: moorage.go.fleet\nurl: {mirror.url}\n"
    )
    playbook = tmp_path / "enrol.yml"
    playbook.write_text(ENROL)
    done = control.play(
        str(playbook),
        env={"MOORAGE_TOKEN": mirror.token},
        url=mirror.url,
        node_servers=[mirror.url],
        node_enroll_token=token,
        node_name="web-1",
        node_root=str(control.root("h0")),
        node_program=str(tmp_path / "moorage-node"),
    )
    assert done.code == 0, done.out
    assert token not in done.out
    [recap] = done.recaps()
    assert recap["h0"]["changed"] == 2  # the program, and the enrolment
    assert recap["web-1"]["failed"] == 0
