"""Where a module comes from: routes of a tenant, and names that never go to a public upstream.

The longest pattern wins. A private route is the only place that its names are asked at; the names
under any tenant's private route and under any owned prefix are private for everybody, so that no
tenant's catch-all route can leak them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.core.acl import Ownership
from app.core.errors import DeniedError
from app.core.modulepattern import Pattern

DEFAULT_TTL_S = 300


class OnAbsent(StrEnum):
    """What a 404 or 410 of an upstream means."""

    NEXT = "next"  # ask the next upstream of the route
    STOP = "stop"  # it is absent


class LogPolicy(StrEnum):
    """Whether a zip of a route has to be in a checksum database before it is served."""

    OFF = "off"
    DEFER = "defer"  # served at once, marked, and checked later
    REQUIRE = "require"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A GOPROXY server in a route.

    Attributes:
        origin_id: the origin's identity, URL and credential together; content is stored under it.
        url: the base, without a slash at the end: "https://proxy.golang.org".
        credential: its id, or None for anonymous access.
        redirect_to: hosts and origins besides its own that it may redirect to.
        connect_s: seconds that connecting may take.
        metadata_s: seconds for a list, .info or .mod, retries included.
        zip_s: seconds for a zip.
        ca_pem: PEM certificates trusted for this upstream besides the usual ones; "" for none.
    """

    origin_id: int
    url: str
    on_absent: OnAbsent = OnAbsent.NEXT
    credential: int | None = None
    redirect_to: frozenset[str] = frozenset()
    connect_s: float = 5.0
    metadata_s: float = 60.0
    zip_s: float = 900.0
    ca_pem: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where the modules of a pattern come from.

    Attributes:
        private: its names are asked here and nowhere else.
        off: nothing is fetched; what is stored is served.
        forks: accept modules whose go.mod declares another path (for `replace`).
        ttl_s: seconds for which lists and other answers that change are fresh.
        log: the checksum database's part.
    """

    id: int
    tenant: str
    pattern: Pattern
    upstreams: tuple[Upstream, ...]
    private: bool = False
    off: bool = False
    forks: bool = False
    ttl_s: int = DEFAULT_TTL_S
    log: LogPolicy = LogPolicy.DEFER

    def __str__(self) -> str:
        what = "private route" if self.private else "route"
        return f"{what} {self.id} ({self.pattern.text})"


@dataclass(frozen=True, slots=True)
class PrivateNames:
    """The names that no public upstream is ever asked for: those of all tenants together."""

    patterns: Sequence[Pattern] = ()
    ownerships: Sequence[Ownership] = ()

    def why(self, module: str) -> str | None:
        """Return what makes a module's name private, or None."""
        for ownership in self.ownerships:
            if ownership.covers(module):
                return "its prefix has an owner"
        if any(pattern.matches(module) for pattern in self.patterns):
            return "a private route covers it"
        return None


def matching(routes: Sequence[Route], module: str) -> list[Route]:
    """Return the routes whose patterns match, the longest first; equal ones oldest first."""
    found = [r for r in routes if r.pattern.matches(module)]
    return sorted(found, key=lambda r: (r.pattern.specificity, -r.id), reverse=True)


def choose(routes: Sequence[Route], module: str) -> Route | None:
    """Return the route whose pattern is the longest that matches."""
    return next(iter(matching(routes, module)), None)


def route_for(
    routes: Sequence[Route], private_names: PrivateNames, tenant: str, module: str
) -> Route:
    """Return the route that a module of a tenant takes.

    Raises:
        DeniedError: no route matches, or the name is private and the route is not.
    """
    route = choose(routes, module)
    if route is None:
        raise DeniedError(f"no route of tenant {tenant} serves {module}; an admin can add one")
    if route.private:
        return route
    why = private_names.why(module)
    if why is not None:
        raise DeniedError(
            f"{module} is a private name ({why}), and tenant {tenant} has no private route for it; "
            "it is not asked for in public"
        )
    return route
