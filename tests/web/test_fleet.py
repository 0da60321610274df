"""`/fleet/`: enrolment, check-ins and reports over HTTP, and what a node's token opens."""

import asyncio
import hashlib
import io
import json
import zipfile
from typing import Any

import pytest

from app.core.errors import RateLimitedError
from app.web.limits import NodeRates
from tests.fakes.archives import archive_name
from tests.services.bench import Stopwatch
from tests.web.api import ok
from tests.web.conftest import Put, StartSite
from tests.web.held import held_opening
from tests.web.wire import Got, Site

OLD, NEW = "go1.99.1", "go1.99.2"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
async def site(start_site: StartSite, put: Put) -> Site:
    """A mirror with two verified releases, and a channel that offers the older one."""
    for version in (OLD, NEW):
        put(version)
    one = await start_site()
    await one.services.releases.sync.sync([OLD, NEW])
    await ok(one, "POST", "/channels", {"name": "stable"})
    await ok(one, "POST", "/channels/stable/revisions", {"current": OLD})
    await settle(one)
    return one


async def settle(site: Site) -> None:
    await site.services.fleet.check_ins.flush()
    await site.services.fleet.rollouts.step()
    await site.services.shared.watch.poll()
    await site.services.fleet.view.step()


async def post(site: Site, path: str, body: Any, token: str = "", **headers: str) -> Got:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return await site.ask(f"/fleet/v1/{path}", "POST", headers, data)


async def enrolled(site: Site, name: str = "web-1", channel: str = "stable") -> dict[str, Any]:
    token = (await ok(site, "POST", "/enroll-tokens", {"channel": channel}))["token"]
    got = await post(site, "enroll", {"token": token, "name": name, "facts": {"os": "linux"}})
    assert got.status == 201, got.text
    return dict(json.loads(got.body))


def check(node: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"node": node["node"], "channel": "stable", "current": "", "seen_revision": 0, **more}


async def test_a_machine_enrols_checks_in_updates_and_reports(site: Site) -> None:
    node = await enrolled(site)
    assert set(node) == {"node", "token", "vkey", "channel", "group", "server_time"}
    key = await ok(site, "GET", "/channel-key")
    assert node["vkey"] == key["vkey"]
    got = await post(site, "check", check(node), node["token"], traceparent=TRACEPARENT)
    answer = json.loads(got.body)
    assert set(answer) == {
        "action", "grant", "manifest", "server_time", "next_check_s", "reason",
    }  # fmt: skip
    assert answer["action"] == "update"
    assert 54 <= answer["next_check_s"] <= 66
    manifest = (await site.ask("/dl/channels/stable/manifest")).text
    assert answer["manifest"] == manifest
    report = {
        "node": node["node"], "grant": answer["grant"], "event": "switched",
        "seconds": {"network": 1.25}, "version": OLD,
    }  # fmt: skip
    got = await post(site, "report", report, node["token"], traceparent=TRACEPARENT)
    assert (got.status, got.body) == (204, b"")
    last = {"grant": answer["grant"], "result": "succeeded", "stage": "switched", "reason": ""}
    got = await post(site, "check", check(node, current=OLD, last=last), node["token"])
    assert json.loads(got.body)["action"] == "stay"
    await settle(site)
    shown = await ok(site, "GET", "/nodes/web-1")
    assert (shown["state"], shown["current"], shown["facts"]["os"]) == ("current", OLD, "linux")
    assert [g["outcome"] for g in shown["grants"]] == ["succeeded"]
    assert shown["events"][0]["traceparent"] == TRACEPARENT


async def test_a_nodes_token_opens_its_own_messages_and_its_channels_files_and_nothing_else(
    site: Site,
) -> None:
    node, other = await enrolled(site), await enrolled(site, "web-2")
    bearer = {"Authorization": f"Bearer {node['token']}"}
    got = await post(site, "check", check(other), node["token"])
    assert got.status == 403
    report = {"node": other["node"], "event": "failed"}
    assert (await post(site, "report", report, node["token"])).status == 403
    routes = json.loads((await site.ask("/openapi.json")).body)["paths"]
    for path, verbs in routes.items():
        if not path.startswith("/api/v1"):
            continue
        for method, route in verbs.items():
            if "401" in route["responses"]:
                target = path.replace("{", "").replace("}", "")
                got = await site.ask(target, method.upper(), bearer, b"")
                assert got.status in (401, 422), (method, path, got.status)
    await ok(site, "POST", "/tenants", {"name": "acme"})
    await ok(site, "POST", "/channels", {"name": "payments", "tenants": ["acme"]})
    await ok(site, "POST", "/channels/payments/revisions", {"current": NEW})
    await settle(site)
    assert (await site.ask("/goproxy/acme/example.com/x/@v/list", "GET", bearer)).status == 401
    got = await site.ask("/dl/channels/payments/current", "GET", bearer)
    assert (got.status, "follows channel stable" in got.text) == (403, True)
    payer = await enrolled(site, "pay-1", "payments")
    bearer = {"Authorization": f"Bearer {payer['token']}"}
    got = await site.ask("/dl/channels/payments/current", "GET", bearer)
    assert (got.status, got.text) == (200, f"{NEW}\n")
    assert (await site.ask("/dl/channels/payments/current")).status == 401


async def test_nodes_get_a_candidates_files_and_everybody_else_does_not(site: Site) -> None:
    node = await enrolled(site)
    await ok(site, "POST", "/channels/stable/rollouts", {"current": NEW})
    await settle(site)
    bearer = {"Authorization": f"Bearer {node['token']}"}
    path = f"/dl/channels/stable/{archive_name(NEW)}"
    for _ in range(2):  # prepared answers, too
        assert (await site.ask(path)).status == 404
        assert (await site.ask(path, "GET", bearer)).status == 200
        await site.ask("/dl/channels/stable/SHA256SUMS", "GET", bearer)
        assert NEW not in (await site.ask("/dl/channels/stable/SHA256SUMS")).text
    answer = json.loads((await post(site, "check", check(node), node["token"])).body)
    assert answer["rollout"]
    await ok(site, "POST", f"/rollouts/{answer['rollout']}/promote", {})
    await settle(site)
    assert (await site.ask(path)).status == 200


@pytest.mark.both_shapes
@pytest.mark.parametrize(
    ("action", "change", "status"),
    [("retire", None, 401), ("move", {"channel": "other"}, 403), ("move", {"group": "b"}, 200)],
)
async def test_a_download_is_judged_again_if_its_node_was_changed_meanwhile(
    site: Site, action: str, change: Any, status: int
) -> None:
    await ok(site, "POST", "/tenants", {"name": "acme"})
    await ok(site, "POST", "/channels", {"name": "other"})
    await ok(site, "PATCH", "/channels/stable", {"tenants": ["acme"]})
    node = await enrolled(site)
    await settle(site)
    bearer = {"Authorization": f"Bearer {node['token']}"}
    path = f"/dl/channels/stable/{archive_name(OLD)}"
    for _ in range(2):  # one that is made, then a prepared one
        with held_opening(site) as held:
            asking = asyncio.ensure_future(site.ask(path, "GET", bearer))
            await held.opening.wait()
            await ok(site, "POST", f"/nodes/web-1/{action}", change)
            # What the leader's loops do besides is not waited for.
            await site.services.shared.watch.poll()
            held.released.set()
            assert (await asking).status == status
        if status != 200:
            break


MALFORMED: list[tuple[str, Any, int]] = [
    ("check", b"", 400),
    ("check", b"[]", 400),
    ("check", b"{}", 400),
    ("check", b"[" * 60_000, 400),
    ("check", b'{"node": "\xff"}', 400),
    ("check", b" " * 65_537, 413),
    ("report", {"event": "exploded"}, 400),
    ("enroll", {"token": "x", "name": "a"}, 401),
    ("enroll", {"token": "x", "name": ""}, 400),
    ("enroll", b"{", 400),
    ("nothing", {}, 405),
]


async def test_a_malformed_message_is_one_line(site: Site) -> None:
    node = await enrolled(site)
    for path, body, status in MALFORMED:
        got = await post(site, path, body, node["token"])
        line = (got.status, got.header("content-type"), got.text.count("\n"))
        assert line == (status, "text/plain; charset=utf-8", 1), (path, body[:20])


def test_a_node_may_send_so_many_messages() -> None:
    clock = Stopwatch()
    rates = NodeRates(clock)
    for count, refill_s in ((rates.count_check_in, 1), (rates.count_report, 5)):
        for _ in range(60):
            count("a")
        with pytest.raises(RateLimitedError):
            count("a")
        count("b")
        clock.seconds += refill_s
        count("a")
        with pytest.raises(RateLimitedError):
            count("a")


async def test_a_node_that_reports_without_end_is_limited_and_another_is_not(site: Site) -> None:
    node, other = await enrolled(site), await enrolled(site, "web-2")
    message = {"node": node["node"], "event": "drift"}
    answers = [await post(site, "report", message, node["token"]) for _ in range(75)]
    assert (answers[0].status, answers[-1].status) == (204, 429)
    assert answers[-1].text.startswith("this node sends more reports than one in five seconds")
    assert 1 <= int(answers[-1].header("retry-after") or "") <= 5
    message = {"node": other["node"], "event": "drift"}
    assert (await post(site, "report", message, other["token"])).status == 204


async def test_methods_and_tokens_that_do_not_fit_are_refused(site: Site) -> None:
    node = await enrolled(site)
    assert (await site.ask("/fleet/v1/check")).status == 405
    assert (await site.ask("/fleet/")).status == 404
    for token in ("", "x", node["token"][:-1]):
        got = await post(site, "check", check(node), token)
        assert got.status == 401
        assert got.header("www-authenticate") == 'Bearer realm="moorage"'
    await ok(site, "POST", "/nodes/web-1/retire")
    await settle(site)
    assert (await post(site, "check", check(node), node["token"])).status == 401


async def test_the_node_program_is_served_with_its_sum(site: Site) -> None:
    got = await site.ask("/fleet/moorage-node.pyz")
    assert got.status == 200
    with zipfile.ZipFile(io.BytesIO(got.body)) as program:
        assert "__main__.py" in program.namelist()
    summed = await site.ask("/fleet/moorage-node.pyz.sha256")
    assert summed.text == hashlib.sha256(got.body).hexdigest()
    assert (await site.ask("/fleet/moorage-node.pyz", "HEAD")).body == b""
