"""Settings of the release mirror and of fleets."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from app.settings import values
from app.settings.sections.fields import (
    FILE_FORM,
    URL_FORM,
    YEAR_S,
    BaseUrl,
    HttpUrl,
    NotEmpty,
    Section,
    TrustedFile,
    Unique,
    Whole,
)
from app.settings.values import Form

GOOGLE_FINGERPRINT = "EB4C1BFD4F042F6DDDCCEC917721F63BD38B4796"
_Word = Annotated[str, AfterValidator(values.platform_word)]
_Fingerprint = Annotated[str, AfterValidator(values.fingerprint)]
_Pin = Annotated[str, AfterValidator(values.pin)]


class Select(Section):
    """The selection of files that `releases sync` mirrors."""

    stable_only: Annotated[bool, Field(description="Leave out betas and release candidates.")] = (
        True
    )
    minors: Annotated[
        Whole,
        Field(ge=0, le=1000, description="How many of the newest minor lines (1.27, 1.26 …)."),
    ] = 2
    patches: Annotated[
        Whole, Field(ge=1, le=1000, description="How many of the newest patches of each minor.")
    ] = 1
    os: Annotated[
        tuple[_Word, ...],
        NotEmpty,
        Unique,
        Form('a JSON list of GOOS words, at least one: ["linux", "darwin"]'),
        Field(description="Operating systems (GOOS)."),
    ] = ("linux", "darwin", "windows")
    arch: Annotated[
        tuple[_Word, ...],
        NotEmpty,
        Unique,
        Form('a JSON list of GOARCH words, at least one: ["amd64", "arm64"]'),
        Field(description="Processor architectures (GOARCH)."),
    ] = ("amd64", "arm64")
    kinds: Annotated[
        tuple[Literal["archive", "installer", "source"], ...],
        NotEmpty,
        Unique,
        Form('a JSON list of "archive", "installer" and "source", at least one'),
        Field(description="Kinds of files: archive, installer, source."),
    ] = ("archive", "source")
    pins: Annotated[
        tuple[_Pin, ...],
        Unique,
        Form('a JSON list of Go releases or lines: ["go1.25.3"]'),
        Field(description="Releases mirrored in addition, a company's own long-term choices."),
    ] = ()
    on_demand: Annotated[
        bool,
        Field(description="Also fetch, verify and offer any other file of the index when asked."),
    ] = True


class Zstd(Section):
    """The zstd forms of archives, which nodes fetch instead of the .tar.gz."""

    enabled: Annotated[
        bool,
        Field(
            description="Compress each verified .tar.gz archive anew with zstd, in the background."
        ),
    ] = True
    level: Annotated[
        Whole,
        Field(
            ge=1,
            le=19,
            description="Level of zstd. 19 makes the smallest files, takes one to two minutes of"
            " one core for an archive, and 130 MiB of memory meanwhile; 9 takes 5 seconds.",
        ),
    ] = 19
    niceness: Annotated[
        Whole,
        Field(
            ge=0,
            le=19,
            description="How far the one process that compresses stands behind all others for the"
            " processor.",
        ),
    ] = 19


class Releases(Section):
    """Go releases: sources, verification, selection, schedule."""

    index_url: Annotated[
        HttpUrl,
        URL_FORM,
        Field(description="The release index, the only source of metadata."),
    ] = "https://go.dev/dl/"
    files_urls: Annotated[
        tuple[BaseUrl, ...],
        NotEmpty,
        Unique,
        Form('a JSON list of https:// URLs, at least one: ["https://dl.google.com/go/"]'),
        Field(description="Sources of archives and signatures, tried in this order; untrusted."),
    ] = ("https://dl.google.com/go/",)
    keyring: Annotated[
        TrustedFile | None,
        FILE_FORM,
        Field(
            description="Armored public keys that sign releases. None: the built-in key of Google."
        ),
    ] = None
    keyring_url: Annotated[
        HttpUrl | None,
        BeforeValidator(values.none_if_empty),
        Form('an https:// URL without user, query and fragment, or "" for none'),
        Field(description="Where `releases keys refresh --fetch` reads a newer key export."),
    ] = "https://dl.google.com/linux/linux_signing_key.pub"
    pinned_fingerprints: Annotated[
        tuple[_Fingerprint, ...],
        NotEmpty,
        Unique,
        Form(f'a JSON list of 40 hex characters each, at least one: ["{GOOGLE_FINGERPRINT}"]'),
        Field(description="Primary keys that a signature must lead to (OpenPGP fingerprints)."),
    ] = (GOOGLE_FINGERPRINT,)
    own_keyring: Annotated[
        TrustedFile | None,
        FILE_FORM,
        Field(
            description="Armored public keys that sign releases of your own. None: no such keys."
        ),
    ] = None
    own_fingerprints: Annotated[
        tuple[_Fingerprint, ...],
        Unique,
        Form("a JSON list of 40 hex characters each"),
        Field(
            description="Primary keys that a signature of an own release must lead to. go.dev's"
            " releases are never accepted by them, and own releases never by the keys of go.dev."
        ),
    ] = ()
    sha256_only: Annotated[
        tuple[Literal["tar.gz", "zip", "msi", "pkg"], ...],
        Unique,
        Form('a JSON list of "tar.gz", "zip", "msi" and "pkg"'),
        Field(
            description="Suffixes offered on SHA-256 alone where upstream publishes no signature."
        ),
    ] = ("zip", "msi", "pkg")
    select: Annotated[Select, Field(description="Which files are mirrored.")] = Select()
    images_need_token: Annotated[
        bool,
        Field(
            description="Whether container images below /v2/ are pulled with a token only. False:"
            " by everybody, but for channels that are limited to tenants."
        ),
    ] = False
    zstd: Annotated[Zstd, Field(description="A smaller form of archives for nodes.")] = Zstd()
    refresh_s: Annotated[
        Whole, Field(ge=1, le=YEAR_S, description="Seconds between two reads of the index.")
    ] = 3600
    sync_s: Annotated[
        Whole,
        AfterValidator(values.zero_or_a_minute),
        Form(f"0, or a whole number from 60 to {YEAR_S}"),
        Field(
            ge=0,
            le=YEAR_S,
            description="Seconds between two syncs in the background. 0: only by command.",
        ),
    ] = 0
    retry_failed_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=86_400,
            description="Seconds for which a failed ingestion is answered from memory before"
            " upstream is asked again. 0: always ask.",
        ),
    ] = 30
    parallel: Annotated[Whole, Field(ge=1, le=64, description="Downloads at once.")] = 4
    archive_deadline_s: Annotated[
        Whole,
        Field(ge=1, le=86_400, description="Seconds after which the download of a file ends."),
    ] = 900


class Fleet(Section):
    """Nodes that follow channels."""

    check_s: Annotated[
        Whole,
        Field(
            ge=5,
            le=86_400,
            description="Seconds between two check-ins of a node, with a jitter of a tenth. A node"
            " that is not heard of for three times as long is silent.",
        ),
    ] = 60
