"""Go releases as container images: indexes, manifests, configs and verdicts, as bytes.

The layer of an image is the release archive itself, so its digest is go.dev's own SHA-256. All else
follows from what is recorded about the archive: every process makes the same bytes, and digests
that clients pinned stay the same. Formats: OCI image-spec 1.1.

Not here: names and tags (`containertag`), which archives are served (`services/releases/images`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.core.digest import Digest
from app.core.gorelease import ARM_NAMES

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
VERDICT_TYPE = "application/vnd.moorage.verdict.v1+json"
SIGNATURE_TYPE = "application/pgp-signature"

_PATH = "PATH=/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIANTS = {"arm": "v6", "arm64": "v8"}
_VERSION_KEY = "org.opencontainers.image.version"
_TITLE_KEY = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True)
class ImageDocument:
    """Bytes with their digest and their media type."""

    body: bytes
    media_type: str
    digest: Digest

    def descriptor(self, **more: object) -> dict[str, object]:
        """Return the descriptor of the document, with further members."""
        return _descriptor(self.media_type, self.digest, len(self.body)) | more


EMPTY = ImageDocument(b"{}", EMPTY_TYPE, Digest.of(b"{}"))
"""The config of an artifact, which has none."""


@dataclass(frozen=True, slots=True)
class LayerArchive:
    """A release archive that can be a layer.

    Attributes:
        version: "go1.27.1".
        arch: go.dev's word: "amd64", "armv6l".
        sha256: of the archive.
        tar_sha256: of the tar in it: the layer's diff_id.
        created: in the archive's VERSION file, RFC 3339; None before Go 1.21.
    """

    version: str
    arch: str
    sha256: Digest
    size_bytes: int
    tar_sha256: Digest
    created: str | None

    @property
    def platform(self) -> dict[str, str]:
        """The platform in the words of images: GOOS, GOARCH, and a variant of arm."""
        architecture = "arm" if self.arch in ARM_NAMES else self.arch
        variant = _VARIANTS.get(architecture)
        return {"architecture": architecture, "os": "linux"} | (
            {"variant": variant} if variant else {}
        )


@dataclass(frozen=True, slots=True)
class Image:
    """An archive as an image of one platform."""

    archive: LayerArchive
    config: ImageDocument
    manifest: ImageDocument

    @property
    def descriptor(self) -> dict[str, object]:
        """The descriptor of the manifest, as an index has it."""
        return self.manifest.descriptor(platform=self.archive.platform)


def make_image(archive: LayerArchive) -> Image:
    """Return the image of an archive."""
    config: dict[str, object] = {
        **archive.platform,
        "config": {"Env": [_PATH], "Labels": {_VERSION_KEY: _plain(archive.version)}},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{archive.tar_sha256}"]},
        "history": [{"created_by": f"{archive.version}, the release archive itself"}],
    }
    if archive.created is not None:
        config["created"] = archive.created
    config_document = _document(config, CONFIG_TYPE)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": config_document.descriptor(),
        "layers": [_descriptor(LAYER_TYPE, archive.sha256, archive.size_bytes)],
        "annotations": _annotations(archive.version),
    }
    return Image(archive, config_document, _document(manifest, MANIFEST_TYPE))


def make_index(version: str, images: Iterable[Image]) -> ImageDocument:
    """Return the index of a release: an image for each platform, sorted by platform."""
    by_platform = sorted(images, key=lambda image: sorted(image.archive.platform.items()))
    return _document(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [image.descriptor for image in by_platform],
            "annotations": _annotations(version),
        },
        INDEX_TYPE,
    )


def index_of(body: bytes) -> ImageDocument:
    """Return the bytes of an index as a document."""
    return ImageDocument(body, INDEX_TYPE, Digest.of(body))


def manifests_of(document: ImageDocument) -> tuple[Digest, ...]:
    """Return the digests of the manifests that an index of ours names; of no index, ()."""
    if document.media_type != INDEX_TYPE:
        return ()
    entries = json.loads(document.body)["manifests"]
    return tuple(Digest(entry["digest"].removeprefix("sha256:")) for entry in entries)


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """What an artifact says of one archive.

    Attributes:
        filename: of the archive.
        verdict: how it was verified, as JSON; the keys are part of the API.
        signature: the detached signature, None where there is none.
    """

    filename: str
    verdict: Mapping[str, object]
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest that refers to an image or an index, and the blobs that it names."""

    manifest: ImageDocument
    blobs: tuple[ImageDocument, ...] = field(default=())

    @property
    def descriptor(self) -> dict[str, object]:
        """The descriptor of the artifact, as a list of referrers has it."""
        return self.manifest.descriptor(artifactType=VERDICT_TYPE)


def make_verdict(subject: ImageDocument, files: Iterable[VerifiedFile]) -> Artifact:
    """Return the artifact that says how the archives of a subject were verified.

    Args:
        subject: the manifest of an image, or an index.
        files: the subject's archives, in the order of the subject.
    """
    layers: list[dict[str, object]] = []
    blobs = [EMPTY]
    for file in files:
        documents = [(f"{file.filename}.verdict.json", _document(file.verdict, VERDICT_TYPE))]
        if file.signature is not None:
            signature = ImageDocument(file.signature, SIGNATURE_TYPE, Digest.of(file.signature))
            documents.append((f"{file.filename}.asc", signature))
        layers += [d.descriptor(annotations={_TITLE_KEY: title}) for title, d in documents]
        blobs += [document for _, document in documents]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": VERDICT_TYPE,
        "config": EMPTY.descriptor(),
        "layers": layers,
        "subject": subject.descriptor(),
    }
    return Artifact(_document(manifest, MANIFEST_TYPE), tuple(blobs))


def referrers_index(artifacts: Iterable[Artifact]) -> ImageDocument:
    """Return the list of the artifacts that refer to a manifest."""
    content = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [artifact.descriptor for artifact in artifacts],
    }
    return _document(content, INDEX_TYPE)


def _annotations(version: str) -> dict[str, str]:
    return {_TITLE_KEY: "Go", _VERSION_KEY: _plain(version)}


def _plain(version: str) -> str:
    return version.removeprefix("go")


def _descriptor(media_type: str, digest: Digest, size_bytes: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": size_bytes}


def _document(content: Mapping[str, object], media_type: str) -> ImageDocument:
    """Return content as JSON: keys sorted, no spaces, ASCII alone."""
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return ImageDocument(body, media_type, Digest.of(body))
