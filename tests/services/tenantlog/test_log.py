"""A tenant's own log: one record for a version, one timeline, whatever happens meanwhile."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core import record as records
from app.core import tlog
from app.core.errors import (
    DeniedError,
    StorageError,
    UnknownError,
    VerificationError,
)
from app.core.note import open_note
from app.core.notekey import parse_skey, parse_vkey
from app.core.principal import ANONYMOUS, OPERATOR, Principal, Scope
from app.core.tile import Tile, parse_tile_path
from app.services.secrets import SecretBox
from tests.fakes.timeline import Timeline
from tests.services.publiclog.bench import V1, audited, sums
from tests.services.publiclog.goclient import GoClient
from tests.services.tenantlog.owner import Owner, process

MakeOwner = Callable[[], Owner]
ROOT = Path(__file__).parents[3]
# The edges of a tile, and a full one with more after it.
SIZES = [1, 2, 3, 7, 255, 256, 257, 300]


@pytest.mark.both_shapes
async def test_a_log_is_made_once_and_named_by_the_settings(owner: Owner) -> None:
    log = await owner.log()
    assert (log.name, log.size, log.retired) == ("sum.corp.example/acme", 0, False)
    assert parse_vkey(log.vkey).name == log.name
    assert open_note(log.head, [parse_vkey(log.vkey)]).text.splitlines()[1] == "0"
    assert await owner.log() == log == await owner.logs.of("acme")
    other = await owner.log("other")
    assert (other.name, other.vkey == log.vkey) == ("sum.corp.example/other", False)
    assert [row.object for row in await audited(owner.db, "sumdb.create")] == [
        "log:sum.corp.example/acme",
        "log:sum.corp.example/other",
    ]


async def test_a_pattern_without_the_tenant_numbers_the_logs(
    database_url: str, tmp_path: Path
) -> None:
    with process(database_url, tmp_path, "sum.corp.example") as owner:
        names = [(await owner.log(tenant)).name for tenant in ("a", "b", "c")]
    assert names == ["sum.corp.example", "sum.corp.example-2", "sum.corp.example-3"]


async def test_only_admins_of_the_tenant_make_and_mend_its_log(owner: Owner) -> None:
    await owner.log()
    other = Principal("token:x", frozenset({Scope.ADMIN}), tenant="other")
    for who in (ANONYMOUS, other):
        for denied in (
            owner.logs.of("acme", who),
            owner.logs.create("acme", who),
            owner.recovery.recover("acme", who, accept=True),
        ):
            with pytest.raises(DeniedError):
                await denied
    with pytest.raises(UnknownError):
        await owner.logs.create("nobody")


@pytest.mark.only_sqlite
async def test_the_private_key_is_sealed_at_rest(
    owner: Owner, database_url: str, tmp_path: Path
) -> None:
    log = await owner.log()
    await owner.put(log, 1)
    skey = SecretBox(b"k" * 32).open(log.seed, f"log:{log.name}")
    seed = parse_skey(skey).seed
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 2
    assert not any(seed in content or skey.encode() in content for content in files)
    assert str(log.seed) not in repr(log)


async def test_every_record_verifies_at_every_size_for_a_client_that_followed(owner: Owner) -> None:
    log = await owner.log()
    follower, clients = owner.client(log), list[GoClient]()
    for size in SIZES:
        await owner.put_up_to(log, size)
        new = owner.client(log)
        for number in {0, size // 2, size - 1}:
            for client in (follower, new):
                assert await client.lookup(f"example.com/m{number}", V1) == sums(number)
        assert new.latest.size == size
        clients.append(owner.client(log, new.latest))
    for client in clients:
        for number in (*range(0, SIZES[-1], 37), 254, 255, 256, SIZES[-1] - 1):
            assert await client.lookup(f"example.com/m{number}", V1) == sums(number)
        assert client.latest.size == SIZES[-1]
    assert (await owner.fsck(log)).findings == ()


async def test_tiles_and_heads_are_those_of_another_program_s_tree(owner: Owner) -> None:
    log, line = await owner.log(), Timeline()
    await owner.put_up_to(log, 300)
    for number in range(300):
        line.add(records.record_text(f"example.com/m{number}", V1, sums(number)).encode())
    for level, number, top in ((0, 0, 256), (0, 1, 44), (1, 0, 1)):
        whole = line.hashes(level, number)
        for width in range(1, top + 1):
            tile = Tile(8, level, number, width)
            assert await owner.logs.tile(log, tile) == whole[: 32 * width]
    text = open_note(await owner.logs.latest(log), [parse_vkey(log.vkey)]).text
    assert tlog.parse_tree(text) == tlog.Tree(300, tlog.Hash(line.root(300)))
    body = await owner.logs.tile(log, parse_tile_path("tile/8/data/001.p/44"))
    assert body == b"".join(text + b"\n" for text in line.texts[256:])


@pytest.mark.parametrize(
    "path",
    ["tile/8/0/000.p/4", "tile/8/0/000", "tile/8/1/000.p/1", "tile/8/data/000.p/4", "tile/7/0/000"],
)
async def test_a_tile_that_no_head_implies_is_unknown(owner: Owner, path: str) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 3)
    with pytest.raises(UnknownError):
        await owner.logs.tile(log, parse_tile_path(path))


async def test_a_record_that_is_not_there_is_unknown(owner: Owner) -> None:
    log = await owner.log()
    for asked in (
        owner.logs.lookup(log, "a.example/x", V1),
        owner.logs.prove(log, "a.example/x", V1),
    ):
        with pytest.raises(UnknownError, match=r"has no record of a\.example/x@v1\.0\.0"):
            await asked


async def test_a_proof_convinces_whoever_has_the_vkey_alone(owner: Owner) -> None:
    log = await owner.log()
    await owner.put_up_to(log, 300)
    proof = await owner.logs.prove(log, "example.com/m5", V1)
    lookup = records.parse_lookup(proof.lookup)
    tree = tlog.parse_tree(open_note(lookup.note, [parse_vkey(proof.vkey)]).text)
    tlog.check_record(proof.hashes, tree, lookup.number, tlog.leaf_hash(lookup.text.encode()))
    assert records.lines_for(lookup.text, "example.com/m5", V1) == sums(5)


@pytest.mark.both_shapes
async def test_F79_fifty_appends_at_once_in_two_processes_are_one_record(
    make_owner: MakeOwner,
) -> None:
    one, two = make_owner(), make_owner()
    log = await one.log()
    made = await asyncio.gather(*(x.put(log, 7) for _ in range(25) for x in (one, two)))
    assert {(record.record, record.module) for record in made} == {(0, "example.com/m7")}
    assert (await two.fresh(log)).size == 1
    assert (await one.fsck(log)).findings == ()


@pytest.mark.both_shapes
async def test_F79_two_processes_that_append_at_once_make_one_timeline(
    make_owner: MakeOwner,
) -> None:
    one, two = make_owner(), make_owner()
    log = await one.log()
    follower = two.client(log)

    async def put(owner: Owner, numbers: range) -> None:
        for number in numbers:
            await owner.put(log, number)
            await follower.lookup(f"example.com/m{number}", V1)

    await asyncio.gather(put(one, range(30)), put(two, range(15, 45)))
    assert (await one.fresh(log)).size == 45
    assert (await one.fsck(log)).findings == ()


@pytest.mark.both_shapes
async def test_F79_other_sums_for_a_version_are_refused_and_told(owner: Owner) -> None:
    log = await owner.log()
    await owner.put(log, 1)
    with pytest.raises(VerificationError, match="the first ones count for ever"):
        await owner.put(log, 1, sums(2))
    [row] = await audited(owner.db, "sumdb.refuse")
    assert row.object == "log:sum.corp.example/acme"
    assert sums(2).zip_h1 in row.detail
    assert await owner.client(log).lookup("example.com/m1", V1) == sums(1)


@pytest.mark.both_shapes
async def test_F79_of_two_sums_at_once_one_is_recorded(make_owner: MakeOwner) -> None:
    one, two = make_owner(), make_owner()
    log = await one.log()
    both = await asyncio.gather(
        one.put(log, 1, sums(1)), two.put(log, 1, sums(2)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in both) == ["LogRecord", "VerificationError"]


@pytest.mark.both_shapes
async def test_a_head_is_in_its_file_before_it_is_told(owner: Owner) -> None:
    """Else a crash and an older backup could make it unknown to everybody but a client."""
    log = await owner.log()

    def kept() -> int:
        tree = owner.heads.read(log.name)
        return -1 if tree is None else tree.size

    assert kept() == -1
    empty = await owner.logs.latest(log)
    assert kept() == 0
    for size, ask in enumerate((owner.logs.lookup, owner.logs.prove), 1):
        await owner.put(log, size)
        owner.heads.replace(log.name, empty)
        owner.logs._filed_heads.clear()
        await ask(log, "example.com/m1", V1)
        assert kept() == size


async def test_a_log_whose_head_can_t_be_kept_tells_none(owner: Owner) -> None:
    log = await owner.log()
    folder = owner.head_file(log).parent
    await owner.put(log, 1)
    folder.rename(folder.with_name("away"))
    with pytest.raises(StorageError):
        await owner.put(log, 2)
    owner.logs._filed_heads.clear()
    with pytest.raises(StorageError):
        await owner.logs.latest(log)
    folder.with_name("away").rename(folder)
    await owner.put(log, 2)
    assert await owner.client(log).lookup("example.com/m2", V1) == sums(2)


async def test_a_removed_tenant_s_log_keeps_its_name_and_answers(owner: Owner) -> None:
    log = await owner.log()
    await owner.put(log, 1)
    await owner.tenants.remove("acme", OPERATOR)
    left = await owner.fresh(log)
    assert (left.tenant_id, left.retired, left.size) == (None, True, 1)
    assert await owner.client(log).lookup("example.com/m1", V1) == sums(1)
    again = await owner.log()
    assert again.name == "sum.corp.example/acme-2"
    assert await owner.logs.of("acme") == again


@pytest.mark.slow
async def test_killed_appenders_leave_a_log_that_is_whole_and_one_timeline(
    owner: Owner, database_url: str, tmp_path: Path
) -> None:
    """T6: what was told to be done is there, whenever both processes were killed."""
    await owner.log()
    owner.db.close()
    module = "tests.services.tenantlog.crashes"
    command = [sys.executable, "-m", module, database_url, str(tmp_path)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "30", "1"], cwd=ROOT, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    seen = json.loads(done.stdout.splitlines()[-1])
    assert (seen["findings"], seen["lost"]) == ([], [])
    assert seen["told"] >= 30  # one each round at least
    assert seen["followed"] >= 30
