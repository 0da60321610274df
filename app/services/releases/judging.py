"""Judging bytes whose size and SHA-256 are right: the signature, and the release in the archive.

What is derived from an archive is made here, too: one pass over the archive is enough for all.
"""

import asyncio
from dataclasses import replace
from pathlib import Path

from app import logs
from app.core.errors import BadInputError, NotYetError, OverloadedError, UpstreamError
from app.core.gorelease import ARM_NAMES, ReleaseFileKind
from app.core.logstate import LogState
from app.core.ownrelease import is_own
from app.core.releasefile import FileRecord, FileState, RecordedVerdict, ToolchainIdentity
from app.core.signature import VerdictReason
from app.core.toolchain import module_version
from app.db.releases import IngestionOutcome
from app.services.clock import Now
from app.services.releases.derive import Contents, read_contents
from app.services.releases.derived import DerivedFiles, stored_or_none
from app.services.releases.keyring import OwnKeyring, ReleaseKeyring
from app.services.releases.policy import SIGNED_SUFFIX, IngestionPolicy
from app.upstream.godev import GoDev
from app.upstream.gpg import Gpg, Keyring

_log = logs.get("judging")
# Refusals that say nothing against the archive: the signature file may be another one tomorrow, and
# the date of a signature is compared with our clock, which may be behind.
_PENDING = {VerdictReason.NO_SIGNATURE, VerdictReason.OTHER_TEXT, VerdictReason.FUTURE}
_AT_ONCE = 2  # gpg and hashing use the CPU all the time


class Judge:
    """Decides the state of a file, with the reason."""

    def __init__(
        self,
        godev: GoDev,
        keyring: ReleaseKeyring,
        own_keyring: OwnKeyring,
        derived: DerivedFiles,
        policy: IngestionPolicy,
        now: Now,
    ) -> None:
        self._godev = godev
        self._keyring = keyring
        self._own_keyring = own_keyring
        self._derived = derived
        self.policy = policy
        self._now = now
        self._judging = asyncio.Semaphore(_AT_ONCE)

    async def judge(self, record: FileRecord, path: Path) -> IngestionOutcome:
        """Return the outcome for bytes whose SHA-256 is right, by signature and content.

        Raises:
            KeyringError: no key is active.
            StorageError: the file can't be read back.
        """
        if self.policy.serves(record):
            # Only the blob was lost: the verdict on the same bytes is still valid.
            return IngestionOutcome(record.state, record.reason, self._now())
        contents = await self._contents(record, path)
        toolchain = record.toolchain or (contents.toolchain if contents else None)
        if toolchain is not None and toolchain.log is LogState.REFUSED:
            return IngestionOutcome(FileState.QUARANTINED, record.reason, self._now())
        if toolchain is not None and not _is_of(toolchain, record):
            reason = f"it holds the toolchain {toolchain.version}, not {record.file.version}"
            return IngestionOutcome(FileState.QUARANTINED, reason, self._now())
        outcome = await self._judge_signature(record, path)
        is_derived = record.derived is not None
        # Of an own release that is refused nothing is kept.
        is_refused = outcome.state is FileState.QUARANTINED or (
            is_own(record.file.version) and outcome.state is FileState.PENDING_SIGNATURE
        )
        if contents is None or is_derived or is_refused:
            return replace(outcome, toolchain=toolchain)
        filename = record.file.filename
        derived = await stored_or_none(self._derived, filename, contents)
        return replace(outcome, toolchain=toolchain, derived=derived)

    async def _judge_signature(self, record: FileRecord, path: Path) -> IngestionOutcome:
        filename, at = record.file.filename, self._now()
        if is_own(record.file.version):
            return await self._judge_own(record, path)
        if record.file.suffix != SIGNED_SUFFIX:
            return IngestionOutcome(FileState.SHA256_ONLY, "", at)
        try:
            signature = await self._godev.signature(filename)
        except (UpstreamError, OverloadedError) as error:
            signature, trouble = record.signature, f"its signature could not be fetched: {error}"
            if signature is None:
                return IngestionOutcome(FileState.PENDING_SIGNATURE, trouble, at)
        signature = signature or record.signature  # a signature that was published once is enough
        if signature is None:
            if SIGNED_SUFFIX in self.policy.sha256_only:
                return IngestionOutcome(FileState.SHA256_ONLY, "", at)
            return IngestionOutcome(
                FileState.PENDING_SIGNATURE,
                "upstream publishes no signature for it yet; it is asked for again",
                at,
            )
        return await self._judge_by(signature, path, is_own=False)

    async def _judge_own(self, record: FileRecord, path: Path) -> IngestionOutcome:
        """Judge an own release, by its own keys; upstream knows nothing of it."""
        if record.signature is None:
            if record.file.suffix in self.policy.sha256_only:
                return IngestionOutcome(FileState.SHA256_ONLY, "", self._now())
            reason = (
                f"this mirror offers .{record.file.suffix} files only with a signature "
                "(MOORAGE_RELEASES__SHA256_ONLY)"
            )
            return IngestionOutcome(FileState.PENDING_SIGNATURE, reason, self._now())
        return await self._judge_by(record.signature, path, is_own=True)

    async def _judge_by(self, signature: bytes, path: Path, *, is_own: bool) -> IngestionOutcome:
        """Judge a signature by the keys of own releases, or by those of go.dev's."""
        at = self._now()
        try:
            if is_own:
                gpg, keyring = await self._own_keyring.active()
            else:
                gpg, keyring = self._keyring.gpg, await self._keyring.active()
            verdict = await self._verify(gpg, keyring, signature, path)
        except NotYetError as error:
            return IngestionOutcome(
                FileState.PENDING_SIGNATURE, str(error), at, signature=signature
            )
        return IngestionOutcome(
            _state(verdict), _reason(verdict), at, signature=signature, verdict=verdict
        )

    async def _verify(
        self, gpg: Gpg, keyring: Keyring, signature: bytes, path: Path
    ) -> RecordedVerdict:
        async with self._judging:
            verdict = await asyncio.to_thread(gpg.verify, keyring, signature, path)
        return RecordedVerdict(
            accepted=verdict.accepted,
            reason=verdict.reason,
            detail=verdict.detail,
            subkey=verdict.subkey,
            primary=verdict.primary,
            signed_at=verdict.signed_at,
            keyring=keyring.digest,
            gpg_version=gpg.version,
            judged_at=self._now(),
        )

    async def _contents(self, record: FileRecord, path: Path) -> Contents | None:
        """Return what an archive holds; None if that is recorded, or can't be read."""
        if record.file.kind is not ReleaseFileKind.ARCHIVE:
            return None
        if record.toolchain is not None and record.derived is not None:
            return None
        filename = record.file.filename
        try:
            contents = await asyncio.to_thread(read_contents, record.file, path)
        except BadInputError as error:
            # The bytes are upstream's own; only nothing can be derived.
            _log.warning("no archive", filename=filename, error=str(error))
            return None
        if contents.trouble:
            _log.warning("no toolchain module", filename=filename, error=contents.trouble)
        return contents


def _is_of(toolchain: ToolchainIdentity, record: FileRecord) -> bool:
    """Whether the archive holds the release of its record; a wrong index could mix them up."""
    file = record.file
    goarch = "arm" if file.arch in ARM_NAMES else file.arch
    return toolchain.version == module_version(file.version, file.os, goarch)


def _state(verdict: RecordedVerdict) -> FileState:
    if verdict.accepted:
        return FileState.VERIFIED
    if verdict.reason in _PENDING:
        return FileState.PENDING_SIGNATURE
    return FileState.QUARANTINED


def _reason(verdict: RecordedVerdict) -> str:
    return "" if verdict.accepted else verdict.detail
