"""What may be a tenant's name and a host that leads to it."""

import pytest

from app.core.errors import BadInputError
from app.core.tenantname import RESERVED, check_host, check_tenant_name

NAMES = ["a", "0", "acme", "team-7", "a" * 63, "default", "x--y"]
BAD_NAMES = [
    "", "-a", "a-", "A", "acme.example", "a_b", "a/b", "a b", "a\n", "ä", "a" * 64, "%61",
    *sorted(RESERVED),
]  # fmt: skip
HOSTS = ["go.example", "localhost", "a", "127.0.0.1", "a-b.c-d", "x" * 63 + ".example"]
BAD_HOSTS = [
    "", "Go.example", "go.example:80", "go.example.", ".example", "a..b", "-a.b", "a-.b", "[::1]",
    "a/b", "a b", "go.example\n", "ä.example", "x" * 64, ".".join(["abc"] * 64),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_one_label_without_a_dot(name: str) -> None:
    check_tenant_name(name)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_a_url_could_mistake_is_refused(name: str) -> None:
    with pytest.raises(BadInputError) as refused:
        check_tenant_name(name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_is_a_lower_case_name_without_a_port(host: str) -> None:
    check_host(host)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_a_host_that_no_request_could_name_is_refused(host: str) -> None:
    with pytest.raises(BadInputError):
        check_host(host)
