"""Where a module comes from: routes of a tenant, and names that never go to a public upstream.

The longest pattern wins. A private route is the only place that its names are asked at; the names
under any tenant's private route and under any owned prefix are private for everybody, so that no
tenant's catch-all route can leak them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

from app.core.acl import Owners, PatternText
from app.core.errors import DeniedError
from app.core.modulepattern import Pattern
from app.core.noun import (
    Field,
    Noun,
    Recorded,
    StrictBool,
    StrictInt,
    ValidationInfo,
    Words,
    field_validator,
    line,
    model_validator,
    refuse,
)
from app.core.patternindex import PatternIndex
from app.core.timeouts import CONNECT_S, METADATA_S, ZIP_S

MAX_UPSTREAMS = 10
MAX_CA_BYTES = 256 * 1024
MAX_NOTE_CHARS = 300
ZIP_MAX_S = 7200
MAX_HOST_KEYS_CHARS = 8192
_TTL_MAX_S = 7 * 24 * 3600


class OnAbsent(StrEnum):
    """What a 404 or 410 of an upstream means."""

    NEXT = "next"  # ask the next upstream of the route
    STOP = "stop"  # it is absent


class LogPolicy(StrEnum):
    """Whether a zip of a route has to be in a checksum database before it is served."""

    OFF = "off"
    DEFER = "defer"  # served at once, marked, and checked later
    REQUIRE = "require"


def _seconds(least: float, most: float) -> Any:
    return Field(ge=least, le=most, allow_inf_nan=False, strict=True)


class Upstream(Noun):
    """A GOPROXY or git server; its URL alone stands for one with all defaults.

    url: the base: "https://proxy.golang.org"; or that of git repositories, where "{path}" stands
        for the module path below the route's pattern: "git+https://git.corp.example/{path}.git".
    credential: the name of one of the tenant's credentials; null sends none.
    on_absent: what its 404 means: ask the "next" upstream, or "stop".
    redirect_to: hosts, or origins such as "https://cdn.example:8443", that it may redirect to.
    ca_pem: certificates trusted for it besides the usual ones.
    host_keys: the keys that a git+ssh host may have, one a line: "ssh-ed25519 AAAA…".
    vanity: of a git server: the module's own host, which the route's pattern names, says by a
        `go-import` tag which of the repositories a module is in.
    connect_s, metadata_s, zip_s: seconds for connecting, for a list, .info or .mod, and for a zip;
        of git for listing refs, and for a fetch.
    """

    url: Annotated[str, Field(max_length=2000)]
    credential: Annotated[str, Field(max_length=63)] | None = None
    on_absent: OnAbsent = OnAbsent.NEXT
    redirect_to: Annotated[frozenset[str], Words(max_words=20, max_chars=300)] = frozenset()
    ca_pem: Annotated[str, Field(max_length=MAX_CA_BYTES)] = ""
    host_keys: Annotated[str, Field(max_length=MAX_HOST_KEYS_CHARS)] = ""
    vanity: StrictBool = False
    connect_s: Annotated[float, _seconds(0.1, 60)] = CONNECT_S
    metadata_s: Annotated[float, _seconds(1, 600)] = METADATA_S
    zip_s: Annotated[float, _seconds(1, ZIP_MAX_S)] = ZIP_S

    @model_validator(mode="before")
    @classmethod
    def _of_url(cls, body: Any) -> Any:
        return {"url": body} if isinstance(body, str) else body


class RecordedUpstream(Upstream):
    """One upstream of a route.

    is_platforms: a platform admin wrote its URL. It may have a private address that is not listed
        for the tenant, until somebody of the tenant writes another URL in its place.
        False stays, too, where a platform admin changes the rest of the route.
    """

    # The origin's identity, URL and credential together; content is stored under it.
    origin_id: int = Field(exclude=True)
    credential_id: int | None = Field(exclude=True)
    is_platforms: bool = Field(default=False, exclude=True)


class Route(Noun):
    """A route: where the modules of a pattern come from. The longest pattern that matches is taken.

    private: its names are asked here and nowhere else, by any tenant.
    off: nothing is fetched; what is stored is served.
    forks: accept modules whose go.mod declares another path, for `replace`, on a private route;
        on a public one they are accepted anyway.
    ttl_s: seconds for which lists and other answers that change are fresh.
    log: whether a zip has to be in a checksum database: "off", "defer" or "require"; null means
        "off" for a private route, "defer" for others.
    note: one line for people.
    """

    pattern: PatternText
    upstreams: Annotated[tuple[Upstream, ...], Field(min_length=1, max_length=MAX_UPSTREAMS)]
    private: StrictBool = False
    off: StrictBool = False
    forks: StrictBool = False
    ttl_s: Annotated[StrictInt, Field(ge=0, le=_TTL_MAX_S)] = 300
    log: LogPolicy | None = Field(default=None, validate_default=True)
    note: Annotated[str, *line("note", MAX_NOTE_CHARS)] = ""

    @field_validator("log")
    @classmethod
    def _of_privacy(cls, log: LogPolicy | None, info: ValidationInfo) -> LogPolicy:
        is_private = info.data.get("private", False)
        if is_private and log not in (None, LogPolicy.OFF):
            raise refuse("a private route's modules are in no public log: log must be off")
        return log or (LogPolicy.OFF if is_private else LogPolicy.DEFER)


class RecordedRoute(Route, Recorded):
    """One route; revision is what its ETag says."""

    tenant: str
    upstreams: tuple[RecordedUpstream, ...]
    log: LogPolicy

    def __str__(self) -> str:
        what = "private route" if self.private else "route"
        return f"{what} {self.id} ({self.pattern.text})"


@dataclass(frozen=True, slots=True)
class PrivateNames:
    """The names that no public upstream is ever asked for: those of all tenants together."""

    patterns: Sequence[Pattern] = ()
    owners: Owners = field(default_factory=Owners)
    _index: PatternIndex[Pattern] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = PatternIndex(((p, p) for p in self.patterns), folded=True)
        object.__setattr__(self, "_index", index)

    def why(self, module: str) -> str | None:
        """Return what makes a module's name private in any spelling, or None."""
        if self.owners.of(module) is not None:
            return "its prefix has an owner"
        if self._index.matching(module):
            return "a private route covers it"
        return None


def matching(routes: Sequence[RecordedRoute], module: str) -> list[RecordedRoute]:
    """Return the routes whose patterns match, the longest first; equal ones oldest first."""
    matches = [r for r in routes if r.pattern.matches(module)]
    return sorted(matches, key=lambda r: (r.pattern.specificity, -r.id), reverse=True)


def choose(routes: Sequence[RecordedRoute], module: str) -> RecordedRoute | None:
    """Return the route whose pattern is the longest that matches."""
    return next(iter(matching(routes, module)), None)


def route_for(
    routes: Sequence[RecordedRoute], private_names: PrivateNames, tenant: str, module: str
) -> RecordedRoute:
    """Return the route that a module of a tenant takes.

    Raises:
        DeniedError: no route matches, or the name is private and the route is not.
    """
    route = choose(routes, module)
    if route is None:
        raise DeniedError(
            f"no route of tenant {tenant} serves {module}; an admin can add one", "route"
        )
    if route.private:
        return route
    why = private_names.why(module)
    if why is not None:
        raise DeniedError(
            f"{module} is a private name ({why}), and tenant {tenant} has no private route for it; "
            "it is not asked for in public",
            "private name",
        )
    return route
