"""What the real go leaves in the home that the tests give it."""

from pathlib import Path

from tests.e2e.gocommand import Go


def test_a_go_command_writes_no_counters(tmp_path: Path) -> None:
    Go(tmp_path, "off").out("version")
    assert [path.name for path in (tmp_path / ".config/go/telemetry").iterdir()] == ["mode"]
