"""What runs beside the victim: the base of every scenario of `python -m bench victim`.

A new scenario is a subclass in a file of its own, and a line in `SCENARIOS` of `bench/victim.py`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import httpx

from app.services.assembly import Services
from bench.report import Result
from tests.fakes.modules import Module


@dataclass(frozen=True, slots=True)
class Site:
    """The Moorage of a turn, with one worker, and its upstream.

    Attributes:
        url: of Moorage, with a slash at the end.
        pid: of its first process.
        upstream: the upstream's URL, without a slash at the end.
        victim: the URL that is sampled.
        api: asks the admin API as a platform admin; its base is `/api/v1`.
        folder: for files of the scenario.
    """

    url: str
    pid: int
    upstream: str
    victim: str
    api: httpx.AsyncClient
    folder: Path


@dataclass
class Scenario:
    """One disturbance. The base disturbs nobody, and has no aim.

    Attributes:
        results: figures besides the victim's; `run` may add some.
    """

    what: ClassVar[str] = "nothing"
    """How people call it, after the words "beside"."""
    p99_ms: ClassVar[float | None] = None
    max_ms: ClassVar[float | None] = None
    """The aims: the victim's p99 and maximum stay below these."""
    upstream_options: ClassVar[tuple[str, ...]] = ()
    """Of `python -m tests.fakes.goproxy`: `("--latency", "5")`."""
    environment: ClassVar[dict[str, str]] = {}
    """Settings of Moorage besides the usual ones, as they stand in the environment."""

    results: list[Result] = field(default_factory=list)

    def modules(self) -> list[Module]:
        """Return the modules that the upstream serves besides the victim's."""
        return []

    def fill(self, cache: Path) -> None:
        """Write more into the upstream's folder, as in a module cache's cache/download."""

    async def record(self, services: Services, upstream: str) -> None:
        """Record tenants and rules in the database, before Moorage starts.

        The tenant "victim" is recorded: open to read, allows all, everything from the upstream.
        """

    async def run(self, site: Site) -> None:
        """Disturb until cancelled; what ends earlier leaves the victim alone for the rest."""
