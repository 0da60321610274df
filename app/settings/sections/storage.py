"""Settings of where things are kept, and for how long."""

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from app.settings import urls, values
from app.settings.sections.fields import Section, Whole
from app.settings.values import Form, Secret


class S3(Section):
    """The server that has the bucket of storage.url."""

    endpoint: Annotated[
        Annotated[str, AfterValidator(urls.public_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an https:// URL without path: "https://s3.example:9000"'),
        Field(description="URL of the S3 server. None: that of AWS in the region."),
    ] = None
    region: Annotated[
        Annotated[str, AfterValidator(values.s3_region)] | None,
        BeforeValidator(values.none_if_empty),
        Form('the name of a region: "eu-central-1"'),
        Field(description="Region of the bucket. None: that of the environment, or us-east-1."),
    ] = None
    access_key: Annotated[
        Annotated[str, AfterValidator(values.s3_credential)] | None,
        Secret(),
        Form("an access key id"),
        Field(
            repr=False,
            description="Access key of the bucket. None: the ambient identity of the process, such"
            " as a role of the machine.",
        ),
    ] = None
    secret_key: Annotated[
        Annotated[str, AfterValidator(values.s3_credential)] | None,
        Secret(),
        Form("a secret access key"),
        Field(repr=False, description="Secret that belongs to the access key."),
    ] = None


class DatabaseWaits(Section):
    """Waits for PostgreSQL. SQLite waits for its one writer for 5 seconds at most."""

    connect_s: Annotated[Whole, Field(ge=1, le=60, description="Seconds to open a connection.")] = 3
    lock_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=300,
            description="Seconds that a change waits for its turn among those of all replicas.",
        ),
    ] = 5
    statement_s: Annotated[Whole, Field(ge=1, le=3600, description="Seconds of one statement.")] = (
        15
    )
    idle_s: Annotated[
        Whole,
        Field(
            ge=1,
            le=3600,
            description="Seconds after which the server ends a transaction in which nothing"
            " happens: a frozen replica must not hold up the others.",
        ),
    ] = 10
    outage_s: Annotated[
        Whole,
        Field(
            ge=0,
            le=86400,
            description="Seconds for which a PostgreSQL that does not answer is bridged: what is"
            " stored and was allowed before is served.",
        ),
    ] = 60


class Storage(Section):
    """The blob store."""

    url: Annotated[
        Annotated[str, AfterValidator(urls.storage_url)],
        Form('"file:" or "s3://bucket/prefix"'),
        Field(
            description="Where blobs are. file: is the data dir. With s3:// the data dir has a"
            " cache of them."
        ),
    ] = "file:"
    cache_bytes: Annotated[
        Whole,
        Field(
            ge=64 << 20,
            le=1 << 50,
            description="Bytes of blobs in S3 that the data dir keeps as a cache.",
        ),
    ] = 20 << 30
    redirect: Annotated[
        bool,
        Field(
            description="Answer requests for files over 1 MiB by a redirect to S3, with a link that"
            " anybody can use for 5 minutes."
        ),
    ] = False
    s3: Annotated[S3, Field(description="The S3 server.")] = S3()
    min_free_percent: Annotated[
        float,
        BeforeValidator(values.number),
        Field(
            ge=0,
            le=50,
            allow_inf_nan=False,
            description="Percent of the file system kept free; below it nothing is stored, neither"
            " in files nor in SQLite.",
        ),
    ] = 5.0
    scrub_days: Annotated[
        Whole,
        Field(
            ge=0,
            le=3650,
            description="Days within which every blob is hashed again at least once. 0: never.",
        ),
    ] = 30


class Backup(Section):
    """Backups."""

    url: Annotated[
        Annotated[str, AfterValidator(urls.backup_url)] | None,
        BeforeValidator(values.none_if_empty),
        Form('an absolute path, or "s3://bucket/prefix"'),
        Field(description="Where `moorage backup` keeps backups, unless --store names it."),
    ] = None


class Retention(Section):
    """Module zips that are let go: by default none, and never what only this installation has."""

    unused_days: Annotated[
        Whole,
        Field(
            ge=0,
            le=36500,
            description="Days without a download after which a zip is let go. 0: never.",
        ),
    ] = 0
    max_age_days: Annotated[
        Whole,
        Field(ge=0, le=36500, description="Days after which a zip is let go. 0: never."),
    ] = 0
    versions: Annotated[
        Whole,
        Field(
            ge=0,
            le=100_000,
            description="How many of the newest versions of a module keep their zips. 0: all.",
        ),
    ] = 0
    max_bytes: Annotated[
        Whole,
        Field(
            ge=0,
            le=1 << 60,
            description="Bytes of zips above which those that were used longest ago are let go. 0:"
            " no limit.",
        ),
    ] = 0
    releases: Annotated[
        bool,
        Field(
            description="Let go of release files that neither the selection nor a channel names."
        ),
    ] = False
    gc_hours: Annotated[
        Whole,
        Field(
            ge=0,
            le=8760,
            description="Hours between two runs of `moorage gc` by the leader. 0: by command only.",
        ),
    ] = 0
