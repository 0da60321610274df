"""A decision that is made again where the policy changed before the first byte went out.

Upstream, a turn for a stream (90 s at most) and the proof of a blob's bytes take their time, and
meanwhile a token may be revoked or a release withdrawn. For `/dl` and `/v2`; `goproxy` has its own.
"""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from app.core.errors import OverloadedError
from app.storage.blobstore import OpenBlob
from app.web.responses import Answer
from app.web.sending import Sender, is_stream
from app.web.streaming import Scope

DECISIONS = 3
"""How often one request is judged, at most."""


@dataclass(frozen=True, slots=True)
class Judge:
    """Prepares answers, each by the policy of the moment at which it is ready to go out.

    Attributes:
        generation: returns the generation that this process read last.
        since: returns the generation of the last change of what decides.
    """

    sender: Sender
    generation: Callable[[], int]
    since: Callable[[], int]

    async def ready(
        self,
        hit: Answer | None,
        decide: Callable[[], Awaitable[tuple[Answer, OpenBlob | None]]],
        scope: Scope,
        turns: AsyncExitStack,
        who: str,
    ) -> tuple[Answer, OpenBlob | None]:
        """Return an answer that may go out now, and its opened blob, which the caller closes.

        A stream has its turn then, until turns ends.

        Args:
            hit: a prepared answer that was valid when this is called, or None.
            decide: makes an answer; it opens the blob or leaves that.
            scope: of the request.
            turns: holds the turn.
            who: the address or tenant whose share of the turns is used.

        Raises:
            OverloadedError: no turn came in time, or every decision was overtaken by a change.
            MoorageError: whatever `decide` raises, or the blob can't be opened.
        """
        seen, answer, blob, has_turn = self.generation(), hit, None, False
        for _ in range(DECISIONS):
            try:
                if answer is None:
                    answer, blob = await decide()
                if is_stream(answer, scope):
                    if not has_turn:
                        await turns.enter_async_context(self.sender.turn(who))
                        has_turn = True
                    if blob is None and answer.blob is not None:
                        blob = await self.sender.open(answer.blob, answer.size_bytes)
            except BaseException:
                _close(blob)
                raise
            if answer.status >= 400 or seen >= self.since():
                return answer, blob
            _close(blob)
            seen, answer, blob = self.generation(), None, None
        raise OverloadedError("the rules changed again and again meanwhile; try again")


def _close(blob: OpenBlob | None) -> None:
    if blob is not None:
        blob.close()
