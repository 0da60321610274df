"""Bringing in .info, .mod and .zip: checked before anything is kept, once, and for ever."""

import asyncio
import io
import zipfile
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from app.core.digest import Digest
from app.core.errors import (
    MoorageError,
    OverloadedError,
    UnknownError,
    UpstreamContentError,
    UpstreamError,
    VerificationError,
)
from app.core.logstate import LogState
from app.db import moduleconflicts
from app.db.engine import Session
from app.db.garbage import GarbageTable, is_marked
from app.db.generation import bump_generation
from app.db.modules import ModuleTable
from app.services.modules.checks import FileKey
from app.services.slots import Slots
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Entry, Module, info_of, module, module_zip
from tests.services.bench import audited, count_of, run_sql, staged, stored
from tests.services.modules.bench import INFO, LIST, MOD, ZIP, Bench, process

NAME, V = "example.com/x", "v1.0.0"
X = module(NAME, V)
ZIP_PATH = f"/{NAME}/@v/{V}.zip"
KINDS = [(INFO, X.info), (MOD, X.mod)]


@pytest.fixture
async def one(bench: Bench, fake: FakeGoproxy) -> Bench:
    fake.put(X)
    await bench.tenant("acme", fake)
    return bench


@pytest.mark.parametrize(("kind", "body"), KINDS)
async def test_a_small_file_is_fetched_once_and_alone(
    one: Bench, fake: FakeGoproxy, kind: str, body: bytes
) -> None:
    for _ in range(3):
        answer = await one.ask(kind, NAME, V)
        assert (answer.body, answer.fresh_s) == (body, None)
    # The other of the two is fetched ahead, once, and the zip never.
    await asyncio.gather(*one.front._versions.ahead)
    assert fake.hits == {f"/{NAME}/@v/{V}.info": 1, f"/{NAME}/@v/{V}.mod": 1}
    assert stored(one.services) == set()


async def test_a_zip_is_stored_with_the_hashes_that_go_sum_has(
    one: Bench, fake: FakeGoproxy
) -> None:
    assert await one.zip_of(NAME, V) == X.zip
    [row] = await one.zips()
    assert (row.h1, row.go_mod_h1, row.log_state) == (X.h1, X.mod_h1, "unverified")
    # Its .mod comes with it, so that the two are compared before either is kept.
    assert fake.hits == {ZIP_PATH: 1, f"/{NAME}/@v/{V}.mod": 1}
    await one.ask(MOD, NAME, V)
    assert {r.h1 for r in await one.rows() if r.kind is MOD} == {X.mod_h1}


@pytest.mark.parametrize("is_mod_stored", [True, False])
async def test_a_new_zip_takes_its_blob_from_a_dead_collector_of_garbage(
    one: Bench, *, is_mod_stored: bool
) -> None:
    digest, db, condemned = Digest.of(X.zip), one.services.shared.db, one.clock()
    await db.write(lambda s: GarbageTable(s).condemn([(digest, len(X.zip))], condemned))
    at = condemned + timedelta(days=2)
    await db.write(lambda s: GarbageTable(s).claim([digest], condemned_before=at, at=at))
    one.clock.advance(days=2, minutes=2)
    if is_mod_stored:
        await one.ask(MOD, NAME, V)
    assert await one.zip_of(NAME, V) == X.zip
    assert not await db.read(is_marked(digest))


async def test_a_zip_of_a_private_route_is_marked_so(bench: Bench, fake: FakeGoproxy) -> None:
    fake.put(X)
    await bench.tenant("acme", fake, private=True)
    await bench.ask(ZIP, NAME, V)
    assert [r.log_state for r in await bench.rows()] == ["private"] * 2


async def test_F74_what_the_log_refused_stays_refused(one: Bench) -> None:
    await one.ask(ZIP, NAME, V)
    [row] = await one.zips()
    states = (LogState.REFUSED, LogState.VERIFIED, LogState.UNVERIFIED)

    def settle(session: Session) -> list[bool]:
        return [ModuleTable(session).set_log_state(row, state) for state in states]

    assert await one.services.shared.db.write(settle) == [True, False, False]
    with pytest.raises(VerificationError, match="quarantined"):
        await one.ask(ZIP, NAME, V)


async def test_everything_stored_outlives_upstream_and_a_restart(
    tmp_path: Path, fake: FakeGoproxy
) -> None:
    fake.put(X)
    async with process(tmp_path) as before:
        await before.tenant("acme", fake)
        for kind in (INFO, MOD, ZIP):
            await before.ask(kind, NAME, V)
    fake.stop()
    async with process(tmp_path) as after:
        assert (await after.ask(INFO, NAME, V)).body == X.info
        assert (await after.ask(MOD, NAME, V)).body == X.mod
        assert await after.zip_of(NAME, V) == X.zip


async def test_a_large_go_mod_is_a_blob(bench: Bench, fake: FakeGoproxy) -> None:
    go_mod = X.mod + b"// " + b"x" * 100_000 + b"\n"
    large = module(NAME, V, go_mod=go_mod)
    fake.put(large)
    await bench.tenant("acme", fake)
    for _ in range(2):
        assert await bench.zip_of(NAME, V, kind=MOD) == go_mod
    assert len(stored(bench.services)) == 1


def put_zip(fake: FakeGoproxy, body: bytes) -> None:
    fake.put(X)
    fake.put_raw(ZIP_PATH, body)


def zipped(*extra: Entry, **options: object) -> bytes:
    files = {"go.mod": X.mod, "x.go": b"package x\n"}
    return module_zip(NAME, V, files, extra=extra, **options)  # type: ignore[arg-type]


AT = f"{NAME}@{V}/"


def lying(size: int) -> bytes:
    """Return a zip whose directory says that x.go has so many bytes."""
    data = bytearray(zipped(stored=True))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = size.to_bytes(4, "little")
    return bytes(data)


def renamed() -> bytes:
    """Return a zip whose local header names another file than its directory."""
    data = zipped(stored=True)
    return data.replace(b"x.go", b"y.go", 1)


BAD_ZIPS = [
    ("F46", b"<html>log in</html>"),
    ("F46", b""),
    ("F68", zipped(Entry(AT + "../../etc/passwd", b"x"))),
    ("F68", zipped(Entry("/etc/passwd", b"x"))),
    ("F68", zipped(Entry(AT + "a\\b", b"x"))),
    ("F68", zipped(Entry.symlink(AT + "link", "/etc/passwd"))),
    ("F69", zipped(Entry(AT + "x.go", b"package y\n"))),
    ("F69", zipped(Entry(AT + "X.go", b"package x\n"))),
    ("F69", zipped(prefix=f"{NAME}@v1.0.1/")),
    ("F69", zipped(prefix="example.com/y@v1.0.0/")),
    ("F69", zipped(Entry(AT + "sub/go.mod", b"module y\n"))),
    ("F69", zipped(Entry(AT + "GO.MOD", b"module y\n"))),
    ("F70", zipped() + b"junk"),
    ("F70", b"junk" + zipped()),
    ("F70", zipped() + zipped()),
    ("F70", lying(5)),
    ("F70", lying(1 << 31)),
    ("F70", renamed()),
    ("F41", zipped()[:-1]),
    ("F41", zipped()[: len(zipped()) // 2]),
    ("F73", module_zip(NAME, V, {"go.mod": b"no go.mod at all"})),
]


@pytest.mark.parametrize(
    "body", [pytest.param(body, id=f"{n}-{i}") for i, (n, body) in enumerate(BAD_ZIPS)]
)
async def test_a_zip_that_go_would_not_take_is_refused_and_leaves_nothing(
    bench: Bench, fake: FakeGoproxy, body: bytes
) -> None:
    put_zip(fake, body)
    await bench.tenant("acme", fake)
    with pytest.raises(UpstreamContentError) as caught:
        await bench.ask(ZIP, NAME, V)
    assert "127.0.0.1" not in str(caught.value)
    await bench.assert_untouched()
    fake.put_raw(ZIP_PATH, X.zip)
    assert await bench.zip_of(NAME, V) == X.zip


async def test_F71_a_bomb_is_stopped_at_the_limit(bench: Bench, fake: FakeGoproxy) -> None:
    data = bytearray(zipped(Entry(AT + "bomb", bytes(1 << 20))))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (501 << 20).to_bytes(4, "little")
    put_zip(fake, bytes(data))
    await bench.tenant("acme", fake)
    with pytest.raises(UpstreamContentError, match=r"unpack|large|limit|more than"):
        await bench.ask(ZIP, NAME, V)
    await bench.assert_untouched()


async def test_F72_a_zip_as_go_writes_it_with_data_descriptors_is_taken(
    bench: Bench, fake: FakeGoproxy
) -> None:
    class Unseekable(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, chunk: object) -> int:
            self.data += bytes(chunk)  # type: ignore[call-overload]
            return len(bytes(chunk))  # type: ignore[call-overload]

    out = Unseekable()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        archive.writestr(AT + "go.mod", X.mod)
        archive.writestr(AT + "x.go", b"package x\n" * 100)
    put_zip(fake, out.data)
    await bench.tenant("acme", fake)
    assert await bench.zip_of(NAME, V) == out.data


BAD_FILES = [
    ("F46", INFO, b"<html></html>"),
    ("F46", INFO, b""),
    ("F46", MOD, b"<!DOCTYPE html>"),
    ("F46", MOD, b"\0\0"),
    ("F73", INFO, info_of("v1.0.1")),
    ("F73", INFO, info_of(V, "2024-01-02T03:04:05z")),
    ("F73", INFO, info_of(V, "garbage")),
    ("F73", MOD, b""),
    ("F42", INFO, info_of(V) + b" " * (64 << 10)),
]


@pytest.mark.parametrize(
    ("kind", "body"), [pytest.param(k, b, id=f"{n}-{i}") for i, (n, k, b) in enumerate(BAD_FILES)]
)
async def test_a_file_that_is_not_what_was_asked_for_is_refused_and_leaves_nothing(
    one: Bench, fake: FakeGoproxy, kind: str, body: bytes
) -> None:
    fake.put_raw(f"/{NAME}/@v/{V}.{kind}", body)
    with pytest.raises(UpstreamContentError) as caught:
        await one.ask(kind, NAME, V)
    assert "127.0.0.1" not in str(caught.value)
    await one.assert_untouched()
    fake.put(X)
    fake.put_raw(f"/{NAME}/@v/{V}.{kind}", getattr(X, kind))
    assert (await one.ask(kind, NAME, V)).version == V


async def test_a_renamed_module_is_taken_by_a_public_route(bench: Bench, fake: FakeGoproxy) -> None:
    renamed = module(NAME, V, go_mod=b"module example.com/renamed\n")
    fake.put(renamed)
    await bench.tenant("acme", fake)
    assert (await bench.ask(MOD, NAME, V)).body == renamed.mod
    assert await bench.zip_of(NAME, V) == renamed.zip


async def test_F73_a_forks_go_mod_is_taken_by_a_private_route_that_says_so(
    bench: Bench, fake: FakeGoproxy
) -> None:
    fork = module(NAME, V, go_mod=b"module example.com/original\n")
    fake.put(fork)
    await bench.tenant("acme", fake)
    await bench.change_route("acme", private=True)
    with pytest.raises(UpstreamContentError, match="a private route with `forks`"):
        await bench.ask(MOD, NAME, V)
    await bench.change_route("acme", forks=True)
    assert (await bench.ask(MOD, NAME, V)).body == fork.mod
    assert await bench.zip_of(NAME, V) == fork.zip
    await bench.tenant("strict", fake)  # of the same upstream
    await bench.change_route("strict", private=True)
    with pytest.raises(UpstreamContentError, match="a private route with `forks`"):
        await bench.ask(MOD, NAME, V, tenant="strict")
    await bench.change_route("acme", forks=False)
    with pytest.raises(UpstreamContentError, match="a private route with `forks`"):
        await bench.ask(MOD, NAME, V)


WRONG_MOD = X.mod + b"\nrequire example.com/evil v1.0.0\n"


@pytest.mark.parametrize("first", [MOD, ZIP])
async def test_a_mod_that_is_not_the_zips_go_mod_is_refused_and_kept_as_evidence(
    one: Bench, fake: FakeGoproxy, first: str
) -> None:
    before = count_of("moorage_module_conflicts_total")
    if first is ZIP:  # which is kept alone only while upstream has no .mod
        fake.put_raw(f"/{NAME}/@v/{V}.mod", b"", 404)
        await one.ask(ZIP, NAME, V)
    fake.put_raw(f"/{NAME}/@v/{V}.mod", WRONG_MOD)
    if first is MOD:
        await one.ask(MOD, NAME, V)
    later = ZIP if first is MOD else MOD
    for _ in range(2):
        with pytest.raises(VerificationError, match=r"is not the go\.mod in"):
            await one.ask(later, NAME, V)
    await asyncio.gather(*one.front._versions.ahead)
    assert [r.kind for r in await one.rows() if r.kind is not INFO] == [first]
    assert len(stored(one.services)) == (1 if first is ZIP else 0)
    assert staged(one.services) == []
    assert await one.count("module_conflicts") == 1  # the same value twice is one row
    assert len(await audited(one.services, "module.refuse")) == 1
    assert count_of("moorage_module_conflicts_total") == before + 2


async def test_an_upstream_that_contradicts_itself_anew_each_time_leaves_so_much_evidence(
    one: Bench, fake: FakeGoproxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moduleconflicts, "MAX_SEEN", 3)
    fake.put_raw(f"/{NAME}/@v/{V}.mod", WRONG_MOD)
    await one.ask(MOD, NAME, V)
    for number in range(5):
        fake.put(module(NAME, V, {"x.go": f"package x // {number}\n".encode()}))
        with pytest.raises(VerificationError, match=r"is not the go\.mod in"):
            await one.ask(ZIP, NAME, V)
    await asyncio.gather(*one.front._versions.ahead)
    assert await one.count("module_conflicts") == 3
    assert len(await audited(one.services, "module.refuse")) == 3


async def test_F74_what_upstream_changes_later_is_not_looked_at(
    one: Bench, fake: FakeGoproxy
) -> None:
    for kind in (INFO, MOD, ZIP):
        await one.ask(kind, NAME, V)
    fake.put(module(NAME, V, {"x.go": b"package x // changed\n"}))
    assert await one.zip_of(NAME, V) == X.zip
    assert (await one.ask(MOD, NAME, V)).body == X.mod


@pytest.mark.parametrize("kind", [MOD, ZIP])
async def test_F74_a_recheck_that_finds_other_content_alarms_and_keeps_the_first(
    one: Bench, fake: FakeGoproxy, kind: str
) -> None:
    await one.ask(kind, NAME, V)
    asking = await one.asking()
    route = asking.of_tenant.routes[0]
    upstream = route.upstreams[0]
    key = FileKey(upstream.origin_id, NAME, V, kind)  # type: ignore[arg-type]
    source = one.upstreams.open(route, upstream, asking.policy, asking.of_tenant.tenant)
    assert (await one.files.recheck(key, source)).kind is kind
    changed = module(NAME, V, {"x.go": b"package x // changed\n"}, go_mod=X.mod + b"// changed\n")
    fake.put(changed)
    with pytest.raises(VerificationError, match="the first value counts for ever"):
        await one.files.recheck(key, source)
    assert await one.count("module_conflicts") == 1
    assert len(await audited(one.services, "module.refuse")) == 1
    await one.ask(kind, NAME, V)
    assert len(stored(one.services)) == (1 if kind is ZIP else 0)


async def test_a_recheck_takes_a_slot_of_its_tenant(one: Bench) -> None:
    await one.ask(MOD, NAME, V)
    asking = await one.asking()
    route = asking.of_tenant.routes[0]
    upstream = route.upstreams[0]
    source = one.upstreams.open(route, upstream, asking.policy, asking.of_tenant.tenant)
    one.files._slots = Slots(places=1)
    async with one.files._slots.fetch("acme", upstream.origin_id, source.slots):
        with pytest.raises(OverloadedError):
            await one.files.recheck(FileKey(upstream.origin_id, NAME, V, MOD), source)


async def test_a_zip_asked_for_first_is_compared_with_its_mod_before_either_is_kept(
    one: Bench, fake: FakeGoproxy
) -> None:
    fake.put_raw(f"/{NAME}/@v/{V}.mod", X.mod + b"\nrequire a.b/c v1.0.0\n")
    with pytest.raises(VerificationError, match="is not the go") as caught:
        await one.ask(ZIP, NAME, V)
    assert "first value" not in str(caught.value)
    assert await one.rows() == []
    fake.put_raw(f"/{NAME}/@v/{V}.mod", X.mod)
    assert await one.zip_of(NAME, V) == X.zip
    assert (await one.ask(MOD, NAME, V)).body == X.mod
    assert fake.hits[f"/{NAME}/@v/{V}.mod"] == 2


async def test_a_zip_is_not_kept_while_its_mod_can_t_be_had(one: Bench, fake: FakeGoproxy) -> None:
    fake.fault(f"/{NAME}/@v/{V}.mod", Fault.status(403), times=None)
    with pytest.raises(UpstreamError):
        await one.ask(ZIP, NAME, V)
    assert await one.rows() == []


async def test_F74_a_repacked_zip_is_the_same_content(one: Bench, fake: FakeGoproxy) -> None:
    await one.ask(ZIP, NAME, V)
    with zipfile.ZipFile(io.BytesIO(X.zip)) as archive:
        files = {name.removeprefix(AT): archive.read(name) for name in archive.namelist()}
    fake.put_raw(ZIP_PATH, module_zip(NAME, V, files, stored=True, backwards=True))
    asking = await one.asking()
    route = asking.of_tenant.routes[0]
    upstream = route.upstreams[0]
    key = FileKey(upstream.origin_id, NAME, V, ZIP)
    source = one.upstreams.open(route, upstream, asking.policy, asking.of_tenant.tenant)
    await one.files.recheck(key, source)
    assert await one.count("module_conflicts") == 0


@pytest.mark.parametrize("kind", [INFO, MOD, ZIP])
async def test_F38_many_at_once_are_one_fetch(one: Bench, fake: FakeGoproxy, kind: str) -> None:
    fake.latency_s = 0.05
    answers = await asyncio.gather(*(one.ask(kind, NAME, V) for _ in range(500)))
    assert len({(f.body, f.file and f.file.sha256) for f in answers}) == 1
    await asyncio.gather(*one.front._versions.ahead)
    mod = f"/{NAME}/@v/{V}.mod"
    ahead = {mod} if kind is ZIP else {f"/{NAME}/@v/{V}.info", mod}
    assert fake.hits == dict.fromkeys({f"/{NAME}/@v/{V}.{kind}", *ahead}, 1)


async def held(fake: FakeGoproxy, count: int = 1) -> None:
    await anyio.to_thread.run_sync(lambda: fake.wait_until(lambda: fake.stalled == count))


async def test_F36_F37_whoever_goes_away_cancels_nothing(one: Bench, fake: FakeGoproxy) -> None:
    fake.fault(ZIP_PATH, Fault.stall(after=10))
    tasks = [asyncio.ensure_future(one.ask(ZIP, NAME, V)) for _ in range(4)]
    await held(fake)
    tasks[0].cancel()
    tasks[2].cancel()
    fake.release()
    for task in (tasks[1], tasks[3]):
        assert (await task).version == V
    assert fake.hits[ZIP_PATH] == 1


async def test_F36_once_the_last_has_gone_the_fetch_still_ends(
    one: Bench, fake: FakeGoproxy
) -> None:
    fake.fault(ZIP_PATH, Fault.stall(after=10))
    task = asyncio.ensure_future(one.ask(ZIP, NAME, V))
    await held(fake)
    task.cancel()
    fake.release()
    await one.files._flight.aclose(cancel=False)
    fake.stop()
    assert await one.zip_of(NAME, V) == X.zip


async def test_F39_beyond_the_waiters_of_one_file_the_next_is_told_to_come_back(
    tmp_path: Path, fake: FakeGoproxy
) -> None:
    fake.put(X)
    async with process(tmp_path, max_waiters=20) as bench:
        await bench.tenant("acme", fake)
        fake.fault(f"/{NAME}/@v/{V}.info", Fault.delay_headers_until_released())
        tasks = [asyncio.ensure_future(bench.ask(INFO, NAME, V)) for _ in range(21)]
        # The one too many is told at once; all others have joined by then, and wait.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        await held(fake)
        fake.release()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(e) for e in ends if isinstance(e, Exception)] == [OverloadedError]


async def test_F39_beyond_the_files_in_the_queue_the_next_is_told_to_come_back(
    tmp_path: Path, fake: FakeGoproxy
) -> None:
    fake.put(X)
    fake.latency_s = 0.2
    async with process(tmp_path, max_queue=5) as bench:
        await bench.tenant("acme", fake)
        asked = [bench.ask(INFO, NAME, f"v1.{n}.0") for n in range(1, 7)]
        ends = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(e) for e in ends].count(OverloadedError) == 1
        assert [type(e) for e in ends].count(UnknownError) == 5
        assert (await bench.ask(INFO, NAME, V)).body == X.info


@pytest.mark.parametrize("kind", [INFO, ZIP])
async def test_F38_two_processes_bring_one_file_in_once(
    tmp_path: Path, fake: FakeGoproxy, kind: str
) -> None:
    fake.put(X)
    fake.latency_s = 0.1
    async with process(tmp_path) as one, process(tmp_path, owner="two/2/2") as two:
        await one.tenant("acme", fake)
        asked = [b.ask(kind, NAME, V) for b in (one, two) for _ in range(25)]
        answers = await asyncio.gather(*asked)
        assert len({(f.body, f.file and f.file.sha256) for f in answers}) == 1
        hits = fake.hits
        assert hits[f"/{NAME}/@v/{V}.{kind}"] == 1
        # A .mod is fetched ahead by each process that an .info came to, and by one of them in fact.
        assert set(hits) <= {f"/{NAME}/@v/{V}.{kind}", f"/{NAME}/@v/{V}.mod"}
        assert max(hits.values()) == 1


async def test_what_another_process_stored_of_a_new_version_is_not_fetched_again(
    tmp_path: Path, fake: FakeGoproxy
) -> None:
    """The process that brought the .info in expects that nobody has the other files, either."""
    fake.put(X)
    async with process(tmp_path) as one, process(tmp_path, owner="two/2/2") as two:
        await one.tenant("acme", fake)
        await one.ask(INFO, NAME, V)
        await asyncio.gather(*one.front._versions.ahead)
        archive = await two.zip_of(NAME, V)
        assert await one.zip_of(NAME, V) == archive
        assert max(fake.hits.values()) == 1


async def test_a_file_that_was_recorded_here_is_answered_until_stored_content_changes(
    bench: Bench, fake: FakeGoproxy
) -> None:
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.ask(MOD, NAME, V)
    await asyncio.gather(*bench.front._versions.ahead)
    changed = "update module_files set log_state = 'refused' where kind = 'mod'"
    await run_sql(bench.services, changed)
    assert (await bench.ask(MOD, NAME, V)).body
    await bench.services.shared.db.write(bump_generation)
    with pytest.raises(VerificationError, match="quarantined"):
        await bench.ask(MOD, NAME, V)


async def test_the_mod_of_a_new_info_is_fetched_ahead_and_the_zip_is_not(
    bench: Bench, fake: FakeGoproxy
) -> None:
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.ask(INFO, NAME, V)
    await asyncio.gather(*bench.front._versions.ahead)
    assert fake.hits == {f"/{NAME}/@v/{V}.info": 1, f"/{NAME}/@v/{V}.mod": 1}
    await bench.ask(MOD, NAME, V)
    await bench.ask(INFO, NAME, V)
    assert max(fake.hits.values()) == 1


async def test_a_slow_upstream_delays_no_other_route(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    quick = module("quick.example/y", "v1.0.0")
    second.put(quick)
    fake.put(X)
    await bench.tenant("acme", fake)
    await bench.route("acme", "quick.example", second)
    await bench.tenant("globex", fake)
    await bench.ask(INFO, NAME, V)
    slow = [f"{NAME}/m{n}" for n in range(40)]
    for name in slow:
        fake.fault(f"/{name}/@v/list", Fault.delay_headers_until_released())
    stuck = [asyncio.ensure_future(bench.ask(LIST, name)) for name in slow]
    await held(fake, 8)  # as many as acme has slots there
    try:
        for kind in (INFO, MOD, ZIP):
            assert (await bench.ask(kind, quick.path, "v1.0.0")).version == "v1.0.0"
        assert (await bench.ask(INFO, NAME, V)).body == X.info
        assert (await bench.ask(INFO, NAME, V, tenant="globex")).body == X.info
        with pytest.raises(UnknownError):  # another tenant's fetch from the slow one, too
            await bench.ask(INFO, NAME, "v1.5.0", tenant="globex")
    finally:
        fake.stop()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_server_that_shuts_down_fetches_nothing_new(one: Bench, fake: FakeGoproxy) -> None:
    await one.ask(INFO, NAME, V)
    one.files.begin_drain()
    assert (await one.ask(INFO, NAME, V)).body == X.info
    with pytest.raises(OverloadedError, match="shutting down"):
        await one.ask(ZIP, NAME, V)
    assert ZIP_PATH not in fake.hits


FAULTS = [
    ("F40", Fault.truncate(after="half"), UpstreamError),
    ("F41", Fault.truncate_unframed(after="half"), UpstreamContentError),
    ("F42", Fault.longer_than_length(), None),
    ("F44", Fault.reset(after="half"), UpstreamError),
    ("F45", Fault.flip_byte(at="half"), UpstreamContentError),
    ("F48", Fault.status(401), UpstreamError),
    ("F48", Fault.status(403), UpstreamError),
    ("F50", Fault.status(500), UpstreamError),
    ("F53", Fault.redirect("file:///etc/passwd"), UpstreamError),
    ("F58", Fault.partial_206(), UpstreamError),
    ("F59", Fault.gzip_encoded(), None),
]


@pytest.mark.parametrize(
    ("fault", "error"), [pytest.param(f, e, id=f"{n}-{f.kind}") for n, f, e in FAULTS]
)
async def test_a_spoilt_download_leaves_nothing_and_the_next_one_is_whole(
    one: Bench, fake: FakeGoproxy, fault: Fault, error: type[MoorageError] | None
) -> None:
    fake.fault(ZIP_PATH, fault, times=None)
    if error is None:
        assert await one.zip_of(NAME, V) == X.zip
        return
    with pytest.raises(error) as caught:
        await one.ask(ZIP, NAME, V)
    assert "127.0.0.1" not in str(caught.value)
    await one.assert_untouched()
    fake.clear_faults()
    assert await one.zip_of(NAME, V) == X.zip


async def test_F44_F50_what_passes_is_not_noticed(one: Bench, fake: FakeGoproxy) -> None:
    for fault in (Fault.reset_at_once(), Fault.status(503), Fault.truncate(after=7)):
        fake.fault(ZIP_PATH, fault)
    assert await one.zip_of(NAME, V) == X.zip
    assert fake.hits[ZIP_PATH] == 4


async def test_F47_an_absent_file_is_remembered_for_a_minute_at_most(
    one: Bench, fake: FakeGoproxy
) -> None:
    later: Module = module(NAME, "v1.5.0")
    for _ in range(3):
        with pytest.raises(UnknownError):
            await one.ask(ZIP, NAME, "v1.5.0")
    assert fake.hits[f"/{NAME}/@v/v1.5.0.zip"] == 1
    fake.put(later)
    one.seconds.seconds += 61
    assert await one.zip_of(NAME, "v1.5.0") == later.zip


async def test_F42_a_body_over_its_limit_is_stopped_while_it_comes(
    one: Bench, fake: FakeGoproxy
) -> None:
    fake.fault(f"/{NAME}/@v/{V}.info", Fault.oversized(1 << 20), times=None)
    with pytest.raises(UpstreamContentError):
        await one.ask(INFO, NAME, V)
    assert fake.bytes_sent[f"/{NAME}/@v/{V}.info"] < 1 << 20
