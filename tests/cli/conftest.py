"""Commands run as real processes here; see e2e/process.py and e2e/warm.py."""

from collections.abc import Iterator

import pytest

from tests.cli.port import Port, Way, served_port
from tests.e2e.conftest import site, warm
from tests.e2e.warm import Warm

__all__ = ["port", "site", "tenant", "warm", "way"]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Port]:
    """An installation that is served, for the tests of one module."""
    folder = tmp_path_factory.mktemp("port")
    with served_port(folder, warm, public_url="https://moorage.example") as one:
        yield one


@pytest.fixture(params=["here", "there"])
def way(request: pytest.FixtureRequest, port: Port) -> Way:
    """Both ways that a command goes, one after the other."""
    return Way(port, request.param)


@pytest.fixture
def tenant(way: Way) -> Iterator[str]:
    """A tenant of its own for one test."""
    name = f"acme-{way.where}"
    assert way("tenant", "create", name).code == 0
    yield name
    assert way("tenant", "remove", name, "--yes").code == 0
