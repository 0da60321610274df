"""Starting: what is refused, with which words and exit code, and what a first start leaves."""

import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.process import Server, Site, free_port, names, wait_until
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, source_name, src_archive
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer

NAME = archive_name("go1.99.1")


def refused(warm: Warm, site: Site, code: int) -> str:
    """Start, expect a refusal with that exit code, and return what it says."""
    ended = warm.run(site, "serve")
    assert ended.code == code, ended
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert "listens on" not in ended.err
    return ended.err


@pytest.mark.parametrize(
    ("variable", "text", "message"),
    [
        ("MOORAGE_PROT", "8080", "MOORAGE_PROT: unknown setting; did you mean MOORAGE_PORT?"),
        ("MOORAGE_PORT", "many", "MOORAGE_PORT"),
        ("MOORAGE_WORKERS", "2", "MOORAGE_PORT"),
        ("MOORAGE_RELEASES__PINNED_FINGERPRINTS", '["ABCD"]', "PINNED_FINGERPRINTS"),
        ("MOORAGE_RELEASES__KEYRING", "/absent/key.asc", "MOORAGE_RELEASES__KEYRING"),
        ("MOORAGE_NETWORK__ALLOW", "[]", "MOORAGE_RELEASES__INDEX_URL"),
        ("MOORAGE_CONFIG", "/absent/moorage.toml", "MOORAGE_CONFIG"),
        ("MOORAGE_HOST", "192.0.2.1", "can't listen on 192.0.2.1"),
    ],
)
def test_F101_a_bad_setting_is_refused_with_its_name_and_2(
    site: Site, warm: Warm, variable: str, text: str, message: str
) -> None:
    bad = Site(site.folder, {**site.environ, variable: text})
    assert message in refused(warm, bad, 2)


def test_the_real_program_refuses_an_unknown_setting_too(site: Site) -> None:
    ended = site.but(relases__parallel=1).run("serve")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("moorage: MOORAGE_RELASES__PARALLEL: unknown setting")
    assert "did you mean MOORAGE_RELEASES__PARALLEL?" in ended.err
    assert not site.data_dir.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_taken_port_is_told_with_what_to_do(site: Site, warm: Warm, workers: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", free_port()))
        other.listen()
        port = other.getsockname()[1]
        message = refused(warm, site.but(port=port, workers=workers), 2)
    assert f"can't listen on 127.0.0.1:{port}: Address already in use" in message
    assert "MOORAGE_PORT" in message


def test_a_second_server_on_the_port_of_the_first_is_refused(site: Site, warm: Warm) -> None:
    with warm.serve(site.but(port=free_port())) as first:
        refused(warm, first.site, 2)
        assert first.is_ready()


def test_a_newer_schema_is_refused_with_1_and_left_alone(site: Site, warm: Warm) -> None:
    assert warm.run(site, "migrate").code == 0
    path = site.data_dir / "moorage.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
        db.execute("UPDATE installation SET oldest_program = '9999'")
    for arguments in (("serve",), ("migrate",), ("releases", "list")):
        ended = warm.run(site, *arguments)
        assert ended.code == 1
        assert "9999" in ended.err
        assert "newer" in ended.err
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_F66_without_gpg_a_start_says_so(site: Site, warm: Warm, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    message = refused(warm, Site(site.folder, {**site.environ, "PATH": str(empty)}), 1)
    assert "gpg" in message
    assert "install" in message or "can't be run" in message or "not found" in message


def test_F66_what_was_verified_is_served_without_gpg(
    site: Site, warm: Warm, tmp_path: Path, put_release
) -> None:
    data = put_release()
    other = put_release("go1.98.1")
    with warm.serve(site) as server:
        assert server.get(f"/dl/{NAME}").body == data
    empty = tmp_path / "bin"
    empty.mkdir()
    lacking = Site(site.folder, {**site.environ, "PATH": str(empty)})
    with warm.serve(lacking, ready=False) as server:
        wait_until(lambda: "listens on" in server.err and answers(server), "the listener")
        assert server.get(f"/dl/{NAME}").body == data
        unready = server.get("/readyz")
        assert (unready.status, "gpg" in unready.json["checks"]["keyring"]) == (503, True)
        assert server.get(f"/dl/{archive_name('go1.98.1')}").status == 503
    with warm.serve(site) as server:
        assert server.get(f"/dl/{archive_name('go1.98.1')}").body == other


def answers(server: Server) -> bool:
    try:
        return server.get("/healthz").status == 200
    except OSError:
        return False


def test_an_unusable_key_export_is_refused(site: Site, warm: Warm, tmp_path: Path) -> None:
    other = tmp_path / "other.asc"
    other.write_text("not a key\n")
    assert "key" in refused(warm, site.but(releases__keyring=other), 1)


def test_F101_a_key_export_that_others_can_change_is_refused(
    site: Site, warm: Warm, tmp_path: Path
) -> None:
    (tmp_path / "keyring.asc").chmod(0o666)
    assert "MOORAGE_RELEASES__KEYRING" in refused(warm, site, 2)


def test_a_data_directory_that_is_a_file_is_refused(site: Site, warm: Warm) -> None:
    site.data_dir.write_text("")
    assert "MOORAGE_DATA_DIR" in refused(warm, site, 2)


def test_a_first_start_prints_one_token_that_is_stored_nowhere(
    site: Site, warm: Warm, put_release
) -> None:
    put_release()
    with warm.serve(site) as first:
        token = first.token
        assert first.err.count(token) == 1
        assert first.admin("POST", "/releases/sync").status == 202
        assert first.request("POST", "/api/v1/releases/sync").status == 401
        assert first.get(f"/dl/{NAME}").status == 200
        output = first.logs.with_suffix(".out").read_text()
    assert token not in output

    assert stat.S_IMODE(site.data_dir.stat().st_mode) == 0o700
    for path in site.data_dir.rglob("*"):
        assert path.is_dir() or token.encode() not in path.read_bytes(), path

    with warm.serve(site) as second:
        assert "Admin token" not in second.err
        answer = second.request(
            "POST", "/api/v1/releases/sync", {"Authorization": f"Bearer {token}"}
        )
        assert answer.status == 202


def test_nothing_in_the_data_directory_is_open_to_others(
    site: Site, warm: Warm, put_release
) -> None:
    put_release()
    with warm.serve(site) as server:
        assert server.get(f"/dl/{NAME}").status == 200
    for path in site.data_dir.rglob("*"):
        if path.parent == site.data_dir or "blobs" in path.parts:
            assert not path.stat().st_mode & stat.S_IWOTH, path
    blob_modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in (site.data_dir / "blobs").rglob("*")
        if path.is_file()
    }
    assert blob_modes == {0o440}


def test_the_greeting_tells_what_to_do_next(
    site: Site, warm: Warm, fake: FakeGodev, signer: Signer, tmp_path: Path
) -> None:
    data = src_archive("go1.98.7")
    fake.put_file(source_name("go1.98.7"), data, signature=signer.sign(data))
    with warm.serve(site) as server:
        assert f"{server.url}/dl/" in server.err
        # The command names a release that the index has, although nobody has read the index yet.
        (command,) = re.findall(r"curl -fOL .*", server.err)
        if shutil.which("curl"):
            subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, capture_output=True)
            assert (tmp_path / source_name("go1.98.7")).read_bytes() == data
        assert f"{server.url}/docs" in server.err
        assert server.get("/docs").status == 200
        assert "warning" not in server.err


def test_listening_for_everybody_is_warned_about(site: Site, warm: Warm) -> None:
    with warm.serve(site.but(host="0.0.0.0")) as server:
        assert "moorage: warning: 0.0.0.0 is not a loopback address" in server.err


def test_a_TOML_file_and_secrets_in_files_are_read(site: Site, warm: Warm, tmp_path: Path) -> None:
    toml = tmp_path / "moorage.toml"
    toml.write_text("drain_s = 0\n[releases]\nparallel = 2\n")
    database = tmp_path / "database-url"
    database.write_text(f"sqlite:///{tmp_path / 'elsewhere.db'}\n")
    database.chmod(0o600)
    configured = Site(
        site.folder,
        {**site.environ, "MOORAGE_CONFIG": str(toml), "MOORAGE_DATABASE_URL_FILE": str(database)},
    ).without("MOORAGE_DRAIN_S")
    with warm.serve(configured) as server:
        assert server.is_ready()
    assert (tmp_path / "elsewhere.db").exists()
    assert not (site.data_dir / "moorage.db").exists()


def test_variables_of_commands_do_not_disturb_the_service(site: Site, warm: Warm) -> None:
    variables = names(server="http://127.0.0.1:1", token="x", token_file="/absent")
    with warm.serve(Site(site.folder, {**site.environ, **variables})) as server:
        assert server.is_ready()


def test_readiness_needs_no_upstream(site: Site, warm: Warm, fake) -> None:
    fake.stop()
    with warm.serve(site) as server:
        assert server.get("/readyz").status == 200
        assert server.get(f"/dl/{NAME}").status in (502, 503)
        assert server.get("/dl/").status in (502, 503)


def test_files_are_made_under_any_umask(site: Site, warm: Warm, put_release) -> None:
    put_release()
    before = os.umask(0)
    try:
        with site.serve() as server:
            assert server.get(f"/dl/{NAME}").status == 200
    finally:
        os.umask(before)
    assert stat.S_IMODE(site.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((site.data_dir / "keys").stat().st_mode) == 0o700
