"""A git host's message makes a push visible at once; nobody else's does anything."""

import itertools

import pytest

from app.core.githook import CREDENTIAL, LIMIT, path_secret
from app.core.principal import OPERATOR
from tests.core.test_githook import body_of, signed
from tests.fakes.gitrepos import GitRepo
from tests.nouns import a_credential
from tests.services.modules.gits.conftest import FILES
from tests.services.modules.gits.lane import GitLane
from tests.web.conftest import Log, log
from tests.web.harbour import add_tenant, assert_one_line, settled
from tests.web.wire import Got, request

SECRET = "x" * 43
__all__ = ["log"]  # the fixture


async def hooked(lane: GitLane) -> GitLane:
    await lane.route()
    credential = a_credential("bearer", SECRET)
    services = lane.site.services
    await services.tenants.credentials.put("acme", CREDENTIAL, credential, OPERATOR)
    await settled(services)
    return lane


async def send(
    lane: GitLane,
    host: str,
    body: bytes,
    headers: dict[str, str] | None = None,
    path: str = f"/hooks/git/acme/{path_secret(SECRET)}",
) -> Got:
    message = signed(host, body, SECRET) if headers is None else headers
    return await lane.site.ask(path, "POST", message, body)


def message(host: str) -> bytes:
    return body_of(host).replace(b"acme/lib", b"team/x")


async def test_a_push_is_visible_at_once_whatever_the_host(lane: GitLane) -> None:
    await hooked(lane)
    versions = [b"v1.0.0", b"v1.1.0"]
    assert (await lane.ask("team/x/@v/list")).body.split() == versions
    repo = GitRepo()
    for host, number in zip(("github", "gitlab", "gitea"), itertools.count(2), strict=False):
        repo.tag(f"v1.{number}.0", repo.commit("other", {**FILES, f"z{number}.go": "package x\n"}))
        repo.write(lane.fake.folder / "team/x.git")
        assert (await lane.ask("team/x/@v/list")).body.split() == versions
        got = await send(lane, host, message(host))
        assert (got.status, got.text) == (200, "team/x: 1 upstreams are asked anew\n"), host
        versions.append(b"v1.%d.0" % number)
        assert (await lane.ask("team/x/@v/list")).body.split() == versions


async def test_a_message_counts_once(lane: GitLane) -> None:
    await hooked(lane)
    body = message("github")
    assert (await send(lane, "github", body)).status == 200
    again = await send(lane, "github", body, signed("github", body, SECRET) | {"x-request-id": "2"})
    assert_one_line(again, 409)
    assert "taken before" in again.text


@pytest.mark.parametrize(
    "path",
    [
        "/hooks/git/acme/" + "0" * 32,
        "/hooks/git/other/" + path_secret(SECRET),
        "/hooks/git/nobody/" + path_secret(SECRET),
        "/hooks/git/nobody/" + path_secret("0" * 64),
    ],
    ids=["wrong", "a tenant without a hook", "no tenant", "that of nobody"],
)
async def test_another_url_learns_nothing(lane: GitLane, path: str) -> None:
    await hooked(lane)
    await add_tenant(lane.site.services, "other")
    got = await send(lane, "github", message("github"), path=path)
    assert (got.status, got.text) == (401, "there is no such hook; see `moorage hook create`\n")


@pytest.mark.parametrize("path", ["/hooks/", "/hooks/git/acme", "/hooks/git/acme/x", "/hooks/x"])
async def test_what_is_no_hooks_url_is_absent(lane: GitLane, path: str) -> None:
    assert (await send(lane, "github", b"{}", path=path)).status == 404


async def test_a_wrong_signature_or_none_changes_nothing(lane: GitLane) -> None:
    await hooked(lane)
    body = message("github")
    for headers in ({}, signed("github", body, "another"), signed("github", b"x", SECRET)):
        assert (await send(lane, "github", body, headers)).status == 401
    assert (await send(lane, "github", body)).status == 200


async def test_only_POST_and_no_more_than_the_limit(lane: GitLane) -> None:
    await hooked(lane)
    path = f"/hooks/git/acme/{path_secret(SECRET)}"
    assert (await lane.site.ask(path)).status in (404, 405)
    async with lane.site.calling() as caller:
        await caller.send(request(path, "POST", {"Content-Length": str(LIMIT.max_bytes + 1)}))
        await caller.send(bytes(LIMIT.max_bytes + 1))
        got = await caller.response("POST")
    assert (got.status, "larger than" in got.text) == (413, True)


async def test_the_url_is_in_no_log_and_the_secret_neither(
    lane: GitLane,
    log: Log,
) -> None:
    await hooked(lane)
    await send(lane, "github", message("github"))
    await send(lane, "github", message("github"), {})
    written = str(log.events("push")) + str(log.events("message not taken"))
    assert "team/x" in written
    for secret in (SECRET, path_secret(SECRET)):
        assert secret not in log.text
