"""Install, verify, repair, roll back: what the program does when everybody is honest."""

from pathlib import Path

import pytest

from tests.fakes.faults import Fault
from tests.fakes.fleet import FakeFleet, has_zstd
from tests.fakes.signer import Signer
from tests.node.conftest import V1, V2, V3, V4, Node

needs_zstd = pytest.mark.skipif(not has_zstd(), reason="the zstd program is not installed")


def test_an_installation_without_a_key_checks_the_sums_of_dl(node: Node, fleet: FakeFleet):
    done = node.run("install", V1, "--server", fleet.base_url)
    assert (done.code, done.value["result"], done.stderr) == (0, "installed", "")
    assert node.current == V1
    assert node.path("bin/go").stat().st_mode & 0o777 == 0o755
    assert node.is_clean(V1)


def test_a_release_that_came_without_a_key_takes_over_the_signature(node: Node, fleet: FakeFleet):
    node.run("install", V1, "--server", fleet.base_url)
    assert node.run("list").value["snapshots"][0]["key"] == ""
    assert node.install(V1).value["result"] == "unchanged"
    [snapshot] = node.run("list").value["snapshots"]
    assert snapshot["key"] == fleet.signer.verifier.key_id
    assert (snapshot["channel"], snapshot["revision"]) == ("stable", 1)


@pytest.mark.parametrize("form", [pytest.param("zst", marks=needs_zstd), "tar.gz"])
def test_an_installation_by_manifest_has_the_archives_files(
    node: Node, fleet: FakeFleet, form: str
):
    fleet.put_release(V2, zst=form == "zst", extra_bytes=3 << 20)
    done = node.install(V2, "--form", form)
    assert (done.code, done.value["version"]) == (0, V2), done.stderr
    assert done.value["form"].startswith(form)
    assert {"network", "hashing", "writing", "durable", "smoke"} <= done.value["seconds"].keys()
    assert node.is_clean(V2)


def test_the_form_is_tar_gz_where_the_server_has_no_zst(node: Node):
    assert node.install(V1).value["form"] == "tar.gz"


@needs_zstd
def test_a_zst_that_was_made_anew_is_passed_over(node: Node, fleet: FakeFleet):
    fleet.put_release(V2, zst=True)
    fleet.set_file(V2, ".zst.chunks", b"0" * 32)
    assert node.install(V2, "--form", "zst").code == 1
    assert node.install(V2).value["form"] == "tar.gz"
    node.path("VERSION", V2).unlink()
    assert node.run("repair").code == 0


def test_the_archives_own_signature_counts_on_wish(
    node: Node, fleet: FakeFleet, signer: Signer, tmp_path: Path
):
    keyring, other = tmp_path / "keys.asc", tmp_path / "other.asc"
    keyring.write_bytes(signer.export)
    other.write_text("no keys")
    archive = fleet.answer_bytes(V1)
    fleet.extra[fleet.path(V1, ".asc")] = signer.sign(archive + b"!")
    assert "has signed the archive" in node.install(V1, "--gpg", str(keyring)).stderr
    fleet.extra[fleet.path(V1, ".asc")] = signer.sign(archive)
    assert node.install(V1, "--gpg", str(other)).code == 2
    assert node.current is None
    assert node.install(V1, "--gpg", str(keyring)).value["form"] == "tar.gz"
    assert node.is_clean(V1)


def test_a_second_installation_changes_nothing(node: Node, fleet: FakeFleet):
    node.install(V1)
    fleet.forget()
    done = node.install(V1)
    assert (done.code, done.value["result"]) == (0, "unchanged")
    assert fleet.hits.keys() == {"/dl/channels/stable/manifest"}


def test_three_snapshots_are_kept_and_older_ones_removed(node: Node, fleet: FakeFleet):
    for version in (V1, V2, V3, V4):
        fleet.put_release(version)
        last = node.install(version)
    assert last.value["pruned"] == [V1]
    assert node.is_clean(V2, V3, V4)


DAMAGES = {
    "flipped": ("changed", lambda path: path.write_bytes(b"!" + path.read_bytes()[1:])),
    "longer": ("changed", lambda path: path.write_bytes(path.read_bytes() + b"!")),
    "removed": ("missing", lambda path: path.unlink()),
    "mode": ("changed", lambda path: path.chmod(0o600)),
    "folder instead": ("changed", lambda path: (path.unlink(), path.mkdir())),
    "link instead": ("changed", lambda path: (path.unlink(), path.symlink_to("/etc/passwd"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_named_and_mended(node: Node, damage: str):
    node.install(V1)
    kind, spoil = DAMAGES[damage]
    spoil(node.path("src/fmt/print.go"))
    seen = node.run("verify", "--full")
    assert seen.code == 3
    differing = {name: list(seen.value[name]) for name in ("missing", "changed", "extra")}
    assert {name for name, paths in differing.items() if paths} == {kind}
    assert differing[kind] == ["src/fmt/print.go"]
    assert node.run("status").value["drift"] is True
    mended = node.run("repair")
    assert (mended.code, mended.value["result"]) == (0, "repaired"), mended.stderr
    assert node.run("status").value["drift"] is False
    assert node.is_clean(V1)


def test_a_release_that_the_channel_offers_no_more_is_mended(node: Node, fleet: FakeFleet):
    node.install(V1)
    for suffix in ("", ".tree", ".chunks", ".zst", ".zst.chunks"):
        fleet.fault(fleet.path(V1, suffix), Fault.status(404), times=None)
    node.path("VERSION").unlink()
    mended = node.run("repair")
    assert (mended.code, mended.value["result"]) == (0, "repaired"), mended.stderr
    assert node.is_clean(V1)


def test_repair_takes_several_damages_at_once(node: Node):
    node.install(V1)
    node.path("extra").mkdir()
    node.path("extra/file").touch()
    node.path("VERSION").unlink()
    node.path("bin").rename(node.root / "elsewhere")
    node.path("bin").symlink_to("../elsewhere")
    node.path("src").chmod(0o700)
    seen = node.run("verify")
    assert seen.code == 3
    assert seen.value["extra"] == ["extra", "extra/file"]
    assert seen.value["missing"] == ["VERSION", "bin/go", "bin/gofmt"]
    assert seen.value["changed"] == {"bin": "type", "src": "mode"}
    assert node.run("repair").code == 0
    assert (node.root / "elsewhere/go").exists()
    (node.root / "elsewhere/go").unlink()
    (node.root / "elsewhere/gofmt").unlink()
    (node.root / "elsewhere").rmdir()
    assert node.is_clean(V1)


def test_quick_sees_names_and_the_default_reads_only_what_was_touched(node: Node):
    node.install(V1)
    node.path("VERSION").write_bytes(node.path("VERSION").read_bytes()[::-1])
    assert node.run("verify", "--quick").code == 0
    seen = node.run("verify")
    assert (seen.code, seen.value["changed"], seen.value["hashed"]) == (
        3,
        {"VERSION": "content"},
        1,
    )
    assert node.run("repair").code == 0
    assert node.run("verify").value["hashed"] == 0


def test_rollback_needs_no_server(node: Node, fleet: FakeFleet):
    fleet.put_release(V2)
    node.install(V1)
    node.install(V2)
    fleet.stop()
    done = node.run("rollback")
    assert (done.code, done.value["version"], done.value["previous"]) == (0, V1, V2)
    assert node.current == V1
    fleet.start()


def test_rollback_passes_over_a_snapshot_that_has_drifted(node: Node, fleet: FakeFleet):
    for version in (V1, V2, V3):
        fleet.put_release(version)
        node.install(version)
    node.path("VERSION", V2).unlink()
    assert node.run("rollback").value["version"] == V1
    assert node.run("rollback", V2).code == 1
    assert node.current == V1
