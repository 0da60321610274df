"""Manifests of channels: made from the verified files, and signed by the installation's key.

A manifest is signed in the transaction of its revision. The leader signs it anew each day, and when
its files have changed: an archive came in, or its zstd form is ready.
"""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from app import logs
from app.core.channel import (
    SIGN_AGAIN_AFTER,
    Manifest,
    ManifestFile,
    ManifestRelease,
    RecordedChannel,
    Revision,
    ZstdForm,
    manifest_text,
    parse_manifest,
)
from app.core.derived import Zst
from app.core.errors import BadInputError, StorageError, UnknownError
from app.core.gorelease import ReleaseFileKind
from app.core.note import parse_note, sign
from app.core.notekey import SEED_BYTES, Signer, generate, parse_skey
from app.core.principal import Principal
from app.core.releasefile import FileRecord
from app.db.audit import AuditLog
from app.db.channels import ChannelTable, SignedRevision
from app.db.engine import Database, Session
from app.db.fleetkeys import SIGNERS, FleetKey, FleetKeys
from app.db.generation import CHANNELS, bump_generation
from app.db.installation import database_uid
from app.db.releases import ReleaseTable
from app.db.room import Room
from app.services.authorization import require_admin
from app.services.changes import locked
from app.services.clock import Now
from app.services.releases.policy import IngestionPolicy
from app.services.secrets import SecretBox, fleet_place

_log = logs.get("channels")


class Manifests:
    """Signs the manifests of all channels."""

    def __init__(self, db: Database, box: SecretBox, policy: IngestionPolicy, now: Now) -> None:
        self._db = db
        self._box = box
        self._policy = policy
        self._now = now

    async def key(self) -> FleetKey:
        """Return the key that signs manifests.

        Raises:
            UnknownError: there is none; the first channel makes the first key.
        """
        keys = await self._db.read(lambda s: FleetKeys(s).newest(1))
        if not keys:
            raise UnknownError(
                "there is no key yet: the first channel makes it (`moorage channel create stable`)"
            )
        return keys[0]

    def ensure_key(self, session: Session, who: Principal, at: datetime) -> None:
        """Make the first key, within the transaction of the first channel."""
        if not FleetKeys(session).newest(1):
            self._add_key(session, who.actor, at)

    async def new_key(self, who: Principal) -> FleetKey:
        """Return a new key, which signs from now on; the key before it signs along.

        Keys before these two are not used again. All manifests are signed anew.

        Raises:
            DeniedError: who is no platform admin.
        """
        require_admin(who, None)
        at = self._now()

        def work(session: Session) -> FleetKey:
            self._add_key(session, who.actor, at)
            for channel, revisions in ChannelTable(session).signed():
                for signed in revisions:
                    self.sign(session, channel, signed.revision, at)
            bump_generation(session, [CHANNELS])
            return FleetKeys(session).newest(1)[0]

        return await self._db.write(locked(work))

    def sign(
        self, session: Session, channel: RecordedChannel, revision: Revision, at: datetime
    ) -> Manifest:
        """Sign a revision within its transaction; return the manifest."""
        manifest = self._manifest(session, revision).issued(at)
        note = sign(manifest_text(manifest), *self._signers(session))
        ChannelTable(session).set_manifest(channel.id, revision.revision, note, at)
        return manifest

    async def step(self) -> None:
        """Sign anew each manifest that is a day old, or whose files have changed."""
        at = self._now()
        if await self._db.read(lambda s: self._outdated(s, at)):
            # Rows that exist are replaced: what is offered stays valid on a full disk, too.
            await self._db.write(locked(lambda s: self._sign_outdated(s, at)), room=_ROOM)

    def _outdated(
        self, session: Session, at: datetime
    ) -> Sequence[tuple[RecordedChannel, Revision]]:
        return [
            (channel, signed.revision)
            for channel, revisions in ChannelTable(session).signed()
            for signed in revisions
            if _is_due(signed, at) or _content(signed) != self._manifest(session, signed.revision)
        ]

    def _sign_outdated(self, session: Session, at: datetime) -> None:
        rows = []
        for channel, revision in self._outdated(session, at):
            manifest = self.sign(session, channel, revision, at)
            detail = f"revision {revision.revision}, valid until {manifest.expires_at:%Y-%m-%d}"
            rows.append(("channel.sign", f"channel:{channel.name}", detail))
            _log.info("manifest signed", channel=channel.name, revision=revision.revision)
        AuditLog(session).append_all(at, "system", rows)
        bump_generation(session, [CHANNELS])

    def _manifest(self, session: Session, revision: Revision) -> Manifest:
        """Return a revision with the files that are verified now; nothing says yet how long.

        An archive without its tree and chunks is left out: a node could not check it.
        """
        versions = revision.versions
        files: dict[str, list[ManifestFile]] = {version: [] for version in versions}
        for record in ReleaseTable(session).of_versions(versions):
            is_archive = record.file.kind is ReleaseFileKind.ARCHIVE
            if self._policy.serves(record) and (record.derived is not None or not is_archive):
                files[record.file.version].append(_manifest_file(record))
        return Manifest(
            channel=revision.channel,
            revision=revision.revision,
            current=revision.current,
            releases=tuple(
                ManifestRelease(v, tuple(sorted(files[v], key=lambda f: f.filename)))
                for v in versions
            ),
            issued_at=revision.created_at,
            expires_at=revision.created_at,
        )

    def _signers(self, session: Session) -> list[Signer]:
        newest, *earlier = FleetKeys(session).newest(SIGNERS)
        signers = [self._signer(newest)]
        for key in earlier:
            try:
                signers.append(self._signer(key))
            except StorageError as error:  # keys/secrets.key is lost; a new key can do without it
                _log.error("the key before can't sign along", vkey=key.vkey, error=str(error))
        return signers

    def _signer(self, key: FleetKey) -> Signer:
        return parse_skey(self._box.open(key.seed, fleet_place(key.vkey)))

    def _add_key(self, session: Session, actor: str, at: datetime) -> None:
        name = f"moorage-fleet-{database_uid(session)[:8]}"
        signer = generate(name, secrets.token_bytes(SEED_BYTES))
        vkey = signer.verifier.vkey
        seed = self._box.seal(signer.skey, fleet_place(vkey))
        FleetKeys(session).add(name=name, vkey=vkey, seed=seed, at=at)
        AuditLog(session).append(at, actor, "channel.key", f"key:{signer.verifier.key_id}", vkey)


_ROOM = Room.BELOW_FLOOR


def _is_due(signed: SignedRevision, at: datetime) -> bool:
    """Whether a manifest is a day old; or from the future, after the clock was set back."""
    if signed.signed_at is None:
        return True
    return not timedelta(0) <= at - signed.signed_at < SIGN_AGAIN_AFTER


def _content(signed: SignedRevision) -> Manifest | None:
    """Return the manifest as it was signed; None if it is not one of this program."""
    try:
        return parse_manifest(parse_note(signed.manifest).text)
    except BadInputError:
        return None


def _manifest_file(record: FileRecord) -> ManifestFile:
    file, derived = record.file, record.derived
    return ManifestFile(
        filename=file.filename,
        os=file.os,
        arch=file.arch,
        kind=file.kind,
        size=file.size_bytes,
        sha256=record.sha256.hex,
        h1=record.toolchain.h1 if record.toolchain else "",
        tree=derived.tree.sha256.hex if derived else "",
        chunks=derived.chunks.sha256.hex if derived else "",
        zst=_zstd_form(derived.zst) if derived and derived.zst else None,
    )


def _zstd_form(zst: Zst) -> ZstdForm:
    return ZstdForm(zst.size_bytes, zst.sha256.hex, zst.chunks.sha256.hex)
