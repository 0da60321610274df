"""The checks, one after the other. No check changes anything."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from random import sample

from app.core.channel import parse_manifest
from app.core.errors import BadInputError, DatabaseBusyError, MoorageError, UpstreamContentError
from app.core.note import parse_note
from app.db.blobs import Blobs
from app.db.channels import ChannelTable
from app.db.engine import Session
from app.db.leases import LeaseTable
from app.db.tokens import RecordedToken, Tokens
from app.services.assembly import Services
from app.services.backup.place import BackupPlace
from app.services.doctor.finding import Finding, Level, ok
from app.services.leases import TTL
from app.services.releases.keyring import signing_subkeys
from app.services.storemark import absent

_UPSTREAM_S = 5.0
_CLOCK_S = 30.0
_SOON = timedelta(days=30)
_SOON_MANIFEST = timedelta(days=3)
_OLD_BACKUP = timedelta(days=2)
_UNUSED = timedelta(days=180)
_LOCAL_SAMPLE, _S3_SAMPLE = 2000, 50
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_PRIVATE_FILES = ("moorage.db", "keys/secrets.key")


Check = Callable[[], Awaitable[list[Finding]]]


class Doctor:
    """The checks of one installation.

    Args:
        services: started, or not: then `start` is the first check.
        certificate_expires: when the TLS certificate of the settings does; None without one.
        backups: the place of backups that the settings name; None without one.
    """

    def __init__(
        self,
        services: Services,
        certificate_expires: datetime | None,
        backups: Callable[[], BackupPlace | None],
    ) -> None:
        self._services = services
        self._shared = services.shared
        self._settings = services.shared.settings
        self._certificate_expires = certificate_expires
        self._backups = backups

    async def look(self) -> list[Finding]:
        """Return the result of every check; what needs the database is left out without it."""
        findings = await self._each(
            {
                "files": self._files,
                "disk": self._disk,
                "workers": self._workers,
                "listener": self._listener,
                "tls": self._tls,
                "clock": self._clock,
            }
        )
        try:
            await self._services.start(owns_key=False)
        except MoorageError as error:
            return [*findings, _unstarted(error)]
        return findings + await self._each(
            {
                "database": self._database,
                "store": self._store,
                "secrets": self._secrets,
                "keyring": self._keyring,
                "channels": self._channels,
                "logs": self._logs,
                "audit": self._audit,
                "leader": self._leader,
                "index": self._index,
                "tokens": self._tokens,
                "backup": self._backup,
                "upstreams": self._upstreams,
            }
        )

    async def _each(self, checks: dict[str, Check]) -> list[Finding]:
        findings: list[Finding] = []
        for about, check in checks.items():
            try:
                findings += await check()
            except (MoorageError, OSError) as error:
                findings.append(Finding(about, Level.TROUBLE, f"it can't be checked: {error}"))
        return findings

    # Without the database.

    async def _files(self) -> list[Finding]:
        folder, findings = self._settings.data_dir, []
        names = ["", *_PRIVATE_FILES]
        for path in [folder / name for name in names if (folder / name).exists()]:
            status = path.stat()
            if status.st_mode & _OTHERS:
                text = f"others can read or change {path}"
                findings.append(Finding("files", Level.TROUBLE, text, f"run chmod go-rwx {path}"))
            if status.st_uid != os.geteuid():
                text = f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}"
                advice = "run commands as the user of the service"
                findings.append(Finding("files", Level.TROUBLE, text, advice))
        places = {name: (folder / name) for name in ("blobs", "tmp", "quarantine")}
        devices = {path.stat().st_dev for path in places.values() if path.exists()}
        if len(devices) > 1:
            text = "blobs, tmp and quarantine are on more than one file system"
            findings.append(Finding("files", Level.TROUBLE, text, "put them on one: see docs"))
        kept = sum(1 for _ in _below(folder / "quarantine"))
        if kept:
            text = f"{kept} damaged blobs are kept as evidence in quarantine/"
            findings.append(Finding("files", Level.WARNING, text, "look why, then delete them"))
        return findings or [ok("files", "permissions and owners are right")]

    async def _disk(self) -> list[Finding]:
        status = os.statvfs(self._settings.data_dir)
        free = 100 * status.f_bavail / max(1, status.f_blocks)
        floor = self._settings.storage.min_free_percent
        text = f"{free:.0f} % are free, the floor is {floor:.0f} %"
        if free < floor:
            advice = "nothing new is stored: make space, see `moorage gc --dry-run`"
            return [Finding("disk", Level.TROUBLE, text, advice)]
        if free < 2 * floor:
            return [Finding("disk", Level.WARNING, text, "make space before the floor is reached")]
        if status.f_files and status.f_favail < status.f_files / 50:
            return [Finding("disk", Level.WARNING, "few inodes are free", "remove small files")]
        return [ok("disk", text)]

    async def _workers(self) -> list[Finding]:
        workers, cores = self._settings.workers, os.cpu_count() or 1
        if workers > 2 * cores:
            text = f"{workers} workers on {cores} cores"
            return [Finding("workers", Level.WARNING, text, "set MOORAGE_WORKERS to the cores")]
        return [ok("workers", f"{workers} on {cores} cores")]

    async def _listener(self) -> list[Finding]:
        settings = self._settings
        is_local = settings.host.startswith("127.") or settings.host in ("::1", "localhost")
        is_secure = settings.tls.cert_file is not None
        url = settings.public_url or ""
        findings = []
        if url.startswith("http://") and not is_local:
            text = f"clients are told {url}: tokens cross the network in clear text"
            findings.append(
                Finding("listener", Level.WARNING, text, "serve https, see docs/operations/tls.md")
            )
        if not is_local and not is_secure and not url:
            text = f"{settings.host} is reached without TLS, and MOORAGE_PUBLIC_URL is not set"
            advice = (
                "set it to the https:// address of the proxy in front, or MOORAGE_TLS__CERT_FILE"
            )
            findings.append(Finding("listener", Level.WARNING, text, advice))
        if is_secure and url.startswith("http://"):
            text = "the service speaks TLS and MOORAGE_PUBLIC_URL begins with http://"
            findings.append(Finding("listener", Level.TROUBLE, text, "let it begin with https://"))
        return findings or [ok("listener", url or f"{settings.host}:{settings.port}")]

    async def _tls(self) -> list[Finding]:
        expires = self._certificate_expires
        if expires is None:
            return []
        return [self._expiry("tls", "the certificate", expires, _SOON, "renew it")]

    async def _clock(self) -> list[Finding]:
        trouble = self._shared.clock.trouble()
        if trouble is not None:
            return [Finding("clock", Level.TROUBLE, trouble, "run a time service on this machine")]
        return [ok("clock", f"{self._shared.now():%Y-%m-%d %H:%M} UTC")]

    # With it.

    async def _database(self) -> list[Finding]:
        problem = await self._shared.db.problem(deep=False)
        if problem is not None:
            text = f"it is malformed: {problem}"
            return [Finding("database", Level.TROUBLE, text, "restore a backup")]
        return [ok("database", "it answers, and its schema is right")]

    async def _store(self) -> list[Finding]:
        await self._shared.store.probe()
        blobs = await self._shared.db.read(lambda s: Blobs(s).all())
        damaged = sum(blob.damaged for blob in blobs)
        if damaged:
            text = f"{damaged} of {len(blobs)} blobs are damaged or missing"
            return [Finding("store", Level.TROUBLE, text, "run `moorage fsck --deep --repair`")]
        is_local = not self._settings.storage.url.startswith("s3:")
        count = min(len(blobs), _LOCAL_SAMPLE if is_local else _S3_SAMPLE)
        gone = await absent(self._shared.store, sample(blobs, count))
        if gone:
            text = f"{len(gone)} of {count} blobs are missing or short, such as {gone[0].digest}"
            advice = "put them back (a disk not mounted? a backup?), or `moorage fsck --repair`"
            return [Finding("store", Level.TROUBLE, text, advice)]
        return [ok("store", f"it can be written; {len(blobs)} blobs")]

    async def _secrets(self) -> list[Finding]:
        places = await self._services.upkeep.rotation.unopened()
        if places:
            text = f"the key does not open {len(places)} secrets; the first is {places[0]}"
            advice = "put the right keys/secrets.key or MOORAGE_SECRETS_KEY back"
            return [Finding("secrets", Level.TROUBLE, text, advice)]
        if len(self._shared.keys.keys()) > 1:
            text = "there are two keys: a rotation did not end"
            return [Finding("secrets", Level.WARNING, text, "run `moorage secrets rotate`")]
        return [ok("secrets", "the key opens all of them")]

    async def _keyring(self) -> list[Finding]:
        keys = signing_subkeys(await self._services.releases.keyring.active())
        expires = [key.expires_at for key in keys]
        advice = "run `moorage releases keys refresh` with a newer export"
        if not keys:
            text = "it has no key that can sign: nothing new is verified"
            return [Finding("keyring", Level.TROUBLE, text, advice)]
        if None in expires:
            return [ok("keyring", f"{len(keys)} keys can sign")]
        last = max(at for at in expires if at is not None)
        return [self._expiry("keyring", "the last signing key", last, _SOON, advice)]

    async def _channels(self) -> list[Finding]:
        signed = await self._shared.db.read(lambda s: ChannelTable(s).signed())
        findings = []
        for channel, revisions in signed:
            for one in revisions:
                try:
                    manifest = parse_manifest(parse_note(one.manifest).text)
                except BadInputError:
                    continue  # not signed yet: the leader signs it within a minute
                findings.append(
                    self._expiry(
                        "channels",
                        f"the manifest of {channel.name}",
                        manifest.expires_at,
                        _SOON_MANIFEST,
                        "the leader does not sign anew: look at its log, at leader and secrets",
                    )
                )
        return [one for one in findings if one.level is not Level.OK] or (
            [ok("channels", f"{len(findings)} manifests are valid")] if findings else []
        )

    async def _logs(self) -> list[Finding]:
        await self._services.sumdb.watch.step()
        refusals = self._services.sumdb.watch.refusals
        return [
            Finding("logs", Level.TROUBLE, why, "see docs/sumdb.md, Backup, restore, recover")
            for why in refusals.values()
        ] or [ok("logs", "every tenant's log may grow")]

    async def _audit(self) -> list[Finding]:
        problem = await self._shared.audit_head.problem()
        if problem is not None:
            return [Finding("audit", Level.TROUBLE, problem)]
        return [ok("audit", "its newest row is that which was kept outside the database")]

    async def _leader(self) -> list[Finding]:
        at = self._shared.now()
        live = await self._shared.db.read(lambda s: LeaseTable(s).live("leader", at, TTL))
        if not live:
            text = "no process leads: the service does not run, or its leader just ended"
            advice = "start `moorage serve`, or look again in a minute"
            return [Finding("leader", Level.WARNING, text, advice)]
        return [ok("leader", next(iter(live.values())))]

    async def _index(self) -> list[Finding]:
        status = (await self._services.releases.catalog.current(fresh=True)).status
        refresh = timedelta(seconds=self._settings.releases.refresh_s)
        if status.read_at is None or status.read_at < self._shared.now() - 3 * refresh:
            never, at = "the release index was never read", status.read_at
            text = never if at is None else f"the release index was read {at:%Y-%m-%d %H:%M} UTC"
            text += f": {status.error}" if status.error else "; no error is recorded"
            advice = "run `moorage releases plan`; see upstreams below"
            return [Finding("index", Level.WARNING, text, advice)]
        return [ok("index", f"read {status.read_at:%Y-%m-%d %H:%M} UTC")]

    async def _tokens(self) -> list[Finding]:
        tokens = await self._shared.db.read(_valid_tokens)
        forever = [one for one in tokens if one.expires_at is None and "admin" in one.scopes]
        since = (self._shared.now() - _UNUSED).date()
        unused = [one for one in tokens if (one.last_used_on or one.created_at.date()) < since]
        findings = []
        if forever:
            text = f"{len(forever)} admin tokens never expire: {_ids(forever)}"
            advice = "replace them: `moorage token create --platform --scope admin`, then `revoke`"
            findings.append(Finding("tokens", Level.WARNING, text, advice))
        if unused:
            text = f"{len(unused)} tokens were not used for half a year: {_ids(unused)}"
            findings.append(Finding("tokens", Level.WARNING, text, "revoke them"))
        return findings or [ok("tokens", f"{len(tokens)} are valid")]

    async def _backup(self) -> list[Finding]:
        place = await asyncio.to_thread(self._backups)
        if place is None:
            text = "MOORAGE_BACKUP__URL is not set"
            advice = "see docs/operations/backup.md, unless something else backs this up"
            return [Finding("backup", Level.WARNING, text, advice)]
        newest = (await asyncio.to_thread(place.all))[-1:]
        advice = "run `moorage backup create` from a timer"
        if not newest or newest[0].manifest.made_at < self._shared.now() - _OLD_BACKUP:
            text = f"the newest backup is {newest[0].id}" if newest else "there is no backup yet"
            return [Finding("backup", Level.WARNING, text, advice)]
        return [ok("backup", newest[0].id)]

    async def _upstreams(self) -> list[Finding]:
        origins = sorted(await self._services.origins())
        answers = await asyncio.gather(*(self._upstream(origin) for origin in origins))
        return list(answers) or [ok("upstreams", "none is named")]

    async def _upstream(self, origin: str) -> Finding:
        """Ask for the root of an origin; any answer will do, and its Date is compared."""
        about = f"upstream {origin}"
        try:
            answer, _ = await self._shared.client.send(
                "GET", f"{origin}/", max_bytes=1 << 20, deadline_s=_UPSTREAM_S
            )
        except UpstreamContentError:  # it answers, with more than is needed
            return ok(about, "it answers")
        except MoorageError as error:
            advice = "what is stored is served on; look at the network, a proxy, MOORAGE_NETWORK__*"
            return Finding(about, Level.WARNING, str(error), advice)
        apart_s = self._apart_s(answer.headers.get("date"))
        if abs(apart_s) > _CLOCK_S:
            text = f"its clock and this one are {apart_s:.0f} s apart"
            return Finding(about, Level.TROUBLE, text, "run a time service on this machine")
        return ok(about, "it answers")

    def _apart_s(self, date: str | None) -> float:
        try:
            theirs = parsedate_to_datetime(date or "")
        except (TypeError, ValueError):
            return 0.0
        if theirs.tzinfo is None:
            theirs = theirs.replace(tzinfo=UTC)
        return (self._shared.now() - theirs).total_seconds()

    def _expiry(
        self, about: str, what: str, expires: datetime, soon: timedelta, advice: str
    ) -> Finding:
        now, text = self._shared.now(), f"{what} expires {expires:%Y-%m-%d %H:%M} UTC"
        if expires <= now:
            return Finding(about, Level.TROUBLE, text.replace("expires", "expired"), advice)
        if expires <= now + soon:
            return Finding(about, Level.WARNING, text, advice)
        return ok(about, text)


def _unstarted(error: MoorageError) -> Finding:
    """Return why nothing else can be looked at; of a database out of reach, with its own words."""
    text, advice = str(error), "nothing else can be looked at before this is right"
    driver_error = getattr(error.__cause__, "orig", None)
    if isinstance(error, DatabaseBusyError) and driver_error is not None:
        text += f" ({' '.join(str(driver_error).split())[:200]})"
        advice = "look at the database's server, the network, MOORAGE_DATABASE_URL; then again here"
    return Finding("database", Level.TROUBLE, text, advice)


def _valid_tokens(session: Session) -> list[RecordedToken]:
    every = Tokens(session).page(tenant_id=None, after=None, limit=None)
    return [one for one in every if one.revoked_at is None]


def _ids(tokens: list[RecordedToken]) -> str:
    shown = ", ".join(f"{one.id} ({one.name})" for one in tokens[:5])
    return shown if len(tokens) <= 5 else f"{shown} …"


def _below(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
