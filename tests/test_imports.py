"""The import contracts of pyproject.toml refuse what no contract names, in files made later too."""

import ast
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FREE = {"cachetools"}
"""Packages that every layer above core may import."""

PLANTED = [
    ("app/upstream/sumdb.py", "import httpx"),
    ("app/upstream/http.py", "import httpcore"),
    ("app/upstream/gpg.py", "import gnupg"),
    ("app/metrics/hotpath.py", "import opentelemetry"),
    ("app/worker.py", "import sqlalchemy"),
    ("app/services/newmechanism.py", "import sqlalchemy"),
    ("app/services/modules/newfile.py", "import sqlalchemy"),
    ("app/db/newtable.py", "import alembic"),
    ("app/web/goproxy.py", "import fastapi"),
    ("app/web/newpages.py", "import httpx"),
    ("app/web/newfiles.py", "import starlette"),
    ("app/services/newanswers.py", "import fastapi"),
    ("app/main.py", "import pydantic"),
    ("app/core/newrule.py", "import pydantic"),
    ("app/core/semver.py", "import subprocess"),
    ("app/core/newclock.py", "import time"),
]

GROUPS = [
    ("app/services/publiclog/tiles.py", "app.services.modules.front"),
    ("app/services/tenantlog/head.py", "app.services.publiclog.relay"),
    ("app/services/modules/checks.py", "app.services.sumdb.front"),
    ("app/services/sumdb/newstatus.py", "app.services.tenants.rules"),
    ("app/services/policy.py", "app.services.authorization"),
    ("app/web/newlinks.py", "app.web.admin.paging"),
    ("app/core/digest.py", "app.logs"),
]


def _name(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def _lint(folder: Path) -> tuple[int, str]:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    options = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", "--no-logo"]
    done = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What lint-imports prints for a copy of app/ with every forbidden import planted."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "app", folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for path, line in [*PLANTED, *((path, f"import {module}") for path, module in GROUPS)]:
        with (folder / path).open("a") as file:
            file.write(f"\n{line}\n")
    (folder / "app/services/newgroup").mkdir()
    (folder / "app/services/newgroup/__init__.py").touch()
    status, output = _lint(folder)
    assert status == 1, output
    return output


@pytest.mark.parametrize(("path", "line"), PLANTED)
def test_a_package_is_imported_only_where_a_contract_names_the_file(
    report: str, path: str, line: str
) -> None:
    assert f"{_name(path)} -> {line.removeprefix('import ')} (l." in report


@pytest.mark.parametrize(("path", "module"), GROUPS)
def test_imports_point_down_between_layers_and_between_groups_of_services(
    report: str, path: str, module: str
) -> None:
    assert f"{_name(path)} -> {module} (l." in report


@pytest.mark.parametrize("name", ["newmechanism", "newanswers", "newgroup"])
def test_a_new_part_of_services_is_refused_until_a_line_of_the_contract_names_it(
    report: str, name: str
) -> None:
    _, _, unlisted = report.partition("The following modules are not listed as layers:")
    assert f"- app.services.{name}\n" in unlisted


def test_the_tree_itself_keeps_every_contract() -> None:
    status, output = _lint(ROOT)
    assert status == 0, output


def test_every_third_party_package_has_a_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    guarded = {
        package
        for contract in contracts["contracts"]
        for package in contract.get("protected_modules", ())
    }
    assert _packages() - guarded - FREE == set()


def _packages() -> set[str]:
    """Return the third-party packages that any file of app/ imports, inside functions too."""
    modules: set[str] = set()
    for path in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module)
    return {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"app"}
