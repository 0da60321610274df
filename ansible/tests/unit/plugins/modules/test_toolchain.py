"""The module's arguments, and what it says of an empty root."""

from __future__ import annotations

import io
import json
import sys

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.moorage.go.plugins.modules import toolchain


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run_module(**arguments):
        output = io.StringIO()
        monkeypatch.setattr(sys, "stdout", output)
        everything = {"root": str(tmp_path / "root"), **arguments}
        with patch_module_args(everything), pytest.raises(SystemExit) as ended:
            toolchain.main()
        monkeypatch.undo()
        return ended.value.code, json.loads(output.getvalue())

    return run_module


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "say a version, or a channel and the vkey"),
        ({"version": "1.x"}, "is no Go release"),
        ({"version": "1.99.1"}, "no server is known"),
        ({"version": "1.99.1", "servers": ["http://mirror.example"]}, "without a pinned key"),
        ({"channel": "stable", "vkey": "x"}, "key"),
        ({"keep": 0}, "at least one snapshot"),
        ({"state": "rolled_back"}, "any of the following are missing: version, away_from"),
        ({"version": "1.99.1", "away_from": "1.99.1"}, "mutually exclusive"),
        ({"state": "verified"}, "no release is not installed"),
        ({"state": "rolled_back", "version": "1.99.1"}, "no good snapshot"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("is_check", [False, True])
def test_what_is_not_possible_fails_with_a_line(run, arguments, line, is_check):
    code, value = run(**arguments, _ansible_check_mode=is_check)
    assert code == 1
    assert value["failed"] is True
    assert line in value["msg"]


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "absent"},
        {"state": "absent", "version": "go1.99.1"},
        {"state": "rolled_back", "away_from": "go1.99.1"},
    ],
    ids=str,
)
def test_an_empty_root_is_absent_already(run, arguments):
    code, value = run(**arguments)
    assert (code, value["changed"], value["version"]) == (0, False, None)
    assert value["diff"]["before"] == value["diff"]["after"]
