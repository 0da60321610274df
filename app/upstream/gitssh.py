"""Git servers behind ssh: OpenSSH's client makes the connection, the protocol is spoken here.

The address is checked before, and ssh connects to the address itself; the host's key must be one
that the route pins. The private key is a file in memory that only this user can open, by a name
below /proc: it is in no argument, no environment and on no disk. ssh reads no configuration, asks
nobody, forwards nothing, and ends with its whole process group.
"""

import asyncio
import os
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from app.core.errors import (
    BadInputError,
    DeniedError,
    UpstreamAbsentError,
    UpstreamContentError,
    UpstreamCredentialError,
    UpstreamError,
    UpstreamTimeoutError,
    UpstreamUnavailableError,
)
from app.core.gitprotocol import (
    MAX_REFS_BYTES,
    Mark,
    Packet,
    PacketReader,
    fetch_request,
    list_refs_request,
    read_advertisement,
    read_refs,
)
from app.core.giturl import GitUrl
from app.upstream.address import AddressGuard
from app.upstream.git import GitDeadlines, GitListing, PackSink, refused
from app.upstream.gitprogram import environment, kill_group
from app.upstream.sink import Sink

_CHUNK_BYTES = 1 << 16
_MAX_WORDS_BYTES = 8192
_CONNECT_S = 10
# What git, GitHub, GitLab, Gitea and Bitbucket say of a repository that is not there for us.
_ABSENT = (
    b"does not appear to be a git repository",
    b"repository not found",
    b"could not be found",
    b"does not exist",
    b"cannot find repository",
)
_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "GlobalKnownHostsFile=/dev/null",
    "VerifyHostKeyDNS=no",
    "CheckHostIP=no",
    "IdentitiesOnly=yes",
    "IdentityAgent=none",
    "PreferredAuthentications=publickey",
    "PubkeyAuthentication=yes",
    "PasswordAuthentication=no",
    "KbdInteractiveAuthentication=no",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "PermitLocalCommand=no",
    "ProxyCommand=none",
    "ProxyJump=none",
    "ControlMaster=no",
    "ControlPath=none",
    "RequestTTY=no",
    "EscapeChar=none",
    "SendEnv=GIT_PROTOCOL",
    "ServerAliveInterval=15",
    "ServerAliveCountMax=4",
    f"ConnectTimeout={_CONNECT_S}",
    "LogLevel=ERROR",
)


@dataclass(frozen=True, slots=True)
class SshKey:
    """A private key, as OpenSSH writes it, without a passphrase."""

    pem: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SshGitServer:
    """A repository behind ssh.

    Attributes:
        guard: checks the addresses of the host.
        url: of the upstream.
        below: what stands for "{path}" in it.
        host_keys: the pinned keys of the host, one a line: "ssh-ed25519 AAAA…".
    """

    guard: AddressGuard
    url: GitUrl
    below: str
    key: SshKey
    host_keys: str
    deadlines: GitDeadlines

    @property
    def shown(self) -> str:
        """The repository, for messages."""
        return self.url.repository(self.below)

    async def list_refs(self) -> GitListing:
        """Return the branches and tags; see `GitServer.list_refs`."""
        async with self._deadline(self.deadlines.list_s), self._connected() as wire:
            first = await wire.section()
            with refused(self.shown):
                said = await asyncio.to_thread(read_advertisement, first)
            refs = said.refs
            if refs is None:
                await wire.send(list_refs_request(said.object_format))
                listed = await wire.section()
                with refused(self.shown):
                    refs = await asyncio.to_thread(read_refs, listed)
            await wire.send(Mark.FLUSH.value)
        return GitListing(refs, self.shown, said.version, said.object_format)

    async def fetch(
        self, listing: GitListing, wants: list[str], haves: list[str], sink: Sink, max_bytes: int
    ) -> None:
        """Write a pack into sink; see `GitServer.fetch`."""
        async with self._deadline(self.deadlines.fetch_s), self._connected() as wire:
            first = await wire.section()
            with refused(self.shown):
                said = await asyncio.to_thread(read_advertisement, first)
            pack = PackSink(sink, said.version, self.shown)
            await pack.restart()
            await wire.send(fetch_request(said.version, said.object_format, wants, haves))
            await wire.pass_on(pack, max_bytes)
            pack.finish()

    @asynccontextmanager
    async def _deadline(self, seconds: float) -> AsyncIterator[None]:
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                yield
        except TimeoutError as error:
            if not scope.expired():
                raise
            message = f"{self.shown} gave no complete answer within {seconds:g} s"
            raise UpstreamTimeoutError(message, origin=self.url.origin) from error

    async def _address(self) -> str:
        try:
            return (await self.guard.addresses(self.url.host, self.url.port))[0]
        except DeniedError as error:
            raise UpstreamError(str(error), origin=self.url.origin) from error
        except OSError as error:
            message = f"{self.url.origin}: the name does not resolve"
            raise UpstreamUnavailableError(message, origin=self.url.origin) from error

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["_Wire"]:
        """Return a context with a running git-upload-pack on the server."""
        address = await self._address()
        known = "".join(f"moorage {line}\n" for line in self.host_keys.splitlines() if line)
        with in_memory(self.key.pem.rstrip("\n") + "\n") as key, in_memory(known) as hosts:
            process = await self._start(address, key, hosts)
            wire = _Wire(process, self)
            try:
                yield wire
            finally:
                await wire.end()

    async def _start(self, address: str, key: Path, hosts: Path) -> Process:
        path = self.url.repository_path(self.below)
        if not path.startswith("/") or "'" in path or "\\" in path:
            raise BadInputError("the repository's path can't be asked for by ssh")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        try:
            return await asyncio.create_subprocess_exec(
                "ssh", "-F", "none", "-T", "-a", "-x", *options,
                "-o", f"UserKnownHostsFile={hosts}",
                "-o", "HostKeyAlias=moorage",
                "-i", str(key), "-p", str(self.url.port), "-l", self.url.user,
                "--", address, f"git-upload-pack '{path}'",
                stdin=PIPE, stdout=PIPE, stderr=PIPE,
                env=environment() | {"GIT_PROTOCOL": "version=2"},
                cwd="/", start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            message = f"ssh can't be run: {error.strerror}"
            raise UpstreamUnavailableError(message, origin=self.url.origin) from error


class _Wire:
    """What goes to and fro between us and git-upload-pack."""

    def __init__(self, process: Process, server: SshGitServer) -> None:
        self._process = process
        self._server = server
        self._packets = PacketReader()
        self._early: list[Packet] = []
        self._words = asyncio.ensure_future(_first_words(process))

    async def send(self, content: bytes) -> None:
        """Write a request."""
        stdin = self._process.stdin
        if stdin is None:
            return
        with suppress(ConnectionError):
            stdin.write(content)
            await stdin.drain()

    async def section(self) -> list[Packet]:
        """Return the pkt-lines up to the next flush.

        Raises:
            UpstreamError: the connection ended before.
        """
        packets, size_bytes = self._early, 0
        self._early = []
        while Mark.FLUSH not in packets[-1:]:
            chunk = await self._read()
            size_bytes += len(chunk)
            if not chunk:
                raise await self._trouble()
            if size_bytes > MAX_REFS_BYTES:
                message = f"{self._server.shown} lists more than {MAX_REFS_BYTES} bytes of refs"
                raise UpstreamContentError(message, origin="")
            with refused(self._server.shown):
                for packet in self._packets.feed(chunk):
                    packets.append(packet)
        return packets

    async def pass_on(self, pack: PackSink, max_bytes: int) -> None:
        """Give all bytes up to the end of the pack to a sink."""
        size_bytes = 0
        while not pack.is_complete:
            chunk = await self._read()
            if not chunk:
                return
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                message = f"{self._server.shown} sent more than {max_bytes} bytes"
                raise UpstreamContentError(message, origin="")
            await pack.write(chunk)

    async def _read(self) -> bytes:
        stdout = self._process.stdout
        return b"" if stdout is None else await stdout.read(_CHUNK_BYTES)

    async def _trouble(self) -> UpstreamError:
        """Return the error for a connection that ended early, by what ssh or the server said."""
        words = (await self._words).lower()
        code = await self._process.wait()
        origin, shown = self._server.url.origin, self._server.shown
        if any(text in words for text in _ABSENT):
            return UpstreamAbsentError(f"{shown} is not there", origin=origin, status=404)
        if b"host key verification failed" in words or b"host key is known" in words:
            return UpstreamError(
                f"{shown}: the host's key is none of those that the route pins", origin=origin
            )
        if b"permission denied" in words:
            return UpstreamCredentialError(
                f"{shown} refuses the ssh key", origin=origin, kind="ssh key"
            )
        message = f"{shown}: the connection ended early, exit code {code}"
        return UpstreamUnavailableError(message, origin=origin)

    async def end(self) -> None:
        """End the process and its group."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        # Not Process.kill: it reaps a process that has just ended, and asyncio waits in vain.
        if self._process.returncode is None:
            kill_group(self._process.pid)
        self._words.cancel()
        with suppress(asyncio.CancelledError):
            await self._words
        await asyncio.shield(self._process.wait())


async def _first_words(process: Process) -> bytes:
    """Return the beginning of what a process says on stderr, and drop the rest."""
    kept = b""
    while process.stderr is not None and (chunk := await process.stderr.read(_CHUNK_BYTES)):
        kept += chunk[: _MAX_WORDS_BYTES - len(kept)]
    return kept


@contextmanager
def in_memory(text: str) -> Iterator[Path]:
    """Return a context with a file that has a text, mode 0600; on Linux it is in memory alone."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("moorage", os.MFD_CLOEXEC)
        try:
            os.fchmod(descriptor, 0o600)
            os.write(descriptor, text.encode())
            yield Path(f"/proc/{os.getpid()}/fd/{descriptor}")
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile("w") as file:  # mode 0600
        file.write(text)
        file.flush()
        yield Path(file.name)
