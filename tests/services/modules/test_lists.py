"""Lists of versions: parsed once, filtered for each tenant, and off the event loop where large."""

import asyncio
import threading
from collections.abc import Iterable

import pytest

from app.core.acl import Decision, ModuleAccess, RecordedRule
from app.core.effect import Effect
from app.core.errors import BadInputError
from app.core.goproxy import render_list
from app.services.authorization import Permission
from app.services.memory import MemoryBudget
from app.services.modules import lists as module_under_test
from app.services.modules.lists import Lists
from app.services.modules.spill import SpillSink
from app.services.slots import FairSemaphore

NAME = "example.com/x"
SMALL = b"v1.1.0\nv1.0.0\nv2.0.0-rc.1\n"
LARGE = b"".join(b"v1.%d.0\n" % n for n in range(3000))


class Even:
    """A permission for versions whose minor is even; notes the threads that ask."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()

    def decide(self, version: str) -> Decision:
        self.threads.add(threading.current_thread())
        return Decision(allowed=int(version.split(".")[1]) % 2 == 0, by="even")


class Store:
    """The bodies of these tests never go to disk."""


async def checked(lists: Lists, body: bytes, module: str = NAME, tenant: str = "acme") -> bytes:
    """Have a body checked as a download that has ended."""
    async with SpillSink(Store(), MemoryBudget(2 * len(body)), len(body), tenant) as sink:
        await sink.write(body)
        return await lists.read_checked(sink, module, tenant)


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the modules whose lists were parsed, in order."""
    parsed: list[str] = []
    parse = module_under_test.versions_of

    def counting(body: bytes, module: str) -> list[str]:
        parsed.append(module)
        return parse(body, module)

    monkeypatch.setattr(module_under_test, "versions_of", counting)
    return parsed


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_list_is_parsed_once_whoever_asks(body: bytes, parses: list[str]) -> None:
    lists = Lists(FairSemaphore(2))
    await checked(lists, body)
    for tenant in ("acme", "globex"):
        await lists.visible(body, NAME, Permission(None, None), tenant)
        await lists.newest_visible(body, NAME, Permission(None, None), tenant)
    assert parses == [NAME]
    await checked(lists, body + b"v9.0.0\n")
    await checked(lists, body, "example.com/y")
    assert parses == [NAME, NAME, "example.com/y"]


async def test_a_large_list_is_worked_on_in_a_thread_and_a_small_one_is_not() -> None:
    lists = Lists(FairSemaphore(2))
    for body, is_here in ((SMALL, True), (LARGE, False)):
        permission = Even()
        await lists.visible(body, NAME, permission, "acme")
        await lists.newest_visible(body, NAME, permission, "acme")
        here = threading.current_thread() in permission.threads
        assert here is is_here


async def test_what_may_not_be_seen_is_left_out() -> None:
    lists = Lists(FairSemaphore(2))
    even = [f"v1.{n}.0" for n in range(0, 3000, 2)]
    assert await lists.visible(LARGE, NAME, Even(), "acme") == render_list(even)
    assert await lists.newest_visible(LARGE, NAME, Even(), "acme") == "v1.2998.0"
    assert await lists.newest_visible(b"v1.1.0\n", NAME, Even(), "acme") is None


async def test_no_list_is_refused_every_time() -> None:
    lists = Lists(FairSemaphore(2))
    for page in (b"<html>", b"<html>" + b" " * 10_000):
        for _ in range(2):
            with pytest.raises(BadInputError):
                await checked(lists, page)


async def test_many_large_lists_take_turns() -> None:
    lists = Lists(FairSemaphore(1))
    bodies = [LARGE + b"v2.0.%d-rc\n" % n for n in range(8)]
    await asyncio.gather(
        *(checked(lists, body, tenant=f"t{n % 3}") for n, body in enumerate(bodies))
    )
    assert not lists._checks._held


def denying(versions: str) -> Permission:
    """Return what a tenant may use whose only rule denies some versions of the module."""
    rule = RecordedRule.model_validate(
        {
            "id": 1,
            "revision": 1,
            "tenant": "acme",
            "effect": "deny",
            "pattern": NAME,
            "versions": versions,
            "created_at": "2026-01-01T00:00:00Z",
        }
    )
    access = ModuleAccess(
        module=NAME,
        tenant="acme",
        default=Effect.ALLOW,
        platform_denials=(),
        ownership=None,
        denials=(rule,),
        allowances=(),
    )
    return Permission(None, access)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_list_is_filtered_once_for_the_same_rules(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    filtered = []

    def counting(versions: Iterable[str]) -> bytes:
        filtered.append(render_list(versions))
        return filtered[-1]

    monkeypatch.setattr(module_under_test, "render_list", counting)
    lists = Lists(FairSemaphore(2))
    for _ in range(3):  # as for three tokens: the policy is read anew, and says the same
        seen = await lists.visible(body, NAME, denying(">v1.0.0"), "acme")
        assert seen == b"v1.0.0\n"
    assert len(filtered) == 1
    assert b"v1.1.0\n" in await lists.visible(body, NAME, denying("v1.0.0"), "acme")
    assert len(filtered) == 2
