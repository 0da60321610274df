"""Git upstreams of routes, for one tenant's request: servers of repositories, with credentials.

Not here: what is asked of them (`gitlistings`, `gitmirrors`), which repository a module is in
(`gitplaces`).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import cast

from app.core.errors import StorageError, UpstreamAbsentError
from app.core.giturl import GitUrl, parse_git_url
from app.core.goimport import MAX_PAGE_BYTES
from app.core.routing import RecordedRoute, RecordedUpstream
from app.core.tenant import Tenant
from app.services.clock import Now
from app.services.upstreams import AnyCredential
from app.upstream.address import AddressGuard
from app.upstream.git import GitDeadlines, GitServer, HttpGitServer
from app.upstream.githubapp import GithubApp, GithubTokens
from app.upstream.gitssh import SshGitServer, SshKey
from app.upstream.goproxy import Goproxies
from app.upstream.http import HttpClient
from app.upstream.url import Credential


@dataclass(frozen=True, slots=True)
class GitSource:
    """A git upstream of a route, for one tenant's request.

    Attributes:
        origin_id: of the upstream.
        url: its URL, taken apart.
        ttl_s: seconds for which a listing is fresh.
        prefix_elements: of the route's pattern.
        tenant: whose share of the runs of git is used.
        server: gives the server of one repository, by what stands for "{path}".
        page: fetches a page of a module's own host, by URL; None where no host is asked.
    """

    origin_id: int
    url: GitUrl
    ttl_s: int
    prefix_elements: int
    tenant: str
    server: Callable[[str], GitServer]
    page: Callable[[str], Awaitable[bytes]] | None = None


class GitSources:
    """Opens git upstreams.

    Args:
        proxies: lend the HTTP clients of upstreams.
        guard: returns the guard of the addresses that tenants with these private hosts may have.
        now: UTC.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        proxies: Goproxies,
        guard: Callable[[tuple[str, ...] | None], AddressGuard],
        now: Now,
        clock: Callable[[], float],
    ) -> None:
        self._proxies = proxies
        self._guard = guard
        self._github = GithubTokens(now, clock)

    def open(
        self,
        route: RecordedRoute,
        upstream: RecordedUpstream,
        credential: AnyCredential | None,
        tenant: Tenant,
    ) -> GitSource:
        """Return a git upstream of a route; see `services.upstreams.GitOpener`.

        Raises:
            StorageError: the credential is of another kind than the URL needs.
        """
        url = parse_git_url(upstream.url)
        hosts = None if upstream.is_platforms else tenant.private_hosts
        deadlines = GitDeadlines(upstream.metadata_s, upstream.zip_s)

        async def authorize(client: HttpClient) -> Credential | None:
            if isinstance(credential, GithubApp):
                return await self._github.credential(credential, url.origin, client)
            return cast(Credential | None, credential)

        async def page(address: str) -> bytes:
            async with self._proxies.lend(upstream, hosts) as client:
                _, body = await client.get(
                    address,
                    max_bytes=MAX_PAGE_BYTES,
                    deadline_s=upstream.metadata_s,
                    follow_to=upstream.redirect_to,
                )
            return body

        def over_http(below: str) -> GitServer:
            return HttpGitServer(
                lambda: self._proxies.lend(upstream, hosts),
                url.repository(below),
                authorize,
                upstream.redirect_to,
                deadlines,
            )

        def over_ssh(below: str) -> GitServer:
            key = cast(SshKey, credential)
            return SshGitServer(self._guard(hosts), url, below, key, upstream.host_keys, deadlines)

        if url.is_ssh != isinstance(credential, SshKey):
            raise StorageError(
                "git+ssh needs a credential of kind ssh_key, git+https one of another kind"
            )
        return GitSource(
            upstream.origin_id,
            url,
            route.ttl_s,
            route.pattern.elements,
            tenant.name,
            over_ssh if url.is_ssh else over_http,
            page if upstream.vanity else None,
        )


def absent(message: str, source: GitSource, text: str) -> UpstreamAbsentError:
    """Return the error of what is not there; text is for clients of public routes."""
    error = UpstreamAbsentError(message, origin=source.url.origin, status=404)
    error.upstream_text = text
    return error


def folder_name(below: str) -> str:
    """Return the name of the mirror of a repository."""
    return sha256(below.encode()).hexdigest()[:32]


def turn(what: str, source: GitSource, below: str) -> str:
    """Return the name of a turn at a repository: one process at a time lists, or fetches."""
    return f"git {what}:{source.origin_id}:{folder_name(below)}"
