"""What an installed package holds."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_the_application_and_its_migrations_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = ZipFile(wheel).namelist()
    assert {"app/cli/__init__.py", "app/upstream/google_linux_signing_key.asc"} <= set(names)
    assert any(name.startswith("app/_migrations/versions/") for name in names)
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"app"}
