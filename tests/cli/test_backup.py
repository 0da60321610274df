"""`moorage backup` and `moorage restore` as commands: from disk and from S3, into S3."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.storage.s3client import S3Client, S3Place
from tests.e2e.process import Site
from tests.e2e.warm import Warm
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.s3 import FakeS3
from tests.shapes import SECRETS_KEY, Shape

pytestmark = pytest.mark.both_shapes
TENANT = "acme"
MODULES = [module(f"example.com/m{n}", "v1.0.0", padding_bytes=n << 18) for n in range(4)]


@pytest.fixture
def upstream() -> Iterator[FakeGoproxy]:
    with FakeGoproxy(MODULES) as proxy:
        yield proxy


def in_bucket(place: S3Place) -> dict[str, Any]:
    return {
        "storage__url": f"s3://{place.bucket}/{place.prefix}",
        "storage__s3__endpoint": place.endpoint,
        "storage__s3__region": place.region,
        "storage__s3__access_key": place.access_key,
        "storage__s3__secret_key": place.secret_key,
    }


def site_of(folder: Path, database: str | None, more: dict[str, Any]) -> Site:
    folder.mkdir()
    shape = {} if database is None else {"database_url": database}
    return Site.new(
        folder,
        network__allow=["127.0.0.0/8"],
        network__tenant_hosts=["127.0.0.1"],
        storage__min_free_percent=0,
        **{"secrets_key": SECRETS_KEY, **shape, **more},
    )


def path_of(one: Module) -> str:
    return f"/goproxy/{TENANT}/{one.path}/@v/{one.version}.zip"


def fill(site: Site, warm: Warm, upstream: FakeGoproxy) -> None:
    """Make a tenant with a log that has records of all modules."""
    private = ("route", "add", "example.com", upstream.url, "--tenant", TENANT, "--private")
    for arguments in (
        ("tenant", "create", TENANT, "--default", "allow", "--anonymous-read", "--no-route"),
        private,
        ("sumdb", "create", "--tenant", TENANT),
    ):
        ended = warm.run(site, *arguments)
        assert ended.code == 0, ended
    with warm.serve(site) as server:
        for one in MODULES:
            assert server.get(path_of(one)).body == one.zip
    for one in MODULES:
        assert (
            warm.run(
                site, "sumdb", "prefetch", "--tenant", TENANT, f"{one.path}@{one.version}"
            ).code
            == 0
        )


def test_what_is_restored_into_s3_is_complete(
    shape: Shape,
    warm: Warm,
    s3: FakeS3,
    upstream: FakeGoproxy,
    tmp_path: Path,
    two_databases: tuple[str | None, str | None],
) -> None:
    """From the disk with SQLite, from S3 with PostgreSQL; always into S3."""
    own = in_bucket(s3.place("own")) if shape is Shape.POSTGRESQL else {}
    here = site_of(tmp_path / "here", two_databases[0], own)
    assert warm.run(here, "migrate").code == 0
    fill(here, warm, upstream)
    upstream.stop()  # what comes back comes from the backup
    backups = ("--store", str(tmp_path / "backups"))
    made = warm.run(here, "backup", "create", *backups, "--json")
    assert (made.code, made.json["lacking"]) == (0, []), made
    assert made.json["blobs"] > 0

    place = s3.place("restored")
    restored_site = site_of(tmp_path / "restored_site", two_databases[1], in_bucket(place))
    restored = warm.run(restored_site, "restore", *backups, "--json", seconds=120)
    assert (restored.code, restored.json["clean"]) == (0, True), restored
    assert (restored.json["blobs"], restored.json["missing"]) == (made.json["blobs"], [])
    for arguments in (("fsck", "--deep"), ("sumdb", "verify", "--all"), ("audit", "verify")):
        ended = warm.run(restored_site, *arguments)
        assert ended.code == 0, ended
    stored = [one.key for one in S3Client(place).walk("")]
    assert sum(key.startswith("blobs/") for key in stored) == made.json["blobs"]
    assert any(key.startswith("heads/") and key.endswith(".head") for key in stored)
    with warm.serve(restored_site) as server:
        for one in MODULES:
            assert server.get(path_of(one)).body == one.zip
        assert server.get("/readyz").json["notes"] == {}


def test_a_store_in_use_is_no_target_unless_it_is_said_to_be_the_lost_ones(
    warm: Warm,
    s3: FakeS3,
    upstream: FakeGoproxy,
    tmp_path: Path,
    two_databases: tuple[str | None, str | None],
) -> None:
    place, others = s3.place("own"), s3.place("others")
    here = site_of(tmp_path / "here", two_databases[0], in_bucket(place))
    assert warm.run(here, "migrate").code == 0
    fill(here, warm, upstream)
    backups = ("--store", str(tmp_path / "backups"))
    assert warm.run(here, "backup", "create", *backups).code == 0
    S3Client(others).put("marks/database.id", b"f" * 32)
    foreign = site_of(tmp_path / "foreign", two_databases[1], in_bucket(others))
    refused = warm.run(foreign, "restore", *backups)
    assert (refused.code, "belongs to another database" in refused.err) == (1, True), refused
    same = site_of(tmp_path / "same", two_databases[1], in_bucket(place))
    refused = warm.run(same, "restore", *backups)
    assert (refused.code, "add --same-store" in refused.err) == (1, True), refused
    assert not same.data_dir.exists()
    restored = warm.run(same, "restore", *backups, "--same-store", "--json", seconds=120)
    assert (restored.code, restored.json["clean"]) == (0, True), restored
    assert warm.run(same, "fsck", "--deep").code == 0


def test_a_restore_without_the_key_needs_an_operators_word(
    shape: Shape,
    warm: Warm,
    tmp_path: Path,
    two_databases: tuple[str | None, str | None],
) -> None:
    here = site_of(tmp_path / "here", two_databases[0], {})
    for arguments in (
        ("migrate",),
        ("tenant", "create", TENANT),
        ("sumdb", "create", "--tenant", TENANT),
    ):
        assert warm.run(here, *arguments).code == 0
    backups = ("--store", str(tmp_path / "backups"))
    assert warm.run(here, "backup", "create", *backups).code == 0

    other = {"secrets_key": base64.b64encode(b"K" * 32).decode()}
    restored_site = site_of(tmp_path / "restored_site", two_databases[1], other)
    if shape is Shape.SQLITE:  # and the refused one is put right afterwards
        refused = warm.run(restored_site, "restore", *backups)
        assert refused.code == 1
        assert "is restored, and not checked yet" in refused.err
        assert "opens none of the 1 secret in the database" in refused.err
        assert warm.run(restored_site, "fsck").code == 1
        accepted = warm.run(restored_site, "migrate", "--new-secrets-key")
        assert accepted.code == 0
        assert "name what it does not open" in accepted.err
    else:
        restored = warm.run(restored_site, "restore", *backups, "--new-secrets-key", "--json")
        assert restored.code == 0, restored
        assert restored.json["unopened_secrets"] != []
    assert warm.run(restored_site, "fsck").code == 0
    assert "does not open 1 secrets" in warm.run(restored_site, "doctor").out
