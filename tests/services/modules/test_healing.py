"""F90: a module's blob that was damaged on disk is out of reach, and is fetched again."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.digest import Digest
from app.core.errors import BlobDamagedError, BlobMissingError, UpstreamError, VerificationError
from app.db.generation import bump_generation, current_generation
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import module, module_zip
from tests.services.bench import (
    audited,
    blob_path,
    count_of,
    flipped,
    quarantined,
    run_sql,
    spoil,
    stored,
)
from tests.services.modules.bench import INFO, MOD, ZIP, Bench

NAME, V = "example.com/x", "v1.0.0"
X = module(NAME, V, {"x.go": b"package x\n", "data": b"0123456789" * 500})
ZIP_PATH = f"/{NAME}/@v/{V}.zip"
DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: path.unlink(),
    "empty": lambda path: spoil(path, b""),
    "truncated": lambda path: spoil(path, X.zip[:-1]),
    "flipped": lambda path: spoil(path, flipped(X.zip)),
}


@pytest.fixture
async def one(bench: Bench, fake: FakeGoproxy) -> Bench:
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.ask(ZIP, NAME, V)
    fake.forget()
    return bench


DIGEST = Digest.of(X.zip)


async def found_out(bench: Bench) -> None:
    """Have the damage noticed, as sending does, and wait for the repair."""
    with pytest.raises((BlobDamagedError, BlobMissingError)):
        await bench.zip_of(NAME, V)
    assert await bench.repair.suspect(DIGEST, len(X.zip), "test")
    await asyncio.gather(*bench.repair._running)


async def test_F90_healing_ends_the_refusals_of_while_the_blob_was_damaged(
    one: Bench, fake: FakeGoproxy
) -> None:
    """Upstream said 404 meanwhile: a process may keep that for its generation, which must end."""
    spoil(blob_path(one.services, DIGEST), flipped(X.zip))
    fake.fault(ZIP_PATH, Fault.status(404))
    await found_out(one)
    damaged = await one.services.shared.db.read(current_generation)
    fake.clear_faults()
    one.seconds.seconds += 3600
    assert await one.zip_of(NAME, V) == X.zip
    assert await one.services.shared.db.read(current_generation) > damaged


@pytest.mark.parametrize("damage", DAMAGE)
async def test_F90_a_damaged_zip_is_never_given_out_and_is_fetched_again(
    one: Bench, fake: FakeGoproxy, damage: str
) -> None:
    DAMAGE[damage](blob_path(one.services, DIGEST))
    await found_out(one)
    assert fake.hits == {ZIP_PATH: 1}
    assert await one.zip_of(NAME, V) == X.zip
    [row] = await one.zips()
    assert (row.h1, row.damaged) == (X.h1, False)
    assert len(await audited(one.services, "blob.damage")) == 1
    assert len(quarantined(one.services)) == (0 if damage == "deleted" else 1)


async def test_F90_while_upstream_is_down_it_stays_out_of_reach_and_heals_when_next_asked_for(
    one: Bench, fake: FakeGoproxy
) -> None:
    spoil(blob_path(one.services, DIGEST), flipped(X.zip))
    fake.stop()
    await found_out(one)
    assert [r.damaged for r in await one.zips()] == [True]
    with pytest.raises(UpstreamError):
        await one.ask(ZIP, NAME, V)
    fake.start()
    assert await one.zip_of(NAME, V) == X.zip
    assert [r.damaged for r in await one.zips()] == [False]


async def test_F74_F90_what_upstream_has_changed_meanwhile_does_not_take_its_place(
    one: Bench, fake: FakeGoproxy
) -> None:
    before = count_of("moorage_module_conflicts_total")
    spoil(blob_path(one.services, DIGEST), flipped(X.zip))
    fake.put(module(NAME, V, {"x.go": b"package x // evil\n"}))
    await found_out(one)
    with pytest.raises(VerificationError, match="the first value counts for ever"):
        await one.ask(ZIP, NAME, V)
    [row] = await one.zips()
    assert (row.h1, row.damaged) == (X.h1, True)
    assert stored(one.services) == set()
    assert await one.count("module_conflicts") == 1
    assert len(await audited(one.services, "module.refuse")) == 1
    assert count_of("moorage_module_conflicts_total") > before
    fake.put(X)
    assert await one.zip_of(NAME, V) == X.zip


async def test_F90_a_repacked_zip_with_the_same_h1_takes_its_place(
    one: Bench, fake: FakeGoproxy
) -> None:
    files = {"x.go": b"package x\n", "data": b"0123456789" * 500, "go.mod": X.mod}
    repacked = module_zip(NAME, V, files, stored=True)
    spoil(blob_path(one.services, DIGEST), b"")
    fake.put_raw(ZIP_PATH, repacked)
    await found_out(one)
    assert await one.zip_of(NAME, V) == repacked
    assert [r.h1 for r in await one.zips()] == [X.h1]


async def test_F90_equal_bytes_of_two_origins_are_healed_for_both(
    one: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(X)
    await one.tenant("globex", second)
    await one.ask(ZIP, NAME, V, tenant="globex")
    spoil(blob_path(one.services, DIGEST), flipped(X.zip))
    await found_out(one)
    for tenant in ("acme", "globex"):
        assert await one.zip_of(NAME, V, tenant=tenant) == X.zip


async def test_F90_an_origin_without_a_route_keeps_no_other_from_being_healed(
    one: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(X)
    await one.tenant("globex", second)
    await one.ask(ZIP, NAME, V, tenant="globex")
    await one.change_route("acme", off=True)
    await one.services.shared.watch.poll()
    spoil(blob_path(one.services, DIGEST), flipped(X.zip))
    await found_out(one)
    assert not fake.requests
    assert await one.zip_of(NAME, V, tenant="globex", fetch=False) == X.zip


async def test_a_blob_whose_route_is_gone_waits_for_one(one: Bench, fake: FakeGoproxy) -> None:
    await one.change_route("acme", off=True)
    blob_path(one.services, DIGEST).unlink()
    await found_out(one)
    assert not fake.requests
    await one.change_route("acme", off=False)
    await one.services.shared.watch.poll()
    assert await one.repair.heal(DIGEST) is None
    assert await one.zip_of(NAME, V) == X.zip


async def test_a_blob_whose_name_has_become_private_is_not_fetched_in_public(
    one: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    await one.tenant("globex")
    await one.route("globex", NAME, second, private=True)
    await one.services.shared.watch.poll()
    blob_path(one.services, DIGEST).unlink()
    assert await one.repair.suspect(DIGEST, len(X.zip), "test")
    await asyncio.gather(*one.repair._running)
    assert not fake.requests


async def test_F90_a_large_go_mod_heals_too(bench: Bench, fake: FakeGoproxy) -> None:
    large = module(NAME, V, go_mod=X.mod + b"// " + b"x" * 100_000 + b"\n")
    fake.put(large)
    await bench.tenant("acme", fake)
    await bench.ask(MOD, NAME, V)
    digest = Digest.of(large.mod)
    spoil(blob_path(bench.services, digest), flipped(large.mod))
    with pytest.raises(BlobDamagedError):
        await bench.zip_of(NAME, V, kind=MOD)
    await bench.repair.suspect(digest, len(large.mod), "test")
    await asyncio.gather(*bench.repair._running)
    assert await bench.zip_of(NAME, V, kind=MOD) == large.mod


async def test_a_small_file_that_was_damaged_in_the_database_is_not_given_out(
    one: Bench, fake: FakeGoproxy
) -> None:
    await one.ask(INFO, NAME, V)
    statement = "update module_files set body = x'7b7d' where kind = 'info'"
    await run_sql(one.services, statement)
    await one.services.shared.db.write(bump_generation)  # what the process recorded is known, else
    with pytest.raises(VerificationError, match="was found damaged"):
        await one.ask(INFO, NAME, V)


@pytest.mark.parametrize("fetch", [True, False], ids=["go", "disable-module-fetch"])
async def test_F103_a_marked_zip_whose_bytes_are_back_is_served_without_upstream(
    one: Bench, fake: FakeGoproxy, fetch: bool
) -> None:
    """A blob folder that was mounted late, or files that were put back from a backup."""
    path = blob_path(one.services, DIGEST)
    away = path.with_suffix(".away")
    path.rename(away)
    fake.stop()
    await found_out(one)
    assert [r.damaged for r in await one.zips()] == [True]
    away.rename(path)
    resolved = await one.ask(ZIP, NAME, V, fetch=fetch)
    assert resolved.file is not None
    assert await one.zip_of(NAME, V) == X.zip
    assert [r.damaged for r in await one.zips()] == [False]
    assert len(await audited(one.services, "blob.whole")) == 1
