"""What a tenant is answered: filtered by one decision, from upstreams in their order."""

import asyncio
import json

import pytest

from app.core.effect import Effect
from app.core.errors import (
    DeniedError,
    MoorageError,
    UnknownError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.core.principal import OPERATOR
from app.core.routing import OnAbsent
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import info_of, module
from tests.nouns import an_upstream
from tests.services.bench import run_sql
from tests.services.modules.bench import INFO, LATEST, LIST, MOD, ZIP, Bench

NAME = "example.com/x"
VERSIONS = ("v1.0.0", "v1.1.0", "v2.0.0+incompatible", "v1.2.0-rc.1")
ALLOW, DENY = Effect.ALLOW, Effect.DENY


@pytest.fixture
def full(fake: FakeGoproxy) -> FakeGoproxy:
    for version in VERSIONS:
        fake.put(module(NAME, version))
    return fake


def version_of(body: bytes) -> str:
    return str(json.loads(body)["Version"])


# Rules, the list and @latest that are left; None where everything is denied.
VIEWS: list[tuple[list[tuple[Effect, str]], str | None, str | None]] = [
    ([], "v1.0.0 v1.1.0 v1.2.0-rc.1 v2.0.0+incompatible", "v2.0.0+incompatible"),
    ([(DENY, "v2.0.0+incompatible")], "v1.0.0 v1.1.0 v1.2.0-rc.1", "v1.1.0"),
    ([(ALLOW, "<v1.1.0")], "v1.0.0", "v1.0.0"),
    ([(DENY, ">=v1.1.0")], "v1.0.0", "v1.0.0"),
    ([(ALLOW, "v1.2.0-rc.1")], "v1.2.0-rc.1", "v1.2.0-rc.1"),
    ([(ALLOW, "v9")], "", None),
    ([(DENY, "")], None, None),
]


@pytest.mark.parametrize(("rules", "listed", "latest"), VIEWS, ids=range(len(VIEWS)))
async def test_list_latest_and_files_are_filtered_by_one_decision(
    bench: Bench, full: FakeGoproxy, rules: list, listed: str | None, latest: str | None
) -> None:
    await bench.tenant("acme", full)
    for effect, versions in rules:
        await bench.rule(effect, NAME, versions)
    if listed is None:
        for kind in (LIST, LATEST):
            with pytest.raises(DeniedError):
                await bench.ask(kind, NAME)
        assert not full.requests
    else:
        assert (await bench.ask(LIST, NAME)).body.decode().split() == listed.split()
    seen = (listed or "").split()
    for version in VERSIONS:
        for kind in (INFO, MOD, ZIP):
            if version in seen:
                assert (await bench.ask(kind, NAME, version)).version == version
            else:
                with pytest.raises(DeniedError):
                    await bench.ask(kind, NAME, version)
    if latest is None:
        with pytest.raises(DeniedError):
            await bench.ask(LATEST, NAME)
    else:
        assert version_of((await bench.ask(LATEST, NAME)).body) == latest


async def test_what_breaks_clients_is_not_listed(bench: Bench, fake: FakeGoproxy) -> None:
    fake.set_list(
        NAME,
        b"v9\r\nv1.1.0+meta\nv1.0.0 2024-01-02T03:04:05Z\nv0.0.0-20240102030405-abcdef123456\n",
    )
    await bench.tenant("acme", fake)
    assert (await bench.ask(LIST, NAME)).body == b"v1.0.0\n"


async def test_latest_is_computed_where_upstream_has_none(bench: Bench, full: FakeGoproxy) -> None:
    full.set_latest(NAME, None)
    await bench.tenant("acme", full)
    assert version_of((await bench.ask(LATEST, NAME)).body) == "v2.0.0+incompatible"


async def test_latest_of_nothing_is_absent(bench: Bench, fake: FakeGoproxy) -> None:
    fake.set_list(NAME, b"")
    await bench.tenant("acme", fake)
    with pytest.raises(UnknownError):
        await bench.ask(LATEST, NAME)


async def test_a_query_is_authorised_again_on_what_it_resolves_to(
    bench: Bench, full: FakeGoproxy
) -> None:
    full.put_query(NAME, "master", info_of("v1.1.0"))
    full.put_query(NAME, "v1", info_of("v1.0.0"))
    await bench.tenant("acme", full)
    await bench.rule(DENY, NAME, "v1.1.0")
    with pytest.raises(DeniedError, match=r"v1\.1\.0 is denied by rule"):
        await bench.ask(INFO, NAME, "master")
    answer = await bench.ask(INFO, NAME, "v1")
    assert (answer.version, answer.decided_by) == ("v1.0.0", "default")


async def test_a_denied_module_is_not_asked_for(bench: Bench, full: FakeGoproxy) -> None:
    await bench.tenant("acme", full, default=DENY)
    for kind, version in ((LIST, ""), (LATEST, ""), (INFO, "master"), (ZIP, "v1.0.0")):
        with pytest.raises(DeniedError) as caught:
            await bench.ask(kind, NAME, version)
        assert caught.value.by == "default"
    assert not full.requests


async def test_the_next_upstream_is_asked_where_the_first_has_nothing(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", fake, second)
    assert (await bench.ask(LIST, NAME)).body == b"v1.0.0\n"
    assert (await bench.ask(INFO, NAME, "v1.0.0")).version == "v1.0.0"
    assert fake.hits == second.hits


async def test_an_upstream_whose_absence_means_stop_ends_the_search(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", an_upstream(fake.url, on_absent=OnAbsent.STOP), second)
    for kind, version in ((LIST, ""), (INFO, "v1.0.0"), (ZIP, "v1.0.0")):
        with pytest.raises(UnknownError):
            await bench.ask(kind, NAME, version)
    assert not second.requests


ASKED = [
    (LIST, "", "@v/list"),
    (INFO, "v1.0.0", "@v/v1.0.0.info"),
    (ZIP, "v1.0.0", "@v/v1.0.0.zip"),
]


@pytest.mark.parametrize(("kind", "version", "tail"), ASKED)
@pytest.mark.parametrize(
    "fault", [Fault.status(500), Fault.status(403), Fault.html_200()], ids=lambda f: f.kind
)
async def test_F51_a_failure_never_means_the_next_upstream(
    bench: Bench,
    fake: FakeGoproxy,
    second: FakeGoproxy,
    kind: str,
    version: str,
    tail: str,
    fault: Fault,
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", fake, second)
    fake.fault(f"/{NAME}/{tail}", fault, times=None)
    with pytest.raises(MoorageError) as caught:
        await bench.ask(kind, NAME, version)
    assert not isinstance(caught.value, UnknownError)
    assert not second.asked_for(NAME)


@pytest.mark.parametrize(("kind", "version", "tail"), ASKED)
async def test_a_recorded_absence_lets_the_next_upstream_answer_while_the_first_is_down(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy, kind: str, version: str, tail: str
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", fake, second)
    await bench.ask(kind, NAME, version)
    fake.stop()
    bench.seconds.seconds += 3600
    bench.clock.advance(days=1)
    answer = await bench.ask(kind, NAME, version)
    assert answer.version == version


async def test_what_the_first_upstream_gets_later_does_not_change_a_stored_version(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", fake, second)
    before = await bench.zip_of(NAME, "v1.0.0")
    await bench.refresh.forget("acme", NAME, OPERATOR)
    fake.put(module(NAME, "v1.0.0", {"x.go": b"package x // another\n"}))
    bench.seconds.seconds += 3600
    assert await bench.zip_of(NAME, "v1.0.0") == before


async def test_a_route_that_is_off_serves_what_is_stored(bench: Bench, full: FakeGoproxy) -> None:
    full.put_query(NAME, "master", info_of("v1.1.0"))
    await bench.tenant("acme", full)
    for kind, version in ((LIST, ""), (LATEST, ""), (INFO, "master"), (ZIP, "v1.0.0")):
        await bench.ask(kind, NAME, version)
    await bench.change_route("acme", off=True)
    full.forget()
    bench.clock.advance(days=30)
    assert (await bench.ask(LIST, NAME)).body
    assert version_of((await bench.ask(LATEST, NAME)).body) == "v2.0.0+incompatible"
    assert version_of((await bench.ask(INFO, NAME, "master")).body) == "v1.1.0"
    assert await bench.zip_of(NAME, "v1.0.0")
    for kind, version in ((ZIP, "v1.1.0"), (INFO, "v1.1.0"), (INFO, "main"), (MOD, "v1.1.0")):
        with pytest.raises(DeniedError, match="is off: it fetches nothing"):
            await bench.ask(kind, NAME, version)
    assert not full.requests


async def test_off_lists_and_finds_latest_of_what_is_stored(
    bench: Bench, full: FakeGoproxy
) -> None:
    await bench.tenant("acme", full)
    for version in ("v1.0.0", "v1.1.0"):
        await bench.ask(INFO, NAME, version)
    await bench.change_route("acme", off=True)
    assert set((await bench.ask(LIST, NAME)).body.split()) == {b"v1.0.0", b"v1.1.0"}
    assert version_of((await bench.ask(LATEST, NAME)).body) == "v1.1.0"


@pytest.mark.parametrize("is_off", [True, False])
async def test_without_fetching_what_a_later_upstream_gave_is_served(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy, is_off: bool
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("acme", fake, second)
    for kind, version in ((LIST, ""), (LATEST, ""), (INFO, "v1.0.0"), (ZIP, "v1.0.0")):
        await bench.ask(kind, NAME, version)
    if is_off:
        await bench.change_route("acme", off=True)
    hits = len(fake.requests), len(second.requests)
    for kind, version in ((LIST, ""), (LATEST, ""), (INFO, "v1.0.0"), (ZIP, "v1.0.0")):
        assert (await bench.ask(kind, NAME, version, fetch=is_off)).decided_by == "default"
    assert (len(fake.requests), len(second.requests)) == hits


async def test_a_client_that_forbids_fetching_gets_what_is_stored(
    bench: Bench, full: FakeGoproxy
) -> None:
    await bench.tenant("acme", full)
    for kind, version in (
        (LIST, ""),
        (LATEST, ""),
        (INFO, "master"),
        (INFO, "v1.0.0"),
        (ZIP, "v1.0.0"),
    ):
        with pytest.raises(UnknownError, match="asked not to fetch"):
            await bench.ask(kind, NAME, version, fetch=False)
    assert not full.requests
    await bench.ask(ZIP, NAME, "v1.0.0")
    assert await bench.zip_of(NAME, "v1.0.0", fetch=False)


async def down(bench: Bench, full: FakeGoproxy, **route: bool) -> None:
    """Have example.com/x known, and its upstream down."""
    await bench.tenant("acme", full, **route)
    await bench.ask(LIST, NAME)
    full.stop()


@pytest.mark.parametrize(
    ("kind", "version"), [(LIST, ""), (LATEST, ""), (INFO, "v1.0.0"), (INFO, "master")]
)
@pytest.mark.parametrize("below", ["sub", "a/b/c"])
async def test_while_upstream_is_down_a_path_below_a_known_module_is_taken_for_none(
    bench: Bench, full: FakeGoproxy, kind: str, version: str, below: str
) -> None:
    full.put_query(NAME, "master", module(NAME, "v1.0.0").info)
    await bench.tenant("acme", full)
    await bench.ask(kind, NAME, version)
    full.stop()
    with pytest.raises(UnknownError, match="one above it is"):
        await bench.ask(kind, f"{NAME}/{below}", version)


@pytest.mark.parametrize("version", ["v1.1.0", "v9.9.9", "master"])
async def test_F51_a_version_that_no_module_above_is_known_to_have_may_be_a_nested_modules(
    bench: Bench, full: FakeGoproxy, version: str
) -> None:
    await bench.tenant("acme", full)
    await bench.ask(INFO, NAME, "v1.0.0")
    full.stop()
    with pytest.raises(UpstreamUnavailableError):
        await bench.ask(INFO, f"{NAME}/sub", version)


async def test_where_nothing_is_known_of_the_parents_they_are_asked_for(
    bench: Bench, full: FakeGoproxy
) -> None:
    await bench.tenant("acme", full)
    full.fault(f"/{NAME}/sub/@v/list", Fault.status(500), times=None)
    with pytest.raises(UnknownError, match="one above it is"):
        await bench.ask(LIST, f"{NAME}/sub")


async def test_an_upstream_that_gives_no_answer_is_asked_for_no_parents(
    bench: Bench, full: FakeGoproxy
) -> None:
    await bench.tenant("acme", an_upstream(full.url, metadata_s=1))
    deep = f"{NAME}/" + "/".join("abcdefgh")
    full.fault(f"/{deep}/@v/list", Fault.delay_headers_until_released(), times=None)
    with pytest.raises(UpstreamTimeoutError):
        await bench.ask(LIST, deep)
    assert set(full.hits) == {f"/{deep}/@v/list"}


@pytest.mark.parametrize(
    ("module_path", "kind", "version"),
    [
        (f"{NAME}/sub", MOD, "v1.0.0"),
        (f"{NAME}/sub", ZIP, "v1.0.0"),
        ("example.com/y", LIST, ""),
        ("example.com", LIST, ""),
        ("example.com/xsub", LIST, ""),
        (NAME, INFO, "v1.0.0"),
    ],
)
async def test_F51_any_other_path_is_503_while_upstream_is_down(
    bench: Bench, full: FakeGoproxy, module_path: str, kind: str, version: str
) -> None:
    await down(bench, full)
    with pytest.raises(UpstreamUnavailableError):
        await bench.ask(kind, module_path, version)


async def test_F51_on_a_private_route_nothing_is_taken_for_absent(
    bench: Bench, full: FakeGoproxy
) -> None:
    await down(bench, full, private=True)
    with pytest.raises(UpstreamUnavailableError):
        await bench.ask(LIST, f"{NAME}/sub")


async def test_410_is_told_only_if_every_upstream_says_so(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    fake.not_found_status = 410
    await bench.tenant("acme", fake, second)
    with pytest.raises(UnknownError) as caught:
        await bench.ask(LIST, NAME)
    assert type(caught.value) is UnknownError


async def test_the_list_of_what_upstream_has_no_more_has_what_is_stored(
    bench: Bench, full: FakeGoproxy
) -> None:
    await bench.tenant("acme", full)
    info = await bench.ask(INFO, NAME, "v1.0.0")
    await bench.ask(LIST, NAME)
    full.set_list(NAME, None)
    full.set_latest(NAME, None)
    bench.clock.advance(days=1)
    assert (await bench.ask(LIST, NAME)).body == b"v1.0.0\n"
    assert (await bench.ask(LATEST, NAME)).body == info.body
    full.stop()  # known to be gone, and down now
    bench.seconds.seconds += 61
    assert (await bench.ask(LIST, NAME)).body == b"v1.0.0\n"


async def test_what_a_later_upstream_has_is_not_listed_behind_one_that_ends_the_search(
    bench: Bench, fake: FakeGoproxy, second: FakeGoproxy
) -> None:
    second.put(module(NAME, "v1.0.0"))
    await bench.tenant("other", second)
    await bench.ask(INFO, NAME, "v1.0.0", tenant="other")
    await bench.tenant("acme", an_upstream(fake.url, on_absent=OnAbsent.STOP), second)
    with pytest.raises(UnknownError):
        await bench.ask(LIST, NAME)


async def test_a_synthetic_go_mod_is_passed_on_as_it_is(bench: Bench, fake: FakeGoproxy) -> None:
    fake.put(module(NAME, "v2.3.0+incompatible", go_mod=None))
    await bench.tenant("acme", fake)
    assert (await bench.ask(MOD, NAME, "v2.3.0+incompatible")).body == f"module {NAME}\n".encode()
    assert await bench.zip_of(NAME, "v2.3.0+incompatible")


async def test_an_info_that_was_stored_earlier_has_no_mod_fetched_ahead(
    bench: Bench, fake: FakeGoproxy
) -> None:
    """Whoever asks for it again, as every build does, must cause no request of its own."""
    fake.put(module("example.com/again", "v1.0.0"))
    await bench.tenant("acme", fake)
    await bench.ask(INFO, "example.com/again", "v1.0.0")
    await asyncio.gather(*bench.front._versions.ahead)
    await run_sql(bench.services, "delete from module_files where kind = 'mod'")
    fake.forget()
    bench.clock.advance(seconds=1)
    await bench.ask(INFO, "example.com/again", "v1.0.0")
    assert bench.front._versions.ahead == set()
    assert fake.hits == {}
