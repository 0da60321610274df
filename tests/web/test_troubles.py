"""What a client gets while something is wrong: upstream, the stored bytes, the client itself."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from app.core.digest import Digest
from app.core.errors import MoorageError
from app.db.generation import bump_generation
from app.db.releaseindex import IndexLog
from app.storage.staging import FreeSpace
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.web.conftest import Log, Put, StartSite
from tests.web.test_refusals import is_one_line
from tests.web.wire import Caller, Got, Site, request, until

UNKNOWN = "/dl/go9.99.9.linux-amd64.tar.gz"
DIGEST = "/dl/" + "ab" * 32


def blob_path(site: Site, data: bytes) -> Path:
    name = hashlib.sha256(data).hexdigest()
    return site.services.shared.settings.data_dir / "blobs" / name[:2] / name


def staged(site: Site) -> list[Path]:
    return [
        p
        for p in (site.services.shared.settings.data_dir / "tmp").rglob("*")
        if p.is_file() and p.suffix != ".lock"
    ]


async def test_the_first_get_ingests_and_returns_the_right_bytes(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put(extra_bytes=300_000)
    site = await start_site()
    got = await site.ask(f"/dl/{name}")
    assert (got.status, got.body, got.complete) == (200, data, True)
    assert got.header("etag") == f'"{hashlib.sha256(data).hexdigest()}"'
    assert fake.hits[f"/go/{name}"] == 1
    again = await site.ask(f"/dl/{name}")
    assert (again.body, again.lasting) == (data, got.lasting)
    assert fake.hits[f"/go/{name}"] == 1


@pytest.mark.parametrize("suffix", [".sha256", ".sha256sum", ".asc"])
async def test_a_sum_or_signature_is_ingested_on_demand_too(
    start_site: StartSite, put: Put, suffix: str
) -> None:
    name, data = put()
    site = await start_site()
    got = await site.ask(f"/dl/{name}{suffix}")
    assert got.status == 200
    if suffix != ".asc":
        assert got.text.startswith(hashlib.sha256(data).hexdigest())
    record, _ = await site.services.releases.catalog.file(name) or (None, None)
    assert record is not None
    assert record.state == "verified"


async def test_head_and_a_digest_are_ingested_on_demand_too(
    start_site: StartSite, put: Put
) -> None:
    """goenv asks for the digest, first by HEAD."""
    _, data = put()
    site = await start_site()
    target = f"/dl/{hashlib.sha256(data).hexdigest()}"
    await site.services.releases.reader.refresh()
    await site.services.releases.catalog.current(fresh=True)
    head = await site.ask(target, "HEAD")
    assert (head.status, head.header("content-length")) == (200, str(len(data)))
    assert (await site.ask(target)).body == data


async def test_no_byte_goes_out_before_verification(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put(extra_bytes=300_000)
    site = await start_site()
    fake.fault(f"/go/{name}", Fault.stall(after="last"))
    async with site.calling(buffer_bytes=2**22) as caller:
        await caller.send(request(f"/dl/{name}"))
        await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
        # All bytes but one are here, and the signature is not: nothing may have gone out.
        assert (await site.ask("/healthz")).status == 200  # what went out before has come by now
        assert not caller._reader._buffer
        fake.release()
        got = await caller.response()
    assert (got.status, got.body) == (200, data)


async def test_everybody_who_asks_meanwhile_waits_for_one_download(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    fake.fault(f"/go/{name}", Fault.stall(after="half"))
    asking = [asyncio.ensure_future(site.ask(f"/dl/{name}")) for _ in range(20)]
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
    fake.release()
    assert {got.body for got in await asyncio.gather(*asking)} == {data}
    assert fake.hits[f"/go/{name}"] == 1


BAD_ARCHIVES = [
    ("F40", Fault.truncate(after="half"), {502, 503}),
    ("F41", Fault.truncate_unframed(after="half"), {502}),
    ("F41", Fault.truncate_chunked(after="half", last_chunk=True), {502}),
    ("F42", Fault.oversized(10_000_000), {502}),
    ("F45", Fault.flip_byte(at="half"), {502}),
    ("F46", Fault.html_200(), {502}),
    ("F46", Fault.empty_200(), {502}),
    ("F47", Fault.status(404), {502}),
    ("F47", Fault.status(410), {502}),
    ("F48", Fault.status(401, b"their own words"), {502}),
    ("F48", Fault.status(403, b"their own words"), {502}),
    ("F49", Fault.status(429, headers={"Retry-After": "3600"}), {503}),
    ("F50", Fault.status(500), {502, 503}),
    ("F50", Fault.status(503), {503}),
    ("F52", Fault.redirect_loop(), {502}),
    ("F53", Fault.redirect("file:///etc/passwd"), {502}),
    ("F54", Fault.redirect("http://169.254.169.254/"), {502}),
    ("F58", Fault.partial_206(), {502}),
    ("F60", Fault.huge_header(), {502}),
]


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [(fault, statuses) for _, fault, statuses in BAD_ARCHIVES],
    ids=[f"{f}-{fault.kind}-{i}" for i, (f, fault, _) in enumerate(BAD_ARCHIVES)],
)
async def test_an_upstream_fault_is_one_line_and_no_byte_of_the_archive(
    start_site: StartSite, fake: FakeGodev, put: Put, fault: Fault, statuses: set[int]
) -> None:
    name, data = put()
    site = await start_site()
    fake.fault(f"/go/{name}", fault, times=None)
    got = await site.ask(f"/dl/{name}")
    assert got.status in statuses
    assert is_one_line(got)
    assert len(got.body) < 700
    assert b"their own words" not in got.body
    assert not blob_path(site, data).exists()
    assert staged(site) == []
    if got.status != 502:
        assert int(got.header("retry-after") or "") > 0
    fake.clear_faults()
    if got.status == 502:  # of a breaker or a Retry-After there would be more to wait for
        assert (await site.ask(f"/dl/{name}")).body == data


async def test_F42_bytes_after_the_declared_length_are_no_part_of_the_file(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    fake.fault(f"/go/{name}", Fault.longer_than_length(), times=None)
    assert (await site.ask(f"/dl/{name}")).body == data


async def test_F49_the_retry_after_of_upstream_is_passed_on(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, _ = put()
    site = await start_site()
    fake.fault(f"/go/{name}", Fault.status(429, headers={"Retry-After": "3600"}), times=None)
    assert (await site.ask(f"/dl/{name}")).header("retry-after") == "3600"


async def test_F43_a_download_over_its_deadline_is_504(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, _ = put()
    site = await start_site(releases={"archive_deadline_s": 1})
    fake.fault(f"/go/{name}", Fault.stall(after="half"), times=None)
    got = await site.ask(f"/dl/{name}")
    assert got.status == 504
    assert is_one_line(got)
    assert staged(site) == []


@pytest.mark.parametrize("target", [UNKNOWN, f"{UNKNOWN}.sha256", DIGEST])
async def test_with_no_index_and_no_upstream_nothing_is_known_absent(
    start_site: StartSite, fake: FakeGodev, target: str
) -> None:
    fake.stop()
    site = await start_site()
    got = await site.ask(target)
    assert got.status in (502, 503, 504)
    assert is_one_line(got)


BAD_INDEXES = [
    Fault.status(500),
    Fault.status(404),
    Fault.html_200(),
    Fault.truncate(after="half"),
    Fault.status(200, b"[]"),
]


@pytest.mark.parametrize("fault", BAD_INDEXES, ids=range(len(BAD_INDEXES)))
async def test_F61_with_an_index_that_is_refused_nothing_is_known_absent(
    start_site: StartSite, fake: FakeGodev, put: Put, fault: Fault
) -> None:
    put()
    fake.fault("/dl/", fault, times=None)
    site = await start_site()
    got = await site.ask(UNKNOWN)
    assert got.status in (502, 503, 504)
    assert is_one_line(got)


async def make_index_old(site: Site) -> None:
    """Let the index have been read a day ago."""
    then = site.services.shared.now() - timedelta(days=1)

    def work(session: object) -> None:
        log = IndexLog(session)
        document = log.status().document
        assert document is not None
        log.accepted(document, "https://go.dev/dl/", then)
        bump_generation(session)

    await site.services.shared.db.write(work)
    await site.services.releases.catalog.current(fresh=True)


@pytest.mark.parametrize("target", [UNKNOWN, f"{UNKNOWN}.asc", DIGEST])
async def test_an_index_too_old_and_no_upstream_means_5xx_and_not_404(
    start_site: StartSite, fake: FakeGodev, put: Put, target: str
) -> None:
    name, data = put()
    site = await start_site()
    assert (await site.ask(f"/dl/{name}")).body == data
    assert (await site.ask(target)).status == 404
    await make_index_old(site)
    fake.stop()
    got = await site.ask(target)
    assert got.status in (502, 503, 504)
    assert is_one_line(got)
    # What is here is served all the same, and so are the listings (invariant 8).
    assert (await site.ask(f"/dl/{name}")).body == data
    assert (await site.ask("/dl/?mode=json")).status == 200
    fake.start()
    assert (await site.ask(target)).status == 404


async def test_a_new_release_is_found_though_the_index_was_read_before(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    put("go1.99.1")
    site = await start_site()
    assert (await site.ask("/dl/?mode=json")).status == 200
    name, data = put("go1.99.2")
    assert (await site.ask(f"/dl/{name}")).status == 404
    await make_index_old(site)
    assert (await site.ask(f"/dl/{name}")).body == data


async def test_cached_content_is_served_while_every_upstream_is_down(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    other, _ = put("go1.99.2")
    site = await start_site()
    targets = [f"/dl/{name}", f"/dl/{name}.sha256", f"/dl/{name}.asc", "/dl/", "/dl/SHA256SUMS"]
    before = [await site.ask(target) for target in targets]
    fake.stop()
    assert [(await site.ask(target)).body for target in targets] == [got.body for got in before]
    assert before[0].body == data
    got = await site.ask(f"/dl/{other}")
    assert got.status in (502, 503, 504)
    assert is_one_line(got)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o640)
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.chmod(0o640)
    os.truncate(path, path.stat().st_size // 2)


def replace_by_another(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"another file")


DAMAGES: list[Callable[[Path], None]] = [flip, truncate, Path.unlink, replace_by_another]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("hot", [True, False])
async def test_F90_a_damaged_blob_is_never_served_and_then_healed(
    start_site: StartSite, fake: FakeGodev, put: Put, damage: Callable[[Path], None], hot: bool
) -> None:
    name, data = put(extra_bytes=300_000)
    site = await start_site()
    target = f"/dl/{name}" if hot else f"/dl/{hashlib.sha256(data).hexdigest()}"
    assert (await site.ask(f"/dl/{name}")).body == data
    damage(blob_path(site, data))
    got = await site.ask(target)
    if got.status == 503:
        assert is_one_line(got)
        assert int(got.header("retry-after") or "") > 0
        assert b"damaged" in got.body
    else:
        assert (got.status, got.body) == (200, data)

    async def served() -> Got | None:
        got = await site.ask(target)
        assert got.status in (200, 503)
        assert got.status == 503 or got.body == data
        return got if got.status == 200 else None

    await until(served)
    assert blob_path(site, data).read_bytes() == data
    assert fake.hits[f"/go/{name}"] == 2


async def test_F90_a_damaged_blob_is_503_for_as_long_as_upstream_is_down(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    await site.ask(f"/dl/{name}")
    flip(blob_path(site, data))
    fake.stop()
    for _ in range(3):
        got = await site.ask(f"/dl/{name}")
        assert got.status in (502, 503, 504)
        assert is_one_line(got)
    fake.start()

    async def healed() -> bool:
        got = await site.ask(f"/dl/{name}")
        assert got.status != 200 or got.body == data
        return got.status == 200

    await until(healed)


async def test_F90_sums_of_a_damaged_file_are_still_right(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    right = await site.ask(f"/dl/{name}.sha256")
    truncate(blob_path(site, data))
    assert (await site.ask(f"/dl/{name}.sha256")).body == right.body


def big(put: Put) -> tuple[str, bytes]:
    """Publish an archive that does not fit between a server and a client that stopped reading."""
    return put(extra_bytes=9_000_000)


SLOW = 65536  # bytes of a client's receive buffer


@pytest.mark.parametrize("damage", [flip, truncate])
@pytest.mark.parametrize("extra_bytes", [3_000_000, 9_000_000])
async def test_F90_a_blob_that_changes_under_a_download_leaves_it_incomplete(
    start_site: StartSite, put: Put, damage: Callable[[Path], None], extra_bytes: int
) -> None:
    """The smaller one fits into the socket's queue, where it is still the file."""
    name, data = put(extra_bytes=extra_bytes)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    async with site.calling(socket_bytes=SLOW) as caller:
        await caller.send(request(f"/dl/{name}"))
        first = await caller.read(65536)
        damage(blob_path(site, data))
        received = len(first)
        try:
            while piece := await caller.read(2**20):
                received += len(piece)
        except ConnectionError:
            pass
    assert received < len(data)


def descriptors(path: Path) -> int:
    """Count this process's open descriptors of a file."""
    links = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{entry}"))
        except FileNotFoundError:  # the descriptor of listdir itself
            continue
    return links.count(str(path))


async def stalled_download(caller: Caller, name: str) -> None:
    """Ask for a file, take its first bytes and then no more."""
    await caller.send(request(f"/dl/{name}"))
    assert (await caller.read(1000)).startswith(b"HTTP/1.1 200 ")


async def test_F36_a_client_that_vanishes_frees_its_descriptor(
    start_site: StartSite, put: Put
) -> None:
    name, data = big(put)
    site = await start_site()
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    path = blob_path(site, data).resolve()
    assert descriptors(path) == 0
    async with site.calling(socket_bytes=SLOW) as first, site.calling(socket_bytes=SLOW) as second:
        await stalled_download(first, name)
        await stalled_download(second, name)
        assert descriptors(path) == 2
        first.vanish()

        async def freed() -> bool:
            return descriptors(path) == 1

        await until(freed)
    assert await until(lambda: _is(descriptors, path, 0))


async def _is(count: Callable[[Path], int], path: Path, number: int) -> bool:
    return count(path) == number


async def test_more_streams_than_allowed_are_503_with_retry_after(
    start_site: StartSite, put: Put
) -> None:
    name, data = big(put)
    site = await start_site(limits={"streams": 3})
    site.application.surfaces.downloads._sender._streams._wait_s = 0.0
    await site.services.releases.reader.refresh()
    await site.services.releases.ingestion.ensure(name)
    async with site.calling(socket_bytes=SLOW) as first, site.calling(socket_bytes=SLOW) as second:
        await stalled_download(first, name)
        await stalled_download(second, name)
        got = await site.ask(f"/dl/{name}")
        assert got.status == 503
        assert is_one_line(got)
        assert int(got.header("retry-after") or "") > 0
        # Neither small answers nor headers nor health are streams.
        for method, target in (("GET", f"/dl/{name}.sha256"), ("HEAD", f"/dl/{name}")):
            assert (await site.ask(target, method)).status == 200
        assert (await site.ask("/healthz")).status == 200

    async def free() -> bool:
        return (await site.ask(f"/dl/{name}")).body == data

    await until(free)


async def test_F36_a_client_that_leaves_a_cold_download_spoils_it_for_nobody(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    fake.fault(f"/go/{name}", Fault.stall(after="half"))
    async with site.calling() as leaving:
        await leaving.send(request(f"/dl/{name}"))
        await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)
        staying = asyncio.ensure_future(site.ask(f"/dl/{name}"))
        leaving.vanish()
        fake.release()
        assert (await staying).body == data
    assert fake.hits[f"/go/{name}"] == 1


async def test_F39_more_waiters_for_a_file_than_allowed_are_503_with_retry_after(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site(limits={"waiters_per_key": 3})
    fake.fault(f"/go/{name}", Fault.stall(after="half"))
    asking = [asyncio.ensure_future(site.ask(f"/dl/{name}")) for _ in range(8)]
    await anyio.to_thread.run_sync(fake.wait_until, lambda: fake.stalled == 1)

    async def refused() -> bool:
        return sum(task.done() for task in asking) >= 8 - 4

    await until(refused)
    fake.release()
    answers = await asyncio.gather(*asking)
    for got in answers:
        assert got.status == 503 or got.body == data
    for got in (got for got in answers if got.status == 503):
        assert is_one_line(got)
        assert int(got.header("retry-after") or "") > 0


async def test_F88_a_full_disk_is_507_for_what_is_new_and_nothing_for_what_is_here(
    start_site: StartSite, put: Put
) -> None:
    here, data = put("go1.99.1")
    new, other = put("go1.99.2")
    site = await start_site()
    assert (await site.ask(f"/dl/{here}")).body == data
    store = site.services.shared.store
    store._room = FreeSpace(site.services.shared.settings.data_dir, 1.0)  # nothing is that empty
    got = await site.ask(f"/dl/{new}")
    assert got.status == 507
    assert is_one_line(got)
    assert staged(site) == []
    assert (await site.ask(f"/dl/{here}")).body == data
    store._room = FreeSpace(site.services.shared.settings.data_dir, 0.0)
    assert (await site.ask(f"/dl/{new}")).body == other


async def test_F89_a_store_that_cannot_be_written_is_503_for_what_is_new(
    start_site: StartSite, put: Put
) -> None:
    here, data = put("go1.99.1")
    new, other = put("go1.99.2")
    site = await start_site()
    assert (await site.ask(f"/dl/{here}")).body == data
    tmp = site.services.shared.settings.data_dir / "tmp"
    kept = tmp.rename(tmp.with_name("tmp-away"))
    tmp.write_bytes(b"in the way")
    got = await site.ask(f"/dl/{new}")
    assert got.status == 503
    assert is_one_line(got)
    assert (await site.ask(f"/dl/{here}")).body == data
    tmp.unlink()
    kept.rename(tmp)
    assert (await site.ask(f"/dl/{new}")).body == other


async def test_F62_a_changed_hash_in_the_index_changes_nothing_that_is_served(
    start_site: StartSite, fake: FakeGodev, put: Put
) -> None:
    name, data = put()
    site = await start_site()
    assert (await site.ask(f"/dl/{name}")).body == data
    put(seed=7)
    await site.services.releases.reader.refresh()
    await site.services.releases.catalog.current(fresh=True)
    assert (await site.ask(f"/dl/{name}")).body == data
    assert (await site.ask(f"/dl/{name}.sha256")).text == Digest.of(data).hex
    assert Digest.of(data).hex in (await site.ask("/dl/SHA256SUMS")).text


async def test_F63_a_signature_that_comes_later_makes_the_file_available(
    start_site: StartSite, fake: FakeGodev, put: Put, signer: object
) -> None:
    name, data = put(signed=False)
    site = await start_site()
    assert (await site.ask(f"/dl/{name}")).status == 503
    fake.set_signature(archive_name("go1.99.1"), signer.sign(data))
    assert (await site.ask(f"/dl/{name}")).body == data
    assert fake.hits[f"/go/{name}"] == 1


@pytest.mark.parametrize("spoilt", ["blobs", "tmp", "keys"])
async def test_no_error_and_no_log_line_names_a_path_of_the_data_directory(
    start_site: StartSite, put: Put, log: Log, spoilt: str
) -> None:
    here, _ = put("go1.99.1")
    new, _ = put("go1.99.2")
    site = await start_site()
    assert (await site.ask(f"/dl/{here}")).status == 200
    folder = site.services.shared.settings.data_dir
    (folder / spoilt).rename(folder / "away")
    (folder / spoilt).write_bytes(b"in the way")
    answers = [await site.ask(f"/dl/{name}{end}") for name in (here, new) for end in ("", ".asc")]
    answers.append(await site.ask("/readyz"))
    answers.append(await site.admin(f"/api/v1/releases/files/{here}/verify", "POST"))
    answers.append(await site.admin(f"/api/v1/releases/files/{new}/verify", "POST"))
    with suppress(MoorageError):
        await site.services.upkeep.scrub.step()
    errors = [answer.text for answer in answers if answer.status >= 400]
    assert errors
    for text in (*errors, log.text):
        assert str(folder) not in text
        assert f"{spoilt}/" not in text
    (folder / spoilt).unlink()
    (folder / "away").rename(folder / spoilt)
