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

_TRIES = 2  # after wrong bytes the source is tried once more: a cache on the way may be damaged


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Downloads files from the sources, and checks all bytes: no source is trusted."""

    godev: GoDev

    async def fetch(
        self, file: ReleaseFile, sha256: Digest, staged: StagedBlob, report: Report
    ) -> str:
        """Download the file into staged, seal it, and return the URL of the right bytes.

        Raises:
            VerificationError: a source sent bytes with a wrong SHA-256, and no source the right
                bytes.
            UpstreamError: no source has the file, or no source could be used.
            StorageError: the file can't be stored.
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
        raise self._worst_error(file, troubles)

    def _worst_error(self, file: ReleaseFile, troubles: list[MoorageError]) -> MoorageError:
        """Return the error for the caller; wrong bytes take precedence over no bytes."""
        wrong = next((t for t in troubles if isinstance(t, VerificationError)), None)
        if wrong is not None:
            return wrong
        if all(isinstance(t, UpstreamAbsentError) for t in troubles):
            # The index lists the file, so this is a failure of upstream, never a 404.
            return UpstreamError(
                f"the release index lists {file.filename}, but no source has it: {troubles[0]}",
                origin=self.godev.files_urls[0],
            )
        return next(t for t in troubles if not isinstance(t, UpstreamAbsentError))
