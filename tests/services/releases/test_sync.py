"""Mirroring a selection: what is chosen and why, fetched once, one failure stopping nobody."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from app.core import errors
from app.core.job import Job, JobProgress, JobState
from app.core.releasefile import FileState
from app.services.assembly import Services
from app.services.jobs import SYNC
from app.services.releases.policy import Progress
from app.services.releases.sync import SyncPlan, run_sync
from tests.conftest import MakeServices
from tests.fakes.archives import archive_name, go_archive, source_name, src_archive
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer
from tests.services.bench import INDEX_PATH, assert_sound, body_of, record_of, records
from tests.services.conftest import Rewire

VERSIONS = ("go1.99.2", "go1.99.1", "go1.98.4", "go1.97.9", "go1.21.5", "go1.100rc1")
MINE = {"os": ["linux"], "arch": ["amd64"]}


def linux(*versions: str) -> list[str]:
    return [archive_name(version) for version in versions]


@pytest.fixture
def published(fake: FakeGodev, signer: Signer) -> dict[str, bytes]:
    """Six releases: linux, windows (a zip) and source of each."""
    files = {}
    for version in VERSIONS:
        for name, data in (
            (archive_name(version), go_archive(version)),
            (archive_name(version, "windows"), go_archive(version, "windows")),
            (source_name(version), src_archive(version)),
        ):
            signed = name.endswith(".tar.gz")
            fake.put_file(name, data, signature=signer.sign(data) if signed else None)
            files[name] = data
    return files


def archives_asked_for(fake: FakeGodev) -> dict[str, int]:
    return {p: n for p, n in fake.hits.items() if p.startswith("/go/") and not p.endswith(".asc")}


def reasons(plan: SyncPlan) -> dict[str, str]:
    return {p.record.file.filename: p.reason for p in plan.files}


PLANS = {
    "default": (
        {},
        {
            archive_name("go1.99.2"): "newest patch of 1.99, the newest minor",
            source_name("go1.99.2"): "newest patch of 1.99, the newest minor",
            archive_name("go1.98.4"): "newest patch of 1.98, minor 2 of 2",
            source_name("go1.98.4"): "newest patch of 1.98, minor 2 of 2",
        },
    ),
    "patches": (
        {"minors": 1, "patches": 2, "kinds": ["archive"]},
        {
            archive_name("go1.99.2"): "newest patch of 1.99, the newest minor",
            archive_name("go1.99.1"): "patch 2 of 2 of 1.99, the newest minor",
        },
    ),
    "pins": (
        {"minors": 1, "kinds": ["archive"], "pins": ["go1.21", "1.97.9"]},
        {
            archive_name("go1.99.2"): "newest patch of 1.99, the newest minor",
            archive_name("go1.97.9"): "pinned by 1.97.9",
            archive_name("go1.21.5"): "pinned by go1.21",
        },
    ),
    "pre-releases": (
        {"minors": 1, "kinds": ["archive"], "stable_only": False},
        {
            archive_name("go1.100rc1"): "release candidate of 1.100",
            archive_name("go1.99.2"): "newest patch of 1.99, the newest minor",
        },
    ),
    "windows": (
        {"minors": 1, "kinds": ["archive"], "os": ["windows"]},
        {archive_name("go1.99.2", "windows"): "newest patch of 1.99, the newest minor"},
    ),
}


@pytest.mark.parametrize("name", PLANS)
async def test_a_plan_says_what_is_chosen_and_why(
    name: str, start_services: MakeServices, published: dict[str, bytes], fake: FakeGodev
) -> None:
    select, expected = PLANS[name]
    services = await start_services(releases={"select": {**MINE, **select}})
    plan, index_error = await services.releases.sync.plan()
    assert (reasons(plan), index_error) == (expected, "")
    assert plan.fetch_bytes == sum(len(published[name]) for name in expected)
    assert archives_asked_for(fake) == {}
    assert {r.state for r in (await records(services)).values()} == {FileState.KNOWN}


async def test_pins_that_match_nothing_are_told(
    start_services: MakeServices, published: dict[str, bytes]
) -> None:
    pins = ["go1.99.7", "1.3", "1.97"]
    services = await start_services(releases={"select": {**MINE, "minors": 0, "pins": pins}})
    result = await services.releases.sync.sync()
    assert result.unmatched_pins == ("go1.99.7", "1.3")
    assert set(result.fetched) == {archive_name("go1.97.9"), source_name("go1.97.9")}


async def test_a_second_sync_fetches_nothing(
    start_services: MakeServices, published: dict[str, bytes], fake: FakeGodev
) -> None:
    services = await start_services(releases={"select": MINE})
    result = await services.releases.sync.sync(actor="cli")
    chosen = set(PLANS["default"][1])
    assert set(result.fetched) == chosen
    assert (result.present, result.failed, result.index_error) == ((), (), "")
    for name in chosen:
        record = await record_of(services, name)
        assert record.state == FileState.VERIFIED
        assert await body_of(services, record) == published[name]
    asked = archives_asked_for(fake)
    assert asked == {f"/go/{name}": 1 for name in chosen}

    fake.forget()
    again = await services.releases.sync.sync()
    assert (again.fetched, set(again.present), again.failed) == ((), chosen, ())
    assert dict(fake.hits) == {INDEX_PATH: 1}
    plan, _ = await services.releases.sync.plan(refresh=False)
    assert plan.fetch_bytes == 0
    assert not any(p.to_fetch for p in plan.files)
    await assert_sound(services)


async def test_a_sync_fetches_what_is_selected_whatever_on_demand_says(
    start_services: MakeServices, published: dict[str, bytes]
) -> None:
    services = await start_services(releases={"select": {**MINE, "on_demand": False}})
    assert set((await services.releases.sync.sync()).fetched) == set(PLANS["default"][1])


async def test_one_files_trouble_does_not_stop_the_others(
    start_services: MakeServices,
    rewire: Rewire,
    published: dict[str, bytes],
    fake: FakeGodev,
) -> None:
    quick = rewire(await start_services(releases={"select": {**MINE, "patches": 2}}))
    wrong, absent, unsigned = linux("go1.99.2", "go1.99.1", "go1.98.4")
    fake.fault(f"/go/{wrong}", Fault.flip_byte(at="half"), times=None)
    fake.fault(f"/go/{absent}", Fault.status(404), times=None)
    fake.set_signature(unsigned, None)
    result = await quick.releases.sync.sync()
    assert set(result.fetched) == {source_name(v) for v in ("go1.99.2", "go1.99.1", "go1.98.4")}
    why = dict(result.failed)
    assert set(why) == {wrong, absent, unsigned}
    assert "SHA-256" in why[wrong]
    assert "no source has it" in why[absent]
    assert "no signature" in why[unsigned]
    await assert_sound(quick)

    fake.clear_faults()
    again = await quick.releases.sync.sync()
    assert set(again.fetched) == {wrong, absent}
    assert [name for name, _ in again.failed] == [unsigned]
    assert fake.hits[f"/go/{unsigned}"] == 1


async def test_files_that_policy_refuses_are_told_and_not_fetched(
    start_services: MakeServices, published: dict[str, bytes], fake: FakeGodev
) -> None:
    select = {**MINE, "os": ["windows"], "minors": 1, "kinds": ["archive"]}
    services = await start_services(releases={"select": select, "sha256_only": []})
    plan, _ = await services.releases.sync.plan()
    assert plan.fetch_bytes == 0
    result = await services.releases.sync.sync()
    [(name, why)] = result.failed
    assert name == archive_name("go1.99.2", "windows")
    assert "MOORAGE_RELEASES__SHA256_ONLY" in why
    assert archives_asked_for(fake) == {}


async def test_without_the_index_the_old_one_is_used_and_that_is_said(
    start_services: MakeServices, rewire: Rewire, published: dict[str, bytes], fake: FakeGodev
) -> None:
    quick = rewire(await start_services(releases={"select": MINE}))
    await quick.releases.reader.refresh()
    fake.fault(INDEX_PATH, Fault.status(503), times=None)
    plan, index_error = await quick.releases.sync.plan()
    assert reasons(plan) == PLANS["default"][1]
    assert "answered 503" in index_error
    result = await quick.releases.sync.sync()
    assert set(result.fetched) == set(PLANS["default"][1])
    assert result.index_error == index_error


async def test_without_any_index_ever_a_sync_is_an_error(
    quick: Services, published: dict[str, bytes], fake: FakeGodev
) -> None:
    fake.fault(INDEX_PATH, Fault.status(503), times=None)
    for ask in (quick.releases.sync.plan, quick.releases.sync.sync):
        with pytest.raises(errors.UpstreamUnavailableError):
            await ask()


async def test_a_sync_looks_again_at_files_that_are_held_back_though_not_selected(
    start_services: MakeServices,
    rewire: Rewire,
    published: dict[str, bytes],
    fake: FakeGodev,
    signer: Signer,
) -> None:
    quick = rewire(await start_services(releases={"select": {**MINE, "minors": 1}}))
    await quick.releases.reader.refresh()
    name = archive_name("go1.21.5")
    fake.set_signature(name, None)
    with pytest.raises(errors.NotYetError):
        await quick.releases.ingestion.ensure(name)
    fake.set_signature(name, signer.sign(published[name]))
    await quick.releases.sync.sync()
    assert (await record_of(quick, name)).state == FileState.VERIFIED
    assert fake.hits[f"/go/{name}"] == 1


async def test_a_damaged_file_is_fetched_again_by_a_sync(
    start_services: MakeServices, published: dict[str, bytes], fake: FakeGodev
) -> None:
    services = await start_services(releases={"select": MINE})
    await services.releases.sync.sync()
    name = archive_name("go1.99.2")
    digest = (await record_of(services, name)).file.sha256
    assert digest is not None
    await services.upkeep.repair.damaged(digest, "test", fetch=False)
    plan, _ = await services.releases.sync.plan()
    assert [p.record.file.filename for p in plan.files if p.to_fetch] == [name]
    assert plan.fetch_bytes == len(published[name])
    assert (await services.releases.sync.sync()).fetched == (name,)
    await assert_sound(services)


async def test_a_selection_larger_than_the_queue_for_requests_is_mirrored_whole(
    start_services: MakeServices, published: dict[str, bytes]
) -> None:
    select = {**MINE, "minors": 4, "patches": 2}
    services = await start_services(releases={"select": select}, limits={"cold_queue": 2})
    result = await services.releases.sync.sync()
    assert result.failed == ()
    assert len(result.fetched) == 10


async def test_progress_of_every_file_is_told(
    start_services: MakeServices, published: dict[str, bytes]
) -> None:
    services = await start_services(releases={"select": MINE})
    reports: list[Progress] = []
    await services.releases.sync.sync(report=reports.append)
    assert {p.filename for p in reports if p.phase == "done"} == set(PLANS["default"][1])


async def test_a_sync_as_a_job_reports_what_json_can_hold(
    start_services: MakeServices, rewire: Rewire, published: dict[str, bytes], fake: FakeGodev
) -> None:
    select = {**MINE, "minors": 1, "kinds": ["archive"], "patches": 2, "pins": ["1.3"]}
    quick = rewire(await start_services(releases={"select": select}))
    newest, older = linux("go1.99.2", "go1.99.1")
    fake.fault(f"/go/{older}", Fault.status(404), times=None)
    job = Job("0" * 16, SYNC, JobState.RUNNING, "token:00", datetime.now(UTC))
    watched: list[Callable[[], JobProgress]] = []
    report = await run_sync(quick.releases.sync, job, watched.append)
    [failed] = report.pop("failed")  # type: ignore[misc]
    assert report == {
        "fetched": [newest],
        "present": [],
        "unmatched_pins": ["1.3"],
        "index_error": "",
    }
    assert failed["filename"] == older
    [tell] = watched
    size_bytes = len(published[newest])
    total_bytes = size_bytes + len(published[older])
    assert tell() == JobProgress(2, 1, 1, total_bytes, size_bytes)
    assert SYNC == "releases.sync"


NAMED = {
    "a release": (["go1.97.9"], linux("go1.97.9")),
    "without go": (["1.97.9"], linux("go1.97.9")),
    "a minor": (["1.21"], linux("go1.21.5")),
    "a file of no selected platform": (
        [archive_name("go1.97.9", "windows")],
        [archive_name("go1.97.9", "windows")],
    ),
    "one of them twice": (
        ["1.97", archive_name("go1.97.9"), "go1.100rc1"],
        linux("go1.97.9", "go1.100rc1"),
    ),
}


@pytest.mark.parametrize(("names", "files"), NAMED.values(), ids=NAMED)
async def test_named_releases_and_files_are_mirrored_and_nothing_else(
    start_services: MakeServices,
    published: dict[str, bytes],
    fake: FakeGodev,
    names: list[str],
    files: list[str],
) -> None:
    select = {**MINE, "kinds": ["archive"], "pins": ["1.3"], "on_demand": False}
    services = await start_services(releases={"select": select, "sha256_only": ["zip"]})
    plan, _ = await services.releases.sync.plan(names)
    assert [p.record.file.filename for p in plan.files] == files
    result = await services.releases.sync.sync(names)
    assert (sorted(files), ()) == (list(result.fetched), result.failed)
    assert result.unmatched_pins == ()
    assert set(archives_asked_for(fake)) == {f"/go/{name}" for name in files}


UNKNOWN_NAMES = {
    "v1.99.2": "did you mean go1.99.2",
    "go1.99.3": "did you mean go1.99.2",
    "1.99.0": "did you mean go1.99.2",
    "go1.21rc9": "did you mean go1.21.5",
    "1.42": "moorage releases list --all",
    "latest": "moorage releases list --all",
    archive_name("go1.99.2").replace("amd64", "adm64"): f"did you mean {archive_name('go1.99.2')}",
    archive_name("go1.99"): f"did you mean {archive_name('go1.99.2')}",
    "nonsense.zip": "moorage releases list --all",
}


@pytest.mark.parametrize(("name", "hint"), UNKNOWN_NAMES.items(), ids=UNKNOWN_NAMES)
async def test_a_name_that_no_index_has_is_refused_with_what_may_be_meant(
    start_services: MakeServices,
    published: dict[str, bytes],
    fake: FakeGodev,
    name: str,
    hint: str,
) -> None:
    services = await start_services(releases={"select": MINE})
    with pytest.raises(errors.UnknownError, match=hint) as refused:
        await services.releases.sync.sync(["1.97", name])
    assert name in str(refused.value)
    assert archives_asked_for(fake) == {}


async def test_a_release_without_a_selected_file_is_refused(
    start_services: MakeServices, published: dict[str, bytes]
) -> None:
    select = {"os": ["plan9"], "arch": ["amd64"], "kinds": ["archive"]}
    services = await start_services(releases={"select": select})
    with pytest.raises(errors.UnknownError, match=r"no file of the selected platforms"):
        await services.releases.sync.sync(["1.97"])
