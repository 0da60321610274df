"""go.dev's index and the servers of its files. Source: golang/website, internal/dl.

The index is the only source of metadata. File servers give bytes alone, which the caller checks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core.errors import UpstreamAbsentError, UpstreamContentError, UpstreamError
from app.core.releaseindex import MAX_INDEX_BYTES
from app.upstream.gpg import KEYRING_MAX_BYTES, SIGNATURE_MAX_BYTES
from app.upstream.http import HttpClient
from app.upstream.sink import Sink

_INDEX_DEADLINE_S = 60.0
_SIGNATURE_DEADLINE_S = 60.0
_ARMOR = b"-----BEGIN PGP SIGNATURE-----"


@dataclass(frozen=True, slots=True)
class GoDev:
    """One source of metadata and the ordered sources of bytes.

    Attributes:
        index_url: "https://go.dev/dl/".
        files_urls: each ends with "/": ("https://dl.google.com/go/",).
        archive_deadline_s: seconds for one archive from one source, retries included.
    """

    client: HttpClient
    index_url: str
    files_urls: Sequence[str]
    archive_deadline_s: float

    async def index(self) -> bytes:
        """Return the index document of all releases.

        Raises:
            UpstreamError: the index can't be fetched, or is over MAX_INDEX_BYTES.
            OverloadedError: all of our own connections are in use.
        """
        _, body = await self.client.get(
            f"{self.index_url}?mode=json&include=all",
            max_bytes=MAX_INDEX_BYTES,
            deadline_s=_INDEX_DEADLINE_S,
            accept="application/json",
        )
        return body

    async def download(
        self,
        source: str,
        filename: str,
        sink: Sink,
        size_bytes: int,
        progress: Callable[[int], None],
    ) -> str:
        """Write the file's bytes into sink; return their URL.

        Args:
            source: base URL, with "/" at the end.
            filename: "go1.27.1.linux-amd64.tar.gz".
            sink: takes the bytes.
            size_bytes: the length that the file must have.
            progress: called with the bytes so far.

        Raises:
            UpstreamAbsentError: the source doesn't have the file.
            UpstreamError: the file can't be fetched, or its length is not size_bytes.
            OverloadedError: all of our own connections are in use.
        """
        fetched = await self.client.download(
            source + filename,
            sink,
            max_bytes=size_bytes,
            exact_bytes=size_bytes,
            deadline_s=self.archive_deadline_s,
            progress=progress,
        )
        return fetched.url

    async def signature(self, filename: str) -> bytes | None:
        """Return the detached signature of a file, or None if no source has one.

        An empty body counts as no signature. After a body that is no signature, or after a
        failure, the next source is asked.

        Raises:
            UpstreamError: no source has a signature, and at least one failed or answered with
                something else.
            OverloadedError: all of our own connections are in use.
        """
        trouble: UpstreamError | None = None
        for source in self.files_urls:
            try:
                _, body = await self.client.get(
                    f"{source}{filename}.asc",
                    max_bytes=SIGNATURE_MAX_BYTES,
                    deadline_s=_SIGNATURE_DEADLINE_S,
                )
            except UpstreamAbsentError:
                continue
            except UpstreamError as error:
                trouble = trouble or error
                continue
            if body.lstrip().startswith(_ARMOR):
                return body
            if body.strip():
                trouble = trouble or UpstreamContentError(
                    f"{source} answered {filename}.asc with something that is not a signature",
                    origin=source,
                )
        if trouble is not None:
            raise trouble
        return None

    async def key_export(self, url: str) -> bytes:
        """Return an armored key export.

        Raises:
            UpstreamError: the export can't be fetched.
            OverloadedError: all of our own connections are in use.
        """
        _, body = await self.client.get(
            url, max_bytes=KEYRING_MAX_BYTES, deadline_s=_INDEX_DEADLINE_S
        )
        return body
