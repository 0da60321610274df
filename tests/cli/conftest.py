"""Commands run as real processes here; see e2e/process.py and e2e/warm.py."""

from tests.e2e.conftest import site, warm

__all__ = ["site", "warm"]
