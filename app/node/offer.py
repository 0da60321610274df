"""One release for one platform, as a server offers it: by a manifest, or by the sums of `/dl/`."""

from __future__ import annotations

import contextlib
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .decompress import TAR_GZ, ZST, zstd_way
from .errors import NetworkError, RefusedError
from .manifest import Compressed, Manifest, ManifestFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .fetch import Servers
    from .snapshot import Record

_HEX = re.compile(rb"[0-9a-f]{64}")


@dataclass(frozen=True)
class Offer:
    """What is to be installed, and the digests that everything is checked against.

    Attributes:
        version, platform: "go1.23.1", "linux-amd64".
        base: path of the folder of its files: "/dl/channels/stable/".
        file: digests; a size of 0 is unknown.
        channel, revision, key: of the manifest; "", 0 and "" without one.
        is_whole_checked: whether the archive's own SHA-256 is checked as well. A manifest's sums
            of pieces are signed; those of `/dl/` are not, so there the published sum counts too.
        fetched: small files by name, each fetched once.
    """

    version: str
    platform: str
    base: str
    file: ManifestFile
    channel: str = ""
    revision: int = 0
    key: str = ""
    is_whole_checked: bool = False
    fetched: dict[str, bytes] = field(default_factory=dict)

    def small_file(self, servers: Servers, suffix: str, digest: str) -> bytes:
        """Return the archive's `.tree`, `.chunks` or `.zst.chunks`, checked against its digest.

        Raises:
            NetworkError: no server gave it.
            RefusedError: it is another one.
        """
        name = self.file.filename + suffix
        if name not in self.fetched:
            self.fetched[name] = servers.get(self.base + name)
        if hashlib.sha256(self.fetched[name]).hexdigest() != digest:
            del self.fetched[name]
            raise RefusedError(f"{name} is not the one of the manifest: its SHA-256 is another one")
        return self.fetched[name]

    def form(self, chosen: str = "auto") -> str:
        """Return the form to fetch: ZST if the server has it and this machine can read it.

        Args:
            chosen: "auto", ZST or TAR_GZ.

        Raises:
            RefusedError: ZST was asked for, and the server or this machine has none.
        """
        if chosen == TAR_GZ or (chosen != ZST and not (self.file.zst and zstd_way())):
            return TAR_GZ
        if self.file.zst is None:
            raise RefusedError(f"the server has no .zst of {self.file.filename} (yet)")
        if zstd_way() is None:
            raise RefusedError("this machine can't read .zst: no zstd program, no Python 3.14")
        return ZST

    def form_at(self, servers: Servers, chosen: str = "auto") -> str:
        """Return the form to fetch, after a look whether the `.zst` is the promised one.

        A server may have made the `.zst` anew, with other bytes: "auto" then takes TAR_GZ.

        Raises:
            RefusedError: ZST was asked for, and the server or this machine has none.
            NetworkError: ZST was asked for, and no server gave its sums.
        """
        form = self.form(chosen)
        if form == ZST and self.file.zst is not None:
            try:
                self.small_file(servers, ".zst.chunks", self.file.zst.chunks)
            except (RefusedError, NetworkError):
                if chosen == ZST:
                    raise
                return TAR_GZ
        return form

    def pieces(self, servers: Servers, form: str) -> Iterator[bytes]:
        """Yield the archive's checked pieces in one of its forms.

        Raises:
            NetworkError: no server gave the rest.
            RefusedError: something is not what was promised.
        """
        suffix, size, chunks, sha256 = "", self.file.size, self.file.chunks, self.file.sha256
        if form == ZST and self.file.zst is not None:
            suffix, (size, sha256, chunks) = ".zst", self.file.zst
        sums = self.small_file(servers, f"{suffix}.chunks", chunks)
        path = self.base + self.file.filename + suffix
        pieces = servers.pieces(path, sums, size=size or None)
        if not self.is_whole_checked or not sha256:
            return pieces
        return _checked(pieces, sha256, path)


def _checked(pieces: Iterator[bytes], sha256: str, path: str) -> Iterator[bytes]:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
        yield piece
    if whole.hexdigest() != sha256:
        raise RefusedError(f"{path} is not what was promised: its SHA-256 is {whole.hexdigest()}")


def offer_of_manifest(manifest: Manifest, version: str, platform: str, key: str) -> Offer:
    """Return what a channel offers of a release.

    Raises:
        RefusedError: the channel does not offer it, or not for this platform.
    """
    return Offer(
        version=version,
        platform=platform,
        base=f"/dl/channels/{manifest.channel}/",
        file=manifest.file_of(version, platform),
        channel=manifest.channel,
        revision=manifest.revision,
        key=key,
    )


def offer_of_sums(servers: Servers, version: str, platform: str) -> Offer:
    """Return what `/dl/` offers of a release; the way to the server vouches for the sums.

    Raises:
        NetworkError: no server has the release for this platform, with its derived files.
        RefusedError: the published sum is none.
    """
    filename, base = f"{version}.{platform}.tar.gz", "/dl/"
    raw = servers.get(f"{base}{filename}.sha256").strip()
    if not _HEX.fullmatch(raw):
        raise RefusedError(f"the server's {filename}.sha256 is no SHA-256")
    fetched = {
        filename + suffix: servers.get(base + filename + suffix) for suffix in (".tree", ".chunks")
    }
    with contextlib.suppress(NetworkError):  # not made yet, or never
        fetched[f"{filename}.zst.chunks"] = servers.get(f"{base}{filename}.zst.chunks")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in fetched.items()}
    zst = digests.get(f"{filename}.zst.chunks")
    return Offer(
        version=version,
        platform=platform,
        base=base,
        file=ManifestFile(
            filename=filename,
            size=0,
            sha256=raw.decode(),
            tree=digests[f"{filename}.tree"],
            chunks=digests[f"{filename}.chunks"],
            zst=Compressed(0, "", zst) if zst else None,
        ),
        is_whole_checked=True,
        fetched=fetched,
    )


def offer_of_record(record: Record) -> Offer:
    """Return what mends a snapshot: its own digests count, signed or not.

    From `/dl/`, which has every verified archive: a channel may have moved on since.
    """
    return Offer(
        version=record.version,
        platform=record.platform,
        base="/dl/",
        file=ManifestFile(
            filename=record.filename,
            size=record.size,
            sha256="",
            tree=record.tree,
            chunks=record.chunks,
            zst=Compressed(record.zst_size, "", record.zst_chunks) if record.zst_chunks else None,
        ),
        channel=record.channel,
        revision=record.revision,
        key=record.key,
    )
