"""Walking the upstreams of a route: the first one that has what is asked for answers.

An upstream's 404 or 410 means the next one, or the end, as the route says for that upstream. Once
a later upstream has answered, the absence at the earlier ones is recorded: with that record the
module is served even while the first upstream is down.
"""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from app.core.errors import UpstreamAbsentError
from app.core.published import is_published
from app.core.routing import OnAbsent, RecordedRoute, RecordedUpstream
from app.services.modules.answers import ModuleAnswers, Query

T = TypeVar("T")
ANY_ORIGIN = 0
"""The origin of a query that `first_answer` puts to each origin of a route in turn."""


async def first_answer(
    route: RecordedRoute,
    query: Query,
    ask: Callable[[RecordedUpstream], Awaitable[T | None]],
    answers: ModuleAnswers,
) -> T:
    """Return what the first upstream that has it answers.

    Args:
        route: whose upstreams are asked, in their order.
        query: what is asked for; its `origin_id` is replaced by each upstream's.
        ask: asks one upstream; None passes over it, without recording an absence.
        answers: where absences are recorded.

    Raises:
        UpstreamAbsentError: no upstream has it, or one that ends the search does not. The status is
            410 if every upstream said so, else 404. As in `go`, the last upstream's text counts.
        MoorageError: whatever `ask` raises; nothing else goes on to the next upstream.
    """
    absences: list[tuple[Query, int]] = []
    origin, text = "", ""
    for upstream in route.upstreams:
        try:
            answer = await ask(upstream)
        except UpstreamAbsentError as error:
            if upstream.on_absent is OnAbsent.STOP:
                raise
            absences.append((query.at(upstream.origin_id), error.status or 404))
            origin, text = error.origin, error.upstream_text
            continue
        if answer is None:
            continue
        for absent, status in absences:
            await answers.record_absence(absent, status)
        return answer
    is_gone = bool(absences) and all(status == 410 for _, status in absences)
    nowhere = UpstreamAbsentError(
        f"no upstream has {query}", origin=origin, status=410 if is_gone else 404
    )
    nowhere.upstream_text = text
    raise nowhere


def asked_origins(route: RecordedRoute) -> list[int]:
    """Return the origins that are asked where none has an answer, those of published modules apart.

    What is published is retired or gone by its owner's will: nothing stored takes its place.
    """
    origins = []
    for upstream in route.upstreams:
        if not is_published(upstream.url):
            origins.append(upstream.origin_id)
        if upstream.on_absent is OnAbsent.STOP:
            break
    return origins
