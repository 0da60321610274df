"""What the tests with real processes share."""

from pathlib import Path

import pytest

from tests.e2e.process import Site
from tests.fakes.godev import FakeGodev
from tests.fakes.signer import Signer


@pytest.fixture
def site(tmp_path: Path, fake: FakeGodev, signer: Signer) -> Site:
    """An installation whose upstream is the fake."""
    return Site.new(tmp_path, fake, signer)
