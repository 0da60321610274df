"""Fetching one archive into a staged file: sources in order, size and SHA-256 checked."""

from dataclasses import dataclass

from app.core.digest import Digest
from app.core.errors import (
    MoorageError,
    UpstreamAbsentError,
    UpstreamError,
    VerificationError,
)
from app.core.gorelease import ReleaseFile
from app.services.releases.policy import Progress, Report
from app.storage.blobstore import StagedBlob
from app.upstream.godev import GoDev

_TRIES = 2  # wrong bytes are fetched afresh once: a damaged cache on the way


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Gets the bytes of files from the sources, whom it trusts for nothing."""

    godev: GoDev

    async def fetch(
        self, file: ReleaseFile, sha256: Digest, staged: StagedBlob, report: Report
    ) -> str:
        """Fill staged with the file, sealed; return the URL that the right bytes came from.

        Raises:
            VerificationError: a source sent bytes with another SHA-256, and no other had the right.
            UpstreamError: no source has it, or none could be used.
            StorageError: it can't be stored.
        """
        troubles: list[MoorageError] = []
        for source in self.godev.files_urls:
            for _ in range(_TRIES):
                await staged.restart()
                try:
                    url = await self.godev.download(
                        source,
                        file.filename,
                        staged,
                        file.size_bytes,
                        lambda done: report(
                            Progress(file.filename, "fetch", done, file.size_bytes)
                        ),
                    )
                except UpstreamError as error:
                    troubles.append(error)
                    break
                digest = await staged.seal()
                if digest == sha256:
                    return url
                troubles.append(
                    VerificationError(
                        f"{file.filename} from {source} has SHA-256 {digest}, "
                        f"the release index says {sha256}"
                    )
                )
        raise self._worst(file, troubles)

    def _worst(self, file: ReleaseFile, troubles: list[MoorageError]) -> MoorageError:
        """Return the error to answer with; wrong bytes count more than no bytes."""
        wrong = next((t for t in troubles if isinstance(t, VerificationError)), None)
        if wrong is not None:
            return wrong
        if all(isinstance(t, UpstreamAbsentError) for t in troubles):
            # The index promises it, so this is upstream's trouble and not a 404 of ours.
            return UpstreamError(
                f"the release index lists {file.filename}, but no source has it: {troubles[0]}",
                origin=self.godev.files_urls[0],
            )
        return next(t for t in troubles if not isinstance(t, UpstreamAbsentError))
