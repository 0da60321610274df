"""The real archives of Go, through real processes, to the real curl, sha256sum and gpg."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Ended, Server, Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.godev import FakeGodev

pytestmark = [
    pytest.mark.real,
    pytest.mark.on_disk,
    pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg is not installed"),
]

NEW, OLD = "go1.27.1.src.tar.gz", "go1.19.8.src.tar.gz"
BINARY = "go1.23.1.linux-amd64.tar.gz"
NEW_SUBKEY = "0E225917414670F4442C250DFD533C07C264648F"
EXPIRED_SUBKEY = "8461EFA0E74ABAE010DE66994EB27DB2A3B88B8B"
H1 = "h1:TmiC7kE4hHuA7UwTcrWUtL/Curn//Xchpqc+HHYEv2M="


def program(name: str) -> str:
    """Return the program's path; skip without it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def godev(real_upstream: Path) -> Iterator[FakeGodev]:
    with FakeGodev().from_directory(real_upstream) as server:
        yield server


@pytest.fixture
def real(tmp_path: Path, godev: FakeGodev, warm: Warm) -> Site:
    """An installation with the built-in key."""
    site = Site.new(tmp_path, godev, releases__select__pins=["1.19"])
    assert warm.run(site, "migrate").code == 0
    return site


def state(shown: Ended) -> tuple[str, str | None]:
    """Return a file's state, and by which subkey it is signed."""
    verdict = shown.json["verdict"]
    return shown.json["state"], verdict and verdict["subkey"]


@pytest.mark.slow
def test_a_sync_mirrors_verifies_and_fetches_nothing_twice(
    real: Site, godev: FakeGodev, warm: Warm
) -> None:
    plan = warm.run(real, "releases", "plan", "--json").json
    chosen = {f["filename"]: (f["to_fetch"], f["reason"]) for f in plan["files"]}
    assert set(chosen) == {NEW, OLD, BINARY}
    assert all(to_fetch for to_fetch, _ in chosen.values())
    assert "1.19" in chosen[OLD][1]
    assert plan["fetch_bytes"] == 35109201 + 73598519 + 26553006
    assert plan["unmatched_pins"] == []
    assert set(godev.hits) == {"/dl/"}

    first = warm.run(real, "releases", "sync", "--json")
    assert first.code == 1
    assert first.json["fetched"] == [OLD, NEW]
    assert [f["filename"] for f in first.json["failed"]] == [BINARY]
    assert "publishes no signature" in first.json["failed"][0]["reason"]
    assert state(warm.run(real, "releases", "show", NEW, "--json")) == ("verified", NEW_SUBKEY)
    assert state(warm.run(real, "releases", "show", OLD, "--json")) == ("verified", EXPIRED_SUBKEY)
    pending = warm.run(real, "releases", "show", BINARY, "--json").json
    assert (pending["state"], pending["offered"]) == ("pending-signature", False)
    assert pending["toolchain"]["h1"] == H1

    second = warm.run(real, "releases", "sync", "--json")
    assert second.json["present"] == [NEW, OLD]
    assert second.json["fetched"] == []
    assert {name: godev.hits[f"/go/{name}"] for name in (NEW, OLD, BINARY)} == {
        NEW: 1,
        OLD: 1,
        BINARY: 1,
    }

    allowed = real.but(releases__sha256_only=["tar.gz", "zip"])
    third = warm.run(allowed, "releases", "sync", "--json")
    assert (third.code, third.json["fetched"]) == (0, [BINARY])
    settled = warm.run(allowed, "releases", "show", BINARY, "--json").json
    assert (settled["state"], settled["offered"]) == ("sha256-only", True)
    assert settled["toolchain"] == {"version": "v0.0.1-go1.23.1.linux-amd64", "h1": H1}
    assert godev.hits[f"/go/{BINARY}"] == 1
    assert warm.run(allowed, "fsck", "--deep", "--json").json["findings"] == []


def curl(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run curl, which finds no configuration file of anybody."""
    return subprocess.run(
        [program("curl"), "--silent", "--show-error", "--fail", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sums_are_right(folder: Path, name: str) -> bool:
    """Whether `sha256sum -c NAME.sha256sum` says OK."""
    done = subprocess.run(
        [program("sha256sum"), "-c", f"{name}.sha256sum"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.returncode, done.stdout) == (0, f"{name}: OK\n")


@pytest.mark.slow
def test_curl_sha256sum_and_gpg_are_content_and_an_interrupted_download_resumes(
    real: Site, godev: FakeGodev, warm: Warm, tmp_path: Path
) -> None:
    here = tmp_path / "client"
    here.mkdir()
    with warm.serve(real) as server:
        for name in (NEW, f"{NEW}.sha256sum", f"{NEW}.asc"):
            assert curl(here, "-O", f"{server.url}/dl/{name}").returncode == 0
        assert sums_are_right(here, NEW)
        assert_gpg_is_content(here, NEW)

        # Interrupted by the clock; then one that goes on where it ended.
        (here / NEW).unlink()
        url = f"{server.url}/dl/{NEW}"
        cut = curl(here, "-O", "--limit-rate", "10M", "--max-time", "0.7", url)
        assert cut.returncode == 28
        kept = (here / NEW).stat().st_size
        assert 0 < kept < 35109201
        assert curl(here, "-C", "-", "-O", url).returncode == 0
        assert sums_are_right(here, NEW)
        resumed = [e for e in server.events if e.get("status") == 206]
        assert [e["bytes"] for e in resumed] == [35109201 - kept]
    assert godev.hits[f"/go/{NEW}"] == 1


def assert_gpg_is_content(folder: Path, name: str) -> None:
    """Verify with the built-in key in a fresh home, as a suspicious user would."""
    from app.upstream.gpg import builtin_key

    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    (folder / "key.asc").write_bytes(builtin_key())
    base = [program("gpg"), "--homedir", str(home), "--batch", "--no-autostart"]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
    verify = ["--status-fd", "1", "--verify", f"{name}.asc", name]
    for arguments in (["--import", "key.asc"], verify):
        done = subprocess.run(
            [*base, *arguments],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert "[GNUPG:] GOODSIG" in done.stdout
    assert f"[GNUPG:] VALIDSIG {NEW_SUBKEY}" in done.stdout


@pytest.fixture
def with_the_2024_key(tmp_path: Path, godev: FakeGodev, real_upstream: Path) -> Site:
    key = tmp_path / "key-2024.asc"
    shutil.copy(real_upstream / "google-linux-signing-key-2024.asc", key)
    key.chmod(0o644)
    return Site.new(tmp_path, godev, releases__keyring=key, releases__refresh_s=3600)


def refresh_here(server: Server, warm: Warm, export: Path) -> Ended:
    return warm.run(server.site, "releases", "keys", "refresh", str(export), "--json")


def refresh_there(server: Server, warm: Warm, export: Path) -> Ended:
    client = Site(server.site.folder, {"MOORAGE_TOKEN": server.token, "LC_ALL": "C.UTF-8"})
    return warm.run(
        client, "releases", "keys", "refresh", str(export), "--server", server.url, "--json"
    )


@pytest.mark.slow
@pytest.mark.parametrize("refresh", [refresh_here, refresh_there])
def test_F65_a_key_refresh_releases_what_was_quarantined_without_a_second_download(
    with_the_2024_key: Site, godev: FakeGodev, real_upstream: Path, warm: Warm, refresh
) -> None:
    with warm.serve(with_the_2024_key) as server:
        refused = server.get(f"/dl/{NEW}")
        assert refused.status == 502
        assert "quarantined" in refused.text
        assert "unknown signing subkey" in refused.text
        assert server.get(f"/dl/{OLD}").status == 200
        assert NEW not in server.get("/dl/SHA256SUMS").text
        assert state_there(server, NEW) == "quarantined"

        done = refresh(server, warm, real_upstream / "google-linux-signing-key-2026.asc")
        assert (done.code, done.json["released"]) == (0, [NEW])
        assert NEW_SUBKEY in done.json["added"]
        wait_until(lambda: server.get(f"/dl/{NEW}").status == 200, "the release", 10)
        assert NEW in server.get("/dl/SHA256SUMS").text
        assert state_there(server, NEW) == "verified"
    assert godev.hits[f"/go/{NEW}"] == 1


def state_there(server: Server, name: str) -> str:
    answer = server.get(f"/api/v1/releases/files/{name}").json
    return str(answer["state"])


def test_without_json_the_plan_and_the_sync_are_readable(real: Site, warm: Warm) -> None:
    plan = warm.run(real, "releases", "plan")
    columns = plan.out.splitlines()[0].split()
    assert (columns[0], columns[-1]) == ("FILE", "WHY")
    assert "3 of 3 files to fetch, 129.0 MiB" in plan.out
    shown = warm.run(real, "releases", "keys", "list", "--json").json
    assert NEW_SUBKEY in {key["fingerprint"] for key in shown["subkeys"]}
    assert json.loads(warm.run(real, "releases", "list", "--all", "--json").out)
