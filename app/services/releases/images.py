"""The container images of the served archives: every document in memory, for one catalogue.

A release's index names the platforms whose archives are verified, so it changes when another
platform comes in. Each index is recorded before it is handed out: its digest stays resolvable.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app import logs
from app.core.containerimage import (
    Artifact,
    Image,
    ImageDocument,
    LayerArchive,
    VerifiedFile,
    index_of,
    make_image,
    make_index,
    make_verdict,
    manifests_of,
)
from app.core.containertag import release_tags
from app.core.digest import Digest
from app.core.errors import StorageFullError
from app.core.gorelease import Release, ReleaseFileKind
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord
from app.core.withdrawal import Withdrawal
from app.db.engine import Database
from app.db.imageindexes import ImageIndexes
from app.db.room import Room
from app.services.clock import Now
from app.services.releases.catalog import Catalog, CatalogReader

_OS = "linux"
_log = logs.get("images")


@dataclass(frozen=True)
class ImageSet:
    """All images of one generation.

    Attributes:
        tags: releases by tag; channels are not among the tags.
        gone: releases that were withdrawn for good, by tag, layer, and each manifest or index of
            them that was handed out.
        unlisted: tags of retired releases, which are in no list.
        indexes: the present index of each release, by release.
        manifests: indexes, present and past, manifests and artifacts, by digest.
        blobs: configs and what artifacts have, by digest.
        layers: the archives by their digest.
        referrers: the artifact about each index and manifest, by the digest of these.
    """

    generation: int
    tags: Mapping[str, str]
    gone: Mapping[str | Digest, Withdrawal]
    unlisted: frozenset[str]
    indexes: Mapping[str, ImageDocument]
    manifests: Mapping[Digest, ImageDocument]
    blobs: Mapping[Digest, ImageDocument]
    layers: Mapping[Digest, FileRecord]
    referrers: Mapping[Digest, Artifact]


class ReleaseImages:
    """Makes the images of what the catalogue serves."""

    def __init__(self, db: Database, catalog: CatalogReader, now: Now) -> None:
        self._db = db
        self._catalog = catalog
        self._now = now
        self._made: ImageSet | None = None
        self._making = asyncio.Lock()
        self._recorded: set[Digest] = set()

    @property
    def changed_at(self) -> int:
        """The generation of the last change; answers prepared at an earlier one are not valid."""
        return self._catalog.changed_at

    @property
    def generation(self) -> int:
        """The generation that this process read last."""
        return self._catalog.generation

    async def current(self, *, fresh: bool = False) -> ImageSet:
        """Return the images of the present generation.

        Args:
            fresh: read the generation from the database first.
        """
        catalog = await self._catalog.current(fresh=fresh)
        async with self._making:
            if self._made is None or self._made.generation != catalog.generation:
                layers = _layers(catalog)
                withdrawn = _withdrawn(catalog)
                known = {*layers, *(one.release for one in withdrawn.values())}
                past = await self._db.read(lambda s: ImageIndexes(s).of_versions(known))
                self._made = await asyncio.to_thread(_make, catalog, layers, past, withdrawn)
                self._recorded = {index_of(body).digest for _, body in past}
            return self._made

    async def index(self, version: str) -> ImageDocument | None:
        """Return the index of a release, recorded; None if no archive of it can be a layer."""
        index = (await self.current()).indexes.get(version)
        if index is not None and index.digest not in self._recorded:
            await self._record(version, index)
        return index

    async def _record(self, version: str, index: ImageDocument) -> None:
        at = self._now()
        try:
            # A few KiB, once: who pulls from a full disk gets what is stored.
            await self._db.write(
                lambda s: ImageIndexes(s).add(index.digest, version, index.body, at),
                room=Room.BELOW_FLOOR,
            )
        except StorageFullError as error:
            _log.warning("index not recorded", version=version, error=str(error))
            return
        self._recorded.add(index.digest)


def _layers(catalog: Catalog) -> dict[str, list[tuple[FileRecord, Image]]]:
    """Return the archives that can be layers, with their images, by release, newest first."""
    layers: dict[str, list[tuple[FileRecord, Image]]] = {}
    for record in catalog.records.values():
        archive = _layer(catalog, record)
        if archive is not None:
            layers.setdefault(archive.version, []).append((record, make_image(archive)))
    return layers


def _layer(catalog: Catalog, record: FileRecord) -> LayerArchive | None:
    file, derived = record.file, record.derived
    is_archive = file.kind is ReleaseFileKind.ARCHIVE and file.os == _OS
    if not is_archive or not catalog.policy.serves(record):
        return None
    if derived is None or derived.tar_sha256 is None or record.toolchain is None:
        return None  # the tar's digest is computed by the leader; what is no toolchain is no image
    return LayerArchive(
        file.version,
        file.arch,
        record.sha256,
        file.size_bytes,
        derived.tar_sha256,
        record.toolchain.time,
    )


def _make(
    catalog: Catalog,
    layers: Mapping[str, Sequence[tuple[FileRecord, Image]]],
    past: Sequence[tuple[str, bytes]],
    withdrawn: Mapping[Digest, Withdrawal],
) -> ImageSet:
    records = {image.manifest.digest: r for pairs in layers.values() for r, image in pairs}
    indexes = {v: make_index(v, (i for _, i in pairs)) for v, pairs in layers.items()}
    manifests, blobs = {}, {}
    for pairs in layers.values():
        for _, image in pairs:
            manifests[image.manifest.digest] = image.manifest
            blobs[image.config.digest] = image.config
    served = [index_of(body) for version, body in past if version in layers]
    for index in (*served, *indexes.values()):
        manifests[index.digest] = index
    referrers = {}
    for subject in list(manifests.values()):
        digests = manifests_of(subject) or (subject.digest,)
        files = [_verified(records[digest]) for digest in digests if digest in records]
        artifact = make_verdict(subject, files)
        referrers[subject.digest] = artifact
        manifests[artifact.manifest.digest] = artifact.manifest
        blobs |= {blob.digest: blob for blob in artifact.blobs}
    releases = [Release(v, pairs[0][0].stable, ()) for v, pairs in layers.items()]
    tags = release_tags(releases)
    retired = {v for v, pairs in layers.items() if pairs[0][0].withdrawal is not None}
    return ImageSet(
        catalog.generation,
        tags,
        _gone(withdrawn, past),
        frozenset(tag for tag, version in tags.items() if version in retired),
        indexes,
        manifests,
        blobs,
        {record.sha256: record for record in records.values()},
        referrers,
    )


def _withdrawn(catalog: Catalog) -> dict[Digest, Withdrawal]:
    """Return the files of releases that were withdrawn for good."""
    return {
        record.sha256: record.withdrawal
        for record in catalog.records.values()
        if record.withdrawal is not None and record.is_gone
    }


def _gone(
    withdrawn: Mapping[Digest, Withdrawal], past: Sequence[tuple[str, bytes]]
) -> dict[str | Digest, Withdrawal]:
    """Return `ImageSet.gone`; manifests are known by the indexes that were handed out."""
    gone: dict[str | Digest, Withdrawal] = {}
    for digest, withdrawal in withdrawn.items():
        gone[digest] = gone[withdrawal.release.removeprefix("go")] = withdrawal
    by_release = {withdrawal.release: withdrawal for withdrawal in withdrawn.values()}
    for release, body in past:
        if release in by_release:
            index = index_of(body)
            names = (index.digest, *manifests_of(index))
            gone.update(dict.fromkeys(names, by_release[release]))
    return gone


def _verified(record: FileRecord) -> VerifiedFile:
    """Return what the artifact about an archive says; the keys are described in containers.md."""
    file, verdict, toolchain = record.file, record.verdict, record.toolchain
    signature = None
    if verdict is not None and verdict.accepted:
        signature = {
            "detail": verdict.detail,
            "reason": verdict.reason,
            "key": verdict.subkey,
            "primary": verdict.primary,
            "signed_at": verdict.signed_at.isoformat() if verdict.signed_at else None,
            "keyring_sha256": verdict.keyring.hex,
            "gpg_version": verdict.gpg_version,
            "judged_at": verdict.judged_at.isoformat(),
        }
    content = {
        "filename": file.filename,
        "version": file.version,
        "sha256": record.sha256.hex,
        "size": file.size_bytes,
        "state": record.state,
        "index_sha256": record.index.hex,
        "signature": signature,
        "toolchain": toolchain
        and {"version": toolchain.version, "h1": toolchain.h1, "public_log": toolchain.log},
        **({"own": True} if is_own(file.version) else {}),
    }
    return VerifiedFile(file.filename, content, record.signature if signature else None)
