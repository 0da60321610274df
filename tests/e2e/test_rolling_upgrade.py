"""The code of the previous schema and this code on one PostgreSQL: both serve.

The earlier code comes from this repository's history; without a history the test is skipped.
"""

import io
import subprocess
import sys
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import text

from app.db.engine import Database
from app.db.schema import needed_revision
from tests.e2e.process import ROOT, Site
from tests.e2e.warm import Warm
from tests.shapes import SECRETS_KEY

_EARLIER_MAIN = (
    "import sys; sys.path.insert(0, sys.argv[1]); sys.argv = sys.argv[2:]; "
    "import app; assert app.__file__.startswith(sys.path[0]); from app.cli import main; main()"
)


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True).stdout


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """Return a folder with the code before the newest migration."""
    newest = f"migrations/versions/{needed_revision()}*"
    try:
        added = git("log", "--diff-filter=A", "--format=%H", "-1", "--", newest).decode().strip()
        packed = git("archive", f"{added}^", "app", "migrations") if added else b""
    except (OSError, subprocess.CalledProcessError):
        packed = b""
    if not packed:
        pytest.skip("there is no git history with the code before the newest migration")
    folder = tmp_path / "earlier"
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.slow
@pytest.mark.only_postgresql
def test_the_code_of_the_previous_schema_serves_beside_this_one(
    database_url: str, earlier: Path, site: Site, warm: Warm
) -> None:
    shared = site.but(database_url=database_url, secrets_key=SECRETS_KEY)
    before = (sys.executable, "-c", _EARLIER_MAIN, str(earlier))
    with warm.serve(shared) as new, shared.serve(under=before) as old:
        signed = {"Authorization": f"Bearer {new.token}", "Content-Type": "application/json"}
        for server, name in ((old, "by-old"), (new, "by-new")):
            tenant = {"name": name, "default": "allow"}
            made = server.request("POST", "/api/v1/tenants", signed, tenant)
            assert made.status == 201, made.text
        for server in (old, new):
            listed = server.request("GET", "/api/v1/tenants", signed).json["items"]
            assert {"by-old", "by-new"} <= {one["name"] for one in listed}
        with closing(Database(database_url)) as database, database.engine.begin() as connection:
            newest = {"newest": needed_revision()}
            connection.execute(text("UPDATE installation SET oldest_program = :newest"), newest)
        behind = old.get("/readyz")
        assert behind.status == 503
        assert "is too old" in behind.text
        assert new.get("/readyz").status == 200
