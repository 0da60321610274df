"""What the tests with real processes share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.process import Site
from tests.e2e.warm import Warm, warmed_up
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer


@pytest.fixture
def site(tmp_path: Path, fake: FakeGodev, signer: Signer) -> Site:
    """An installation whose upstream is the fake."""
    return Site.new(tmp_path, fake, signer)


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """Runs commands without an interpreter's start."""
    with warmed_up() as ready:
        yield ready
