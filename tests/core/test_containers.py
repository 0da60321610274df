"""Documents of container images, whose bytes never change; paths and tags of the registry."""

import json

import pytest

from app.core.containerimage import (
    EMPTY,
    ImageDocument,
    LayerArchive,
    VerifiedFile,
    index_of,
    make_image,
    make_index,
    make_verdict,
    manifests_of,
    referrers_index,
)
from app.core.containertag import (
    RegistryCode,
    RegistryError,
    RegistryKind,
    RegistryRequest,
    parse_path,
    release_tags,
)
from app.core.digest import Digest
from app.core.gorelease import Release

REAL = LayerArchive(
    "go1.23.1",
    "amd64",
    Digest("49bbb517cfa9eee677e1e7897f7cf9cfdbcf49e05f61984a2789136de359f9bd"),
    73598519,
    Digest("b028640fad0d687525612deb29e16d84f412a20a87552ff1efd79fa1c9428b9b"),
    "2024-08-29T20:56:24Z",
)
A = Digest("a" * 64)


def layer(arch: str, version: str = "go1.23.1") -> LayerArchive:
    return LayerArchive(version, arch, Digest.of(arch.encode()), 10, A, None)


def test_the_digests_of_a_real_release_are_for_ever() -> None:
    """Clients pin them: another byte here would break every Containerfile with a digest."""
    image = make_image(REAL)
    assert image.config.digest.hex == (
        "0a564e8697c94daf4bd2e0f12eb289284b843bc78ae2789e6aebeed37d594560"
    )
    assert image.manifest.digest.hex == (
        "e70da31554cb2ebf08cc69c0eb24e805b0f2378387ccd1c238984637b9b20e62"
    )
    assert make_index("go1.23.1", [image]).digest.hex == (
        "6bf3582b4e7b094fdad1b28e349cf0e814f1c53956c2d0bb538ef39cdaa41e93"
    )


def test_the_layer_is_the_archive_and_the_config_names_its_tar() -> None:
    image = make_image(REAL)
    manifest = json.loads(image.manifest.body)
    [described] = manifest["layers"]
    assert described == {
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "digest": f"sha256:{REAL.sha256}",
        "size": REAL.size_bytes,
    }
    assert manifest["config"]["digest"] == f"sha256:{image.config.digest}"
    config = json.loads(image.config.body)
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{REAL.tar_sha256}"]}
    assert config["created"] == REAL.created
    assert "created" not in json.loads(make_image(layer("amd64")).config.body)


@pytest.mark.parametrize(
    ("arch", "platform"),
    [
        ("amd64", {"architecture": "amd64", "os": "linux"}),
        ("armv6l", {"architecture": "arm", "os": "linux", "variant": "v6"}),
        ("arm64", {"architecture": "arm64", "os": "linux", "variant": "v8"}),
        ("riscv64", {"architecture": "riscv64", "os": "linux"}),
    ],
)
def test_platforms_have_the_words_of_images(arch: str, platform: dict[str, str]) -> None:
    image = make_image(layer(arch))
    [entry] = json.loads(make_index("go1.23.1", [image]).body)["manifests"]
    assert entry["platform"] == platform
    config = json.loads(image.config.body)
    assert {key: config[key] for key in platform} == platform


def test_an_index_does_not_depend_on_the_order_of_its_images() -> None:
    images = [make_image(layer(arch)) for arch in ("s390x", "amd64", "armv6l", "arm64")]
    index = make_index("go1.23.1", images)
    assert index == make_index("go1.23.1", reversed(images)) == index_of(index.body)
    assert set(manifests_of(index)) == {image.manifest.digest for image in images}
    assert manifests_of(images[0].manifest) == ()


def test_a_verdict_refers_to_its_subject_and_has_what_was_signed() -> None:
    image = make_image(REAL)
    files = [VerifiedFile("a.tar.gz", {"state": "verified"}, b"sig"), VerifiedFile("b", {}, None)]
    artifact = make_verdict(image.manifest, files)
    manifest = json.loads(artifact.manifest.body)
    assert manifest["subject"]["digest"] == f"sha256:{image.manifest.digest}"
    assert manifest["artifactType"] == "application/vnd.moorage.verdict.v1+json"
    assert manifest["config"]["digest"] == f"sha256:{EMPTY.digest}"
    titles = [one["annotations"]["org.opencontainers.image.title"] for one in manifest["layers"]]
    assert titles == ["a.tar.gz.verdict.json", "a.tar.gz.asc", "b.verdict.json"]
    named = {one["digest"] for one in (*manifest["layers"], manifest["config"])}
    assert named == {f"sha256:{blob.digest}" for blob in artifact.blobs}
    [entry] = json.loads(referrers_index([artifact]).body)["manifests"]
    assert entry["digest"] == f"sha256:{artifact.manifest.digest}"
    assert entry["artifactType"] == manifest["artifactType"]
    assert json.loads(referrers_index([]).body)["manifests"] == []


def test_tags_are_versions_and_minors() -> None:
    names = ("go1.28rc1", "go1.27.1", "go1.27.0", "go1.20", "go1.20.14", "go1.19")
    tags = release_tags([Release(name, "rc" not in name, ()) for name in names])
    assert tags == {
        "1.28rc1": "go1.28rc1",
        "1.27.1": "go1.27.1",
        "1.27.0": "go1.27.0",
        "1.27": "go1.27.1",
        "1.20": "go1.20.14",
        "1.20.14": "go1.20.14",
        "1.19": "go1.19",
    }


def test_what_paths_ask_for() -> None:
    hex_digest = "a" * 64
    assert parse_path("/v2") == parse_path("/v2/") == RegistryRequest(RegistryKind.PING)
    assert parse_path("/v2/token").kind is RegistryKind.TOKEN
    assert parse_path("/v2/go/tags/list").kind is RegistryKind.TAGS
    assert parse_path("/v2/go/manifests/1.27") == RegistryRequest(RegistryKind.MANIFEST, tag="1.27")
    for kind in ("manifests", "blobs", "referrers"):
        request = parse_path(f"/v2/go/{kind}/sha256:{hex_digest}")
        assert request == RegistryRequest(RegistryKind(kind), Digest(hex_digest))


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/python/manifests/3", 404, "NAME_UNKNOWN"),
        ("/v2/library/go/manifests/1.27", 404, "NAME_UNKNOWN"),
        ("/v2/Go/manifests/1.27", 400, "NAME_INVALID"),
        ("/v2/../go/manifests/1.27", 400, "NAME_INVALID"),
        ("/v2//go/manifests/1.27", 400, "NAME_INVALID"),
        ("/v2/_catalog", 404, "NAME_UNKNOWN"),
        ("/v2/go/", 404, "NAME_UNKNOWN"),
        ("/v2/go/manifests/", 404, "MANIFEST_UNKNOWN"),
        ("/v2/go/manifests/.dot", 404, "MANIFEST_UNKNOWN"),
        ("/v2/go/manifests/" + "x" * 129, 404, "MANIFEST_UNKNOWN"),
        ("/v2/go/manifests/sha256:" + "a" * 63, 400, "DIGEST_INVALID"),
        ("/v2/go/manifests/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
        ("/v2/go/manifests/sha512:" + "a" * 128, 404, "MANIFEST_UNKNOWN"),
        ("/v2/go/blobs/sha256", 400, "DIGEST_INVALID"),
        ("/v2/go/blobs/sha512:" + "a" * 128, 404, "BLOB_UNKNOWN"),
        ("/v2/go/blobs/sha256:" + "a" * 64 + "/x", 404, "NAME_UNKNOWN"),
        ("/v2/go/blobs/uploads/", 405, "UNSUPPORTED"),
        ("/v2/go/blobs/uploads/1234", 405, "UNSUPPORTED"),
        ("/v2/go/referrers/1.27", 400, "DIGEST_INVALID"),
        ("/v2/go/tags/", 404, "NAME_UNKNOWN"),
    ],
)
def test_what_paths_are_refused_for(path: str, status: int, code: str) -> None:
    with pytest.raises(RegistryError) as refusal:
        parse_path(path)
    assert (refusal.value.status, refusal.value.code) == (status, RegistryCode(code))


def test_a_document_is_ascii_without_spaces() -> None:
    document: ImageDocument = make_image(REAL).manifest
    assert document.body.isascii()
    assert document.digest == Digest.of(document.body)
    assert b", " not in document.body
