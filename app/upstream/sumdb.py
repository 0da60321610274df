"""A public checksum database over HTTP. Follows golang.org/x/mod/sumdb, server side.

Nothing here trusts the answers: `services/publiclog` verifies them.
"""

from dataclasses import dataclass

from app.core import module as modules
from app.upstream.http import HttpClient

MAX_LOOKUP_BYTES = 64 * 1024
MAX_TILE_BYTES = 256 * 32
MAX_HEAD_BYTES = 64 * 1024
_DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class SumdbServer:
    """One log's server.

    Attributes:
        url: the base, without a slash at the end: "https://sum.golang.org".
    """

    client: HttpClient
    url: str

    async def lookup(self, module: str, version: str) -> bytes:
        """Return the record of a module version with a signed tree head, unverified.

        Raises:
            UpstreamAbsentError: the log can't have that version.
            UpstreamError: the log can't be reached, or refuses.
        """
        name = f"{modules.escape_path(module)}@{modules.escape_version(version)}"
        return await self._get(f"lookup/{name}", MAX_LOOKUP_BYTES)

    async def tile(self, path: str) -> bytes:
        """Return the bytes of a tile, unverified; path is "tile/8/0/x001/234.p/5".

        Raises:
            UpstreamAbsentError: the log has no such tile.
            UpstreamError: the log can't be reached, or refuses.
        """
        return await self._get(path, MAX_TILE_BYTES)

    async def latest(self) -> bytes:
        """Return the newest signed tree head, unverified.

        Raises:
            UpstreamError: the log can't be reached, or refuses.
        """
        return await self._get("latest", MAX_HEAD_BYTES)

    async def _get(self, path: str, max_bytes: int) -> bytes:
        _, body = await self.client.get(
            f"{self.url}/{path}",
            max_bytes=max_bytes,
            deadline_s=_DEADLINE_S,
            follow_to=frozenset(),
        )
        return body
