"""What a public log says of content that comes in, by the policy of its route."""

from datetime import UTC, datetime

import pytest

from app.core.digest import Digest
from app.core.errors import UpstreamUnavailableError, VerificationError
from app.core.goproxy import RequestKind
from app.core.logstate import LogState
from app.core.routing import LogPolicy
from app.db.modules import ModuleFile
from app.services.publiclog.checks import LogChecks, LoggedSums
from app.services.slots import Slots
from tests.fakes.faults import Fault
from tests.fakes.sumdb import FakeSumdb, Lie
from tests.services.publiclog.bench import V1, Relaying, sums

NAME = "example.com/hello"
REQUIRE, DEFER, OFF = LogPolicy.REQUIRE, LogPolicy.DEFER, LogPolicy.OFF
LOOKUP = f"/lookup/{NAME}@{V1}"


@pytest.fixture
def checks(relaying: Relaying, log: FakeSumdb) -> LogChecks:
    log.grow(300)
    log.add(NAME, V1, sums(1).zip_h1, sums(1).go_mod_h1)
    return LogChecks([relaying.relay])


def stored(kind: RequestKind, h1: str, go_mod_h1: str = "") -> ModuleFile:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    return ModuleFile(1, NAME, V1, kind, Digest.of(b""), 1, at, None, h1, go_mod_h1)


ZIP = stored(RequestKind.ZIP, sums(1).zip_h1, sums(1).go_mod_h1)
MOD = stored(RequestKind.MOD, sums(1).go_mod_h1)


@pytest.mark.parametrize("policy", [REQUIRE, DEFER])
async def test_content_that_the_log_vouches_for_is_verified(
    checks: LogChecks, policy: LogPolicy
) -> None:
    vouched = await checks.logged_sums(NAME, V1, policy)
    assert vouched == LoggedSums("sum.fake.example", sums(1))
    assert vouched.judge(ZIP) is vouched.judge(MOD) is LogState.VERIFIED


@pytest.mark.parametrize("policy", [REQUIRE, DEFER])
@pytest.mark.parametrize(
    "file",
    [
        stored(RequestKind.ZIP, sums(2).zip_h1, sums(1).go_mod_h1),
        stored(RequestKind.ZIP, sums(1).zip_h1, sums(2).go_mod_h1),
        stored(RequestKind.ZIP, sums(1).go_mod_h1, sums(1).zip_h1),
        stored(RequestKind.MOD, sums(2).go_mod_h1),
        stored(RequestKind.MOD, sums(1).zip_h1),
        stored(RequestKind.MOD, ""),
    ],
)
async def test_F74_other_content_than_the_log_vouches_for_is_refused(
    checks: LogChecks, policy: LogPolicy, file: ModuleFile
) -> None:
    vouched = await checks.logged_sums(NAME, V1, policy)
    with pytest.raises(VerificationError, match=r"and sum\.fake\.example vouches for h1:"):
        vouched.judge(file)


async def test_a_refusal_names_the_file_whose_hash_it_prints(checks: LogChecks) -> None:
    vouched = await checks.logged_sums(NAME, V1, REQUIRE)
    file = stored(RequestKind.ZIP, sums(1).zip_h1, sums(2).go_mod_h1)
    with pytest.raises(VerificationError) as caught:
        vouched.judge(file)
    assert str(caught.value).startswith(f"the go.mod in {file.name} has {sums(2).go_mod_h1}")


async def test_off_asks_nobody(checks: LogChecks, log: FakeSumdb) -> None:
    vouched = await checks.logged_sums(NAME, V1, OFF)
    assert vouched.judge(ZIP) is LogState.UNVERIFIED
    assert log.requests == []


async def test_F77_with_the_log_down_require_waits_and_defer_marks(
    checks: LogChecks, log: FakeSumdb
) -> None:
    log.stop()
    with pytest.raises(UpstreamUnavailableError, match=r"has to vouch for it") as raised:
        await checks.logged_sums(NAME, V1, REQUIRE)
    assert raised.value.retry_after_s > 0
    assert (await checks.logged_sums(NAME, V1, DEFER)).judge(ZIP) is LogState.UNVERIFIED


async def test_F77_with_the_log_down_what_was_looked_up_still_verifies(
    checks: LogChecks, log: FakeSumdb
) -> None:
    await checks.logged_sums(NAME, V1, DEFER)
    log.stop()
    assert (await checks.logged_sums(NAME, V1, REQUIRE)).judge(ZIP) is LogState.VERIFIED


async def test_F77_defer_does_not_wait_for_a_log_that_hangs(
    checks: LogChecks, relaying: Relaying, log: FakeSumdb
) -> None:
    log.fault(LOOKUP, Fault.delay_headers_until_released())
    impatient = LogChecks([relaying.relay], defer_s=0.05)
    assert (await impatient.logged_sums(NAME, V1, DEFER)).judge(ZIP) is LogState.UNVERIFIED
    # The question was not given up with whoever asked it first.
    log.release()
    assert (await checks.logged_sums(NAME, V1, REQUIRE)).judge(ZIP) is LogState.VERIFIED
    assert log.lookups == 1


async def test_a_version_without_a_record_fails_where_one_is_required(checks: LogChecks) -> None:
    with pytest.raises(VerificationError, match=r"has no record of example.com/hello@v9\.0\.0"):
        await checks.logged_sums(NAME, "v9.0.0", REQUIRE)
    vouched = await checks.logged_sums(NAME, "v9.0.0", DEFER)
    assert vouched.judge(ZIP) is LogState.UNVERIFIED


@pytest.mark.parametrize("policy", [REQUIRE, DEFER])
async def test_F76_an_answer_that_does_not_verify_is_refused_under_any_policy(
    checks: LogChecks, log: FakeSumdb, policy: LogPolicy
) -> None:
    log.lie = Lie.BAD_SIGNATURE
    with pytest.raises(VerificationError, match="its text was altered"):
        await checks.logged_sums(NAME, V1, policy)
    log.heal()
    assert (await checks.logged_sums(NAME, V1, policy)).judge(ZIP) is LogState.VERIFIED


async def test_without_a_log_only_require_fails() -> None:
    checks = LogChecks([])
    assert not checks.is_on
    for policy in (OFF, DEFER):
        assert (await checks.logged_sums(NAME, V1, policy)).judge(ZIP) is LogState.UNVERIFIED
    with pytest.raises(VerificationError, match="MOORAGE_SUMDB__UPSTREAMS is empty"):
        await checks.logged_sums(NAME, V1, REQUIRE)


async def test_a_tenant_that_waits_too_long_keeps_no_other_tenant_from_the_log(
    checks: LogChecks,
) -> None:
    checks._defer_s = 0.0
    assert (await checks.logged_sums(NAME, V1, DEFER, tenant="acme")).sums is None
    checks._defer_s = 60.0
    assert (await checks.logged_sums(NAME, V1, DEFER, tenant="acme")).sums is None
    assert (await checks.logged_sums(NAME, V1, DEFER, tenant="globex")).sums == sums(1)
    assert not checks.is_resting


async def test_a_tenant_without_a_slot_says_nothing_about_the_log(
    checks: LogChecks, relaying: Relaying
) -> None:
    relaying.relay._slots = Slots(places=0)
    assert (await checks.logged_sums(NAME, V1, DEFER, tenant="acme")).sums is None
    relaying.relay._slots = Slots()
    assert (await checks.logged_sums(NAME, V1, DEFER, tenant="acme")).sums == sums(1)
