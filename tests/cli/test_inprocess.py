"""The transport without `--server`: the application in this process, asked as the operator."""

from collections.abc import Iterator

import pytest

from app.cli.api import Api, WrongFieldsError, path_of
from app.cli.inprocess import InProcess, Local, started
from app.core.errors import BadInputError, ConflictError, UnknownError
from app.core.record import Sums
from app.services.assembly import Services
from tests.conftest import MakeSettings
from tests.installation import migrate

SUMS = Sums(f"h1:{'A' * 43}=", f"h1:{'B' * 42}E=")


@pytest.fixture
def local(make_settings: MakeSettings) -> Iterator[Local]:
    settings = make_settings()
    migrate(settings)
    with started(settings) as made:
        yield made


@pytest.fixture
def api(local: Local) -> Api:
    return Api(InProcess(local))


def test_the_operator_needs_no_token_and_is_called_cli_in_the_record(api: Api) -> None:
    assert api.ask("POST", "/tenants", {"name": "acme"})["name"] == "acme"
    [row] = [r for r in api.list("/audit") if r["action"].startswith("tenant.")]
    assert (row["actor"], row["object"]) == ("cli", "tenant:acme")


def test_one_session_answers_many_requests(api: Api) -> None:
    for number in range(3):
        api.ask("POST", "/tenants", {"name": f"t{number}"})
    assert [t["name"] for t in api.list("/tenants")] == ["t0", "t1", "t2"]
    assert api.list("/tenants", most=2) == api.list("/tenants")[:2]
    assert api.ask("DELETE", "/tenants/t1") is None
    assert [t["name"] for t in api.list("/tenants")] == ["t0", "t2"]


def test_refusals_are_the_errors_that_their_statuses_stand_for(api: Api) -> None:
    api.ask("POST", "/tenants", {"name": "acme"})
    with pytest.raises(ConflictError, match="acme"):
        api.ask("POST", "/tenants", {"name": "acme"})
    with pytest.raises(UnknownError, match="there is no tenant"):
        api.ask("GET", path_of("tenants", "a b?"))
    with pytest.raises(WrongFieldsError, match=r"^titel: there is no such key$"):
        api.ask("POST", "/tenants", {"name": "other", "titel": "x"})


def test_a_wrong_field_is_told_where_it_stands_in_the_users_document(api: Api) -> None:
    rules = [{"effect": "deny", "pattern": "x.y"}, {"effect": "never", "pattern": "x.y"}]
    with pytest.raises(WrongFieldsError) as raised:
        api.ask("POST", "/apply", {"document": {"rules": rules}})
    assert str(raised.value).startswith("document.rules[1].effect: Input should be")
    assert str(raised.value.below("document")).startswith("rules[1].effect: Input should be")


def test_a_body_may_be_larger_than_over_the_network(local: Local, api: Api) -> None:
    limit = local.services.shared.settings.limits.admin_body_bytes
    with pytest.raises(BadInputError, match="title"):
        api.ask("POST", "/tenants", {"name": "acme", "title": "x" * limit})


def test_a_url_may_be_longer_than_over_the_network(local: Local, api: Api) -> None:
    name = "x" * local.services.shared.settings.limits.url_bytes
    with pytest.raises(UnknownError, match="there is no tenant"):
        api.ask("GET", path_of("tenants", name))
    with pytest.raises(BadInputError, match="cursor"):
        api.ask("GET", f"/tenants?cursor={name}")


def test_work_that_counts_shows_how_far_it_is(local: Local) -> None:
    shown: list[tuple[int, int]] = []
    api = Api(InProcess(local, lambda done, total: shown.append((done, total))))
    api.ask("POST", "/tenants", {"name": "acme"})
    api.ask("POST", "/tenants/acme/log")

    async def append(services: Services) -> None:
        log = await services.sumdb.logs.of("acme")
        assert log is not None
        await services.sumdb.logs.append(log, "example.com/x", "v1.0.0", SUMS)

    local.run(append)
    assert api.ask("POST", "/tenants/acme/log/verify")["intact"]
    assert shown == [(1, 1)]
