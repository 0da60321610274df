"""The callback moorage.go.report: what a run of the playbooks did, batch by batch."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: What became of each host, batch by batch
version_added: 0.1.0
description:
  - At the end of a run, prints for each batch how many hosts were changed, unchanged and failed,
    each failed host with stage and reason, and how many hosts were never reached.
  - Writes the same as JSON, and the failed hosts as a file for C(--limit).
author:
  - The Moorage authors (@moorage)
requirements:
  - C(callbacks_enabled = moorage.go.report) in C(ansible.cfg), or the same in
    C(ANSIBLE_CALLBACKS_ENABLED).
options:
  report_file:
    description: Where the JSON goes; nowhere by default.
    type: path
    env:
      - name: MOORAGE_REPORT_FILE
    ini:
      - section: moorage_report
        key: report_file
  limit_file:
    description: Where the names of the failed hosts go, one a line, for C(--limit @FILE). Empty
      if no host failed.
    type: path
    env:
      - name: MOORAGE_LIMIT_FILE
    ini:
      - section: moorage_report
        key: limit_file
"""

import json
from pathlib import Path

from ansible.plugins.callback import CallbackBase

MODULE = "moorage.go.toolchain"
KEPT = ("version", "previous", "result", "stage", "seconds")


class Report:
    """What a run did: plays with their batches and hosts."""

    def __init__(self):
        self.batches = []
        self.hosts = {}
        self.everybody = set()

    def begin(self, play, batch, everybody):
        """Note that a batch of a play begins."""
        self.batches.append({"play": play, "hosts": list(batch)})
        self.everybody.update(everybody)

    def note(self, host, *, outcome, value, reason=""):
        """Note a result of a host; the first failure of a host stays."""
        entry = self.hosts.setdefault(host, {"batch": len(self.batches), "outcome": "unchanged"})
        if entry["outcome"] in ("failed", "unreachable"):
            return
        if outcome != "unchanged":
            entry["outcome"] = outcome
        entry.update({name: value[name] for name in KEPT if name in value})
        if reason:
            entry["reason"] = reason

    @property
    def failed(self):
        """The hosts that failed, sorted."""
        bad = ("failed", "unreachable")
        return sorted(host for host, entry in self.hosts.items() if entry["outcome"] in bad)

    @property
    def not_reached(self):
        """The hosts that no batch came to, sorted."""
        return sorted(self.everybody.difference(*(batch["hosts"] for batch in self.batches)))

    def as_dict(self):
        """Return the report as JSON has it."""
        return {
            "batches": self.batches,
            "hosts": self.hosts,
            "failed": self.failed,
            "not_reached": self.not_reached,
        }

    def lines(self):
        """Return the report for people."""
        lines = []
        for number, batch in enumerate(self.batches, start=1):
            outcomes = [
                self.hosts[host]["outcome"] for host in batch["hosts"] if host in self.hosts
            ]
            counts = [
                f"{outcomes.count(word)} {word}"
                for word in ("changed", "unchanged", "failed", "unreachable")
                if word in outcomes
            ]
            size = f"{len(batch['hosts'])} host{'s' if len(batch['hosts']) != 1 else ''}"
            lines.append(f"batch {number}  {size}: {', '.join(counts) or 'nothing done'}")
        for host in self.failed:
            entry = self.hosts[host]
            stage = f"{entry['stage']}: " if entry.get("stage") else ""
            lines.append(f"isolated  {host}: {stage}{entry.get('reason', '')}")
        if self.not_reached:
            lines.append(f"not reached  {len(self.not_reached)} hosts keep what they had")
        return lines


class CallbackModule(CallbackBase):
    """The callback plugin."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "moorage.go.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.report = Report()

    def v2_playbook_on_start(self, playbook):
        """Begin a report for each playbook."""
        self.report = Report()

    def v2_playbook_on_play_start(self, play):
        """Note a batch: Ansible announces the play anew for each."""
        variables = play.get_variable_manager().get_vars(play=play)
        self.report.begin(
            play.get_name(),
            variables.get("ansible_play_batch", ()),
            variables.get("ansible_play_hosts_all", ()),
        )

    def v2_runner_on_ok(self, result):
        """Note a success."""
        value = result._result
        outcome = "changed" if value.get("changed") else "unchanged"
        is_ours = result._task.action == MODULE
        self.report.note(result._host.get_name(), outcome=outcome, value=value if is_ours else {})

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """Note a failure."""
        if not ignore_errors:
            value = result._result
            self.report.note(
                result._host.get_name(),
                outcome="failed",
                value=value,
                reason=str(value.get("msg", "")),
            )

    def v2_runner_on_unreachable(self, result):
        """Note that a host did not answer."""
        reason = str(result._result.get("msg", ""))
        self.report.note(result._host.get_name(), outcome="unreachable", value={}, reason=reason)

    def v2_playbook_on_stats(self, stats):
        """Print and write the report."""
        self._display.banner("MOORAGE REPORT")
        for line in self.report.lines():
            self._display.display(line)
        if self.get_option("report_file"):
            text = json.dumps(self.report.as_dict(), indent=1, sort_keys=True)
            Path(self.get_option("report_file")).write_text(text + "\n")
        if self.get_option("limit_file"):
            lines = "".join(f"{host}\n" for host in self.report.failed)
            Path(self.get_option("limit_file")).write_text(lines)
