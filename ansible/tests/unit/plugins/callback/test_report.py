"""What the report says."""

from __future__ import annotations

from ansible_collections.moorage.go.plugins.callback.report import Report


def halted():
    report = Report()
    report.begin("Roll out", ["a"], ["a", "b", "c", "d"])
    report.note("a", outcome="changed", value={"version": "go1.99.1", "irrelevant": 1})
    report.note("a", outcome="unchanged", value={})
    report.begin("Roll out", ["b", "c"], ["a", "b", "c", "d"])
    report.note("b", outcome="failed", value={"stage": "tested"}, reason="the hook failed")
    report.note("b", outcome="failed", value={"stage": ""}, reason="left out")
    report.note("c", outcome="unreachable", value={}, reason="no answer")
    return report


def test_lines_name_batches_failures_and_who_was_not_reached():
    assert halted().lines() == [
        "batch 1  1 host: 1 changed",
        "batch 2  2 hosts: 1 failed, 1 unreachable",
        "isolated  b: tested: the hook failed",
        "isolated  c: no answer",
        "not reached  1 hosts keep what they had",
    ]


def test_the_first_failure_of_a_host_stays():
    value = halted().as_dict()
    assert value["failed"] == ["b", "c"]
    assert value["not_reached"] == ["d"]
    assert value["hosts"]["b"] == {
        "batch": 2,
        "outcome": "failed",
        "stage": "tested",
        "reason": "the hook failed",
    }
    assert value["hosts"]["a"] == {"batch": 1, "outcome": "changed", "version": "go1.99.1"}
