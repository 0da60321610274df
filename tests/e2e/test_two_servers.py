"""Two servers on one data directory: one leads; when it dies the other takes over."""

from contextlib import ExitStack

import pytest

from tests.e2e.process import Server, Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev

NAME = archive_name("go1.99.1")


def leads(server: Server) -> bool:
    """Whether it took the lead at some time."""
    return any(event["event"] == "leading" for event in server.events)


def ran_a_job(server: Server) -> bool:
    """Whether it was the one that ran a job to its end."""
    return any(event["event"] == "job ended" for event in server.events)


@pytest.fixture
def two(site: Site, warm: Warm, fake: FakeGodev, put_release):
    """The leader, and the one that waits."""
    put_release(extra_bytes=1_000_000)
    with ExitStack() as stack:
        first = stack.enter_context(warm.serve(site))
        wait_until(lambda: leads(first), "the lead")
        wait_until(lambda: fake.hits["/dl/"] == 1, "the index")
        yield first, stack.enter_context(warm.serve(site))


def job_of(server: Server, token: str, job_id: str) -> dict:
    answer = server.request("GET", f"/api/v1/jobs/{job_id}", {"Authorization": f"Bearer {token}"})
    return answer.json


def test_the_index_is_read_once_and_both_serve_it(two, fake: FakeGodev) -> None:
    first, second = two
    for server in (first, second):
        assert server.get("/dl/?mode=json&include=all").status == 200
        assert server.get("/dl/").status == 200
    assert fake.hits["/dl/"] == 1
    assert not leads(second)


def test_a_job_asked_of_the_other_server_runs_once_at_the_leader(two, fake: FakeGodev) -> None:
    first, second = two
    headers = {"Authorization": f"Bearer {first.token}"}
    asked = [server.request("POST", "/api/v1/releases/sync", headers).json for server in two]
    for job in asked:
        wait_until(
            lambda job=job: job_of(second, first.token, job["id"])["state"] == "done", "the job"
        )
    assert fake.hits[f"/go/{NAME}"] == 1
    assert ran_a_job(first)
    assert not ran_a_job(second)
    # What one has ingested, both serve.
    assert second.get(f"/dl/{NAME}").status == first.get(f"/dl/{NAME}").status == 200
    assert fake.hits[f"/go/{NAME}"] == 1


def test_when_the_leader_is_killed_the_other_takes_over_and_tells_of_its_job(
    two, fake: FakeGodev
) -> None:
    first, second = two
    token = first.token
    fake.fault(f"/go/{NAME}", Fault.stall("half"))
    asked = first.admin("POST", "/releases/sync").json
    fake.wait_until(lambda: fake.stalled == 1)
    assert job_of(second, token, asked["id"])["state"] == "running"
    first.kill()

    wait_until(lambda: leads(second), "the other's lead")
    wait_until(lambda: job_of(second, token, asked["id"])["state"] == "failed", "its failure")
    assert "ended" in job_of(second, token, asked["id"])["result"]["error"]
    # The lease of the killed download is nobody's any more, so nobody waits for it to run out.
    assert second.get(f"/dl/{NAME}").status == 200
    assert fake.hits[f"/go/{NAME}"] == 2


def test_when_the_leader_stops_the_other_takes_over(two, fake: FakeGodev) -> None:
    first, second = two
    first.stop()
    wait_until(lambda: leads(second), "the other's lead")
    wait_until(lambda: fake.hits["/dl/"] >= 2, "its reading of the index")


def test_cold_requests_at_both_servers_cause_one_download(two, fake: FakeGodev) -> None:
    first, second = two
    assert first.admin("POST", "/releases/sync").status == 202
    bodies = {server.get(f"/dl/{NAME}").body for server in (second, first, second)}
    assert len(bodies) == 1
    assert fake.hits[f"/go/{NAME}"] == 1


def test_a_revoked_token_stops_working_everywhere(two, site: Site, warm: Warm) -> None:
    first, second = two
    made = warm.run(site, "token", "create", "--platform", "--name", "ci", "--json").json
    headers = {"Authorization": f"Bearer {made['token']}"}
    for server in (first, second):
        assert server.request("POST", "/api/v1/releases/sync", headers).status == 202
    assert warm.run(site, "token", "revoke", made["id"]).code == 0
    for server in (first, second):
        wait_until(
            lambda server=server: (
                server.request("POST", "/api/v1/releases/sync", headers).status == 401
            ),
            "the refusal",
            2,
        )
