"""One installation for every invariant: all kinds of content, in the shape of the test.

The shapes are SQLite with blobs on the local disk, and PostgreSQL with blobs in S3.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from app.core.digest import Digest
from app.core.effect import Effect
from app.core.principal import OPERATOR, Scope
from app.core.published import PUBLISHED
from app.services.assembly import Services
from app.services.clock import utc_now
from app.storage.s3client import S3Client
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.faults import Fault
from tests.fakes.godev import FakeGodev
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, module
from tests.fakes.s3 import FakeS3, storage_of
from tests.fakes.signer import Signer
from tests.fakes.sumdb import FakeSumdb
from tests.nouns import an_owner
from tests.services.bench import blob_path, flipped, spoil
from tests.shapes import Shape
from tests.web.asking import Admin
from tests.web.conftest import settings_for
from tests.web.harbour import add_route, add_tenant, add_token, bearer, cooled, settled
from tests.web.wire import Got, Site, serving, until

V = "v1.0.0"
PUBLIC = module("example.com/public", V)
LARGE = module("example.com/large", V, padding_bytes=3 << 20)
PRIVATE = module("corp.example/private", V)
OWN = module("own.example/team/x", V)
GO = "go1.99.1"


@dataclass
class Ahead:
    """A clock that a test sets ahead."""

    by: timedelta = timedelta(0)

    def now(self) -> datetime:
        return utc_now() + self.by


@dataclass(frozen=True)
class Installation:
    """A site with every kind of content, and all that it may ask.

    Tenant `acme` needs a token. It has modules of the public proxy, modules of a private one below
    corp.example, and publishes below own.example/team. Tenant `other` has the public proxy alone.

    Attributes:
        bucket: of the blobs; None where they are on the local disk.
        secret: a token of acme that may read and publish; `token` is its id.
        archive: the name of an archive that upstream has, and its bytes.
        ahead: the clock of the installation.
    """

    site: Site
    godev: FakeGodev
    proxy: FakeGoproxy
    private: FakeGoproxy
    sumdb: FakeSumdb
    bucket: S3Client | None
    token: str
    secret: str
    archive: tuple[str, bytes]
    ahead: Ahead

    @property
    def services(self) -> Services:
        return self.site.services

    @property
    def admin(self) -> Admin:
        return Admin(self.site)

    async def ask(self, path: str, tenant: str = "acme", secret: str | None = None) -> Got:
        """Ask a tenant's proxy; by default with acme's token."""
        headers = bearer(self.secret if secret is None else secret)
        return await self.site.ask(f"/goproxy/{tenant}/{path}", headers=headers)

    async def publish(self, one: Module) -> Got:
        return await self.site.ask(
            f"/goproxy/acme/{path_of(one)}", "PUT", bearer(self.secret), one.zip
        )

    async def ask_until(self, target: str, *, status: int) -> list[Got]:
        """Ask until a status comes; return all answers."""
        answers: list[Got] = []

        async def comes() -> bool:
            answers.append(await self.site.ask(target, headers=bearer(self.secret)))
            return answers[-1].status == status

        await until(comes)
        return answers

    async def fill(self) -> dict[str, bytes]:
        """Have one file of each kind brought in; return the bytes of each by its path."""
        name, data = self.archive
        assert (await self.publish(OWN)).status == 201
        files = {f"/goproxy/acme/{path_of(one)}": one.zip for one in (PUBLIC, LARGE, PRIVATE, OWN)}
        files |= {f"/goproxy/acme/{path_of(one, 'mod')}": one.mod for one in (PUBLIC, PRIVATE, OWN)}
        files[f"/dl/{name}"] = data
        for target, content in files.items():
            got = await self.site.ask(target, headers=bearer(self.secret))
            assert (got.status, got.body) == (200, content), (target, got.body[:200])
        return files

    async def ask_while(self, path: str, change: Callable[[], Awaitable[object]]) -> Got:
        """Return the answer for a path of which something changed once upstream was asked."""
        self.proxy.fault(f"/{path}", Fault.delay_headers_until_released())
        asking = asyncio.ensure_future(self.ask(path))
        await anyio.to_thread.run_sync(self.proxy.wait_until, lambda: self.proxy.stalled == 1)
        await change()
        await settled(self.services)
        self.proxy.release()
        return await asking

    def stop_upstreams(self) -> None:
        for fake in (self.godev, self.proxy, self.private, self.sumdb):
            fake.stop()

    def has(self, digest: Digest) -> bool:
        """Return whether a blob is where it outlives this process and its cache."""
        if self.bucket is None:
            return blob_path(self.services, digest).is_file()
        return self.bucket.head(_key(digest)) is not None

    async def damage(self, data: bytes) -> None:
        """Flip a byte of a blob in every place that has the blob; prepared answers end."""
        digest, path = Digest.of(data), blob_path(self.services, Digest.of(data))
        if self.bucket is not None:
            self.bucket.put(_key(digest), flipped(data))
            path = self.services.shared.settings.data_dir / "cache" / _key(digest)
        spoil(path, flipped(data))
        await cooled(self.services)

    def forget_cache(self) -> None:
        """Drop this host's copies of what is in S3."""
        if self.bucket is not None:
            for path in (self.services.shared.settings.data_dir / "cache/blobs").glob("*/*"):
                path.unlink()


def path_of(one: Module, kind: str = "zip") -> str:
    return f"{one.path}/@v/{one.version}.{kind}"


def _key(digest: Digest) -> str:
    return f"blobs/{digest.hex[:2]}/{digest.hex}"


@pytest.fixture
async def installation(
    request: pytest.FixtureRequest, shape: Shape, tmp_path: Path, fake: FakeGodev, signer: Signer
) -> AsyncIterator[Installation]:
    storage: dict[str, Any] = {"min_free_percent": 0}
    bucket = None
    if shape is Shape.POSTGRESQL:
        s3: FakeS3 = request.getfixturevalue("s3")
        place = s3.place("moorage")
        bucket, storage = S3Client(place), storage | storage_of(place)
    archive = go_archive(GO, extra_bytes=300_000)
    fake.put_file(archive_name(GO), archive, signature=signer.sign(archive))
    with ExitStack() as fakes:
        sumdb = fakes.enter_context(FakeSumdb("sum.fake.example"))
        proxy = fakes.enter_context(FakeGoproxy([PUBLIC, LARGE]))
        private = fakes.enter_context(FakeGoproxy([PRIVATE]))
        for one in (PUBLIC, LARGE):
            sumdb.add_module(one)
        logs = {"upstreams": [{"name": sumdb.name, "vkey": sumdb.vkey, "url": sumdb.url}]}
        settings = settings_for(
            fake,
            signer,
            tmp_path,
            storage=storage,
            sumdb=logs,
            releases={"images_need_token": True},
        )
        ahead = Ahead()
        async with serving(settings, now=ahead.now) as site:
            token, secret = await _arrange(site.services, proxy, private)
            archives = (archive_name(GO), archive)
            yield Installation(
                site, fake, proxy, private, sumdb, bucket, token, secret, archives, ahead
            )


async def _arrange(services: Services, proxy: FakeGoproxy, private: FakeGoproxy) -> tuple[str, str]:
    """Make both tenants; return id and secret of acme's token."""
    await add_tenant(services, "acme", proxy, default=Effect.ALLOW, open_to_all=False)
    await add_tenant(services, "other", proxy, default=Effect.ALLOW)
    await add_route(services, "acme", "corp.example", private, private=True)
    await services.tenants.ownership.put(an_owner("own.example/team", "acme"), OPERATOR)
    await add_route(services, "acme", "own.example/team", PUBLISHED, private=True)
    await services.sumdb.logs.create("acme")
    return await add_token(services, "acme", {Scope.READ, Scope.PUBLISH})
