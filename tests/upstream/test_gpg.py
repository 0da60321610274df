"""The real gpg end to end: throw-away keys for every row of the policy, real Go releases."""

import os
import select
import stat
import sys
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import which

import pytest

from app.core.digest import Digest
from app.core.errors import KeyringError, NotYetError, SettingsError, StorageError
from app.core.signature import SignatureVerdict, VerdictReason
from app.upstream.gpg import (
    KEYRING_MAX_BYTES,
    PINNED_FINGERPRINT,
    SIGNATURE_MAX_BYTES,
    Gpg,
    Keyring,
    builtin_key,
    lost_subkeys,
)
from app.upstream.gpg_process import Transcript
from tests import imported
from tests.upstream.gpgkeys import SIGNED, ThrowawayKeys, throwaway_keys

pytestmark = pytest.mark.skipif(which("gpg") is None, reason="gpg is not installed")

NOW = datetime(2026, 11, 23, tzinfo=UTC)
R = VerdictReason

RELEASES = Path(__file__).parents[3] / "shared" / "upstream"
GO_1_19_8, GO_1_27_1 = RELEASES / "go1.19.8.src.tar.gz", RELEASES / "go1.27.1.src.tar.gz"
SUBKEY_2021 = "8461EFA0E74ABAE010DE66994EB27DB2A3B88B8B"
SUBKEY_2025 = "0E225917414670F4442C250DFD533C07C264648F"


def now() -> datetime:
    return NOW


@pytest.fixture(scope="module", autouse=True)
def _each_import_by_itself() -> Iterator[None]:
    with imported.each_by_itself():
        yield


@pytest.fixture(scope="session")
def keys() -> Iterator[ThrowawayKeys]:
    with throwaway_keys() as made:
        yield made


@pytest.fixture(scope="session")
def gpg(keys: ThrowawayKeys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    home_parent = tmp_path_factory.mktemp("gpg")
    with closing(Gpg(home_parent=home_parent, pinned=frozenset({keys.primary}), now=now)) as made:
        yield made


@pytest.fixture(scope="session")
def keyring(gpg: Gpg, keys: ThrowawayKeys) -> Keyring:
    return gpg.load(keys.export)


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    path = tmp_path / "go1.99.src.tar.gz"
    path.write_bytes(SIGNED)
    return path


def script(folder: Path, body: str) -> str:
    """Return the path of a program that stands in for gpg."""
    path = folder / "fake-gpg"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def gpg_at(folder: Path, keys: ThrowawayKeys, binary: str = "gpg", timeout_s: float = 60) -> Gpg:
    pinned = frozenset({keys.primary})
    return Gpg(home_parent=folder, pinned=pinned, binary=binary, timeout_s=timeout_s, now=now)


# Signatures --------------------------------------------------------------------------------

ROWS = {
    "good": R.GOOD,
    "notation": R.GOOD,
    "newer": R.GOOD,
    "before-expiry": R.GOOD_EXPIRED_KEY,
    "after-expiry": R.SIGNED_AFTER_EXPIRY,
    "revoked-key": R.REVOKED_KEY,
    "other-key": R.UNKNOWN_SUBKEY,
    "expired-signature": R.EXPIRED_SIGNATURE,
    "expiring-signature": R.EXPIRED_SIGNATURE,
    "sha1": R.WEAK_DIGEST,
    "md5": R.WEAK_DIGEST,
    "future": R.FUTURE,
    "text-mode": R.WRONG_CLASS,
    "two-good": R.SEVERAL_SIGNATURES,
    "unknown-then-good": R.SEVERAL_SIGNATURES,
    "good-then-unknown": R.SEVERAL_SIGNATURES,
    "expired-key-then-good": R.SEVERAL_SIGNATURES,
    "bad-then-good": R.BAD_SIGNATURE,  # gpg stops at the bad one
    "other-file": R.BAD_SIGNATURE,
    "inline": R.NO_SIGNATURE,
    "clearsigned": R.NO_SIGNATURE,
    "empty": R.NO_SIGNATURE,
    "html": R.NO_SIGNATURE,
    "truncated": R.NO_SIGNATURE,
    "truncated-binary": R.NO_SIGNATURE,
}


def test_F64_every_signature_that_was_made_has_its_row(keys: ThrowawayKeys) -> None:
    assert set(ROWS) == set(keys.signatures)


@pytest.mark.parametrize("row", ROWS)
def test_F64_signature_gets_its_verdict(
    row: str, gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    verdict = gpg.verify(keyring, keys.signatures[row], signed)
    assert verdict.reason is ROWS[row], verdict
    assert verdict.accepted is (ROWS[row] in {R.GOOD, R.GOOD_EXPIRED_KEY})


def test_verdict_names_subkey_primary_and_date(
    gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    assert gpg.verify(keyring, keys.signatures["good"], signed) == SignatureVerdict(
        accepted=True,
        reason=R.GOOD,
        detail=f"signed 2020-06-01 by subkey {keys.good[:4]}…{keys.good[-4:]} of the pinned key",
        subkey=keys.good,
        primary=keys.primary,
        signed_at=datetime(2020, 6, 1, tzinfo=UTC),
    )


def test_F64_other_key_in_the_ring_is_refused_as_unpinned(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    both = frozenset({keys.primary, keys.other})
    with closing(Gpg(home_parent=tmp_path, pinned=both, now=now)) as gpg:
        ring = gpg.load(keys.both_export)
        assert gpg.verify(ring, keys.signatures["other-key"], signed).accepted
        gpg._pinned = frozenset({keys.primary})
        verdict = gpg.verify(ring, keys.signatures["other-key"], signed)
    assert verdict.reason is R.UNPINNED_KEY


def test_F64_signature_dated_ahead_is_accepted_within_five_minutes(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    dated = datetime(2099, 6, 1, tzinfo=UTC)
    clock = [dated - timedelta(seconds=300), dated - timedelta(seconds=301)]
    pinned = frozenset({keys.primary})
    with closing(Gpg(home_parent=tmp_path, pinned=pinned, now=lambda: clock.pop(0))) as gpg:
        ring = gpg.load(keys.export)
        assert gpg.verify(ring, keys.signatures["future"], signed).accepted
        assert gpg.verify(ring, keys.signatures["future"], signed).reason is R.FUTURE


@pytest.mark.parametrize("damage", ["truncated", "longer", "flipped", "crlf"])
@pytest.mark.parametrize("row", ["good", "text-mode"])
def test_F64_changed_file_is_refused(
    damage: str, row: str, gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    changed = {
        "truncated": SIGNED[:-1],
        "longer": SIGNED + b"\0",
        "flipped": b"L" + SIGNED[1:],
        "crlf": SIGNED.replace(b"\n", b"\r\n"),
    }
    signed.write_bytes(changed[damage])
    verdict = gpg.verify(keyring, keys.signatures[row], signed)
    assert not verdict.accepted
    assert verdict.reason in {R.BAD_SIGNATURE, R.WRONG_CLASS}


@pytest.mark.parametrize(
    ("asc", "reason"),
    [
        (b"<html><title>Forbidden</title></html>", R.NO_SIGNATURE),
        (b"404 page not found\n", R.NO_SIGNATURE),
        (b"", R.NO_SIGNATURE),
        (b"\0" * 1000, R.NO_SIGNATURE),
        (b"\x1f\x8b\x08\0" + b"\xff" * 500, R.NO_SIGNATURE),
    ],
)
def test_F63_what_is_no_signature_is_called_so(
    asc: bytes, reason: VerdictReason, gpg: Gpg, keyring: Keyring, signed: Path
) -> None:
    assert gpg.verify(keyring, asc, signed).reason is reason


def test_F63_signature_of_another_file_is_bad(
    gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    verdict = gpg.verify(keyring, keys.signatures["other-file"], signed)
    assert verdict.reason is R.BAD_SIGNATURE
    assert verdict.subkey == keys.good


def test_F63_oversized_signature_is_not_shown_to_gpg(
    keyring: Keyring, keys: ThrowawayKeys, tmp_path: Path
) -> None:
    with closing(gpg_at(tmp_path, keys, binary=str(tmp_path / "missing"))) as gpg:
        verdict = gpg.verify(keyring, b"x" * (SIGNATURE_MAX_BYTES + 1), tmp_path / "missing")
    assert verdict.reason is R.NO_SIGNATURE
    assert "65537 bytes" in verdict.detail


def test_truncations_of_a_signature_are_never_accepted(
    gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    good = keys.signatures["good"]
    end = good.index(b"-----END")
    for length in range(0, end - 6, 7):  # the last line is the armor's checksum, which is optional
        assert not gpg.verify(keyring, good[:length], signed).accepted, length


def test_verifications_in_many_threads_do_not_mix(
    gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    rows = ["good", "sha1", "html", "other-key", "before-expiry"] * 6
    with ThreadPoolExecutor(8) as pool:
        verdicts = pool.map(lambda row: gpg.verify(keyring, keys.signatures[row], signed), rows)
        assert [verdict.reason for verdict in verdicts] == [ROWS[row] for row in rows]


# Keyrings ----------------------------------------------------------------------------------


def test_F65_new_subkey_is_unknown_until_the_keyring_is_renewed(
    gpg: Gpg, keys: ThrowawayKeys, signed: Path
) -> None:
    before = gpg.verify(gpg.load(keys.older_export), keys.signatures["newer"], signed)
    assert before.reason is R.UNKNOWN_SUBKEY
    assert before.subkey == keys.newer
    assert "moorage releases keys refresh" in before.detail
    after = gpg.verify(gpg.load(keys.export), keys.signatures["newer"], signed)
    assert after.reason is R.GOOD


def test_a_load_lists_the_keys_once_and_each_load_lists_them(
    keys: ThrowawayKeys, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    binary = script(tmp_path, f'echo "$*" >> {runs}; exec {which("gpg")} "$@"')
    with closing(gpg_at(tmp_path, keys, binary)) as gpg:
        for times in (1, 2):
            keyring = gpg.load(keys.export)
            assert keys.newer in {key.fingerprint for key in keyring.subkeys}
            assert runs.read_text().count("--list-keys") == times


def test_keyring_holds_the_pinned_key_alone(gpg: Gpg, keys: ThrowawayKeys) -> None:
    keyring = gpg.load(keys.both_export)
    expected = [keys.primary, keys.good, keys.expired, keys.revoked, keys.newer]
    assert [key.fingerprint for key in keyring.subkeys] == expected
    assert {key.fingerprint for key in keyring.subkeys if key.revoked} == {keys.revoked}
    assert keyring.digest == Digest.of(keys.both_export)
    assert keyring.armored == keys.both_export


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (b"", "not an OpenPGP key export"),
        (b"<!DOCTYPE html><html></html>", "not an OpenPGP key export"),
        (b"\0" * 4096, "not an OpenPGP key export"),
        (b"x" * (KEYRING_MAX_BYTES + 1), "1048576 bytes at most"),
        ("signature", "not an OpenPGP key export"),
        ("truncated", "not an OpenPGP key export"),
        ("other_export", "lacks the pinned primary key"),
        ("secret_export", "holds secret keys"),
        ("certify_only_export", "no usable signing key"),
        ("revoked_primary_export", "no usable signing key"),
    ],
)
def test_unusable_export_is_refused_and_leaves_nothing(
    export: bytes | str, message: str, keys: ThrowawayKeys, tmp_path: Path
) -> None:
    made = {"signature": keys.signatures["good"], "truncated": keys.export[:400]}
    if isinstance(export, str):
        export = made.get(export) or getattr(keys, export)
    with closing(gpg_at(tmp_path, keys)) as gpg:
        with pytest.raises(KeyringError, match=message):
            gpg.load(export)
        (private,) = tmp_path.iterdir()
        assert list(private.iterdir()) == []


@pytest.mark.parametrize(
    "pinned", [[], ["7721F63BD38B4796"], [PINNED_FINGERPRINT.lower()], [PINNED_FINGERPRINT, ""]]
)
def test_pin_has_to_be_a_whole_fingerprint(pinned: list[str], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="PINNED_FINGERPRINTS"):
        Gpg(home_parent=tmp_path, pinned=frozenset(pinned), now=now)
    assert list(tmp_path.iterdir()) == []


def test_subkey_can_not_be_pinned(keys: ThrowawayKeys, tmp_path: Path) -> None:
    with (
        closing(Gpg(home_parent=tmp_path, pinned=frozenset({keys.good}), now=now)) as gpg,
        pytest.raises(KeyringError, match="lacks the pinned primary key"),
    ):
        gpg.load(keys.export)


def test_older_export_shows_by_what_it_would_lose(gpg: Gpg, keys: ThrowawayKeys) -> None:
    newer, older = gpg.load(keys.export), gpg.load(keys.older_export)
    assert lost_subkeys(newer, older) == ()
    assert lost_subkeys(newer, newer) == ()
    assert lost_subkeys(older, newer) == (keys.revoked, keys.newer)  # the first loses a revocation


def test_home_is_private_holds_no_secret_and_is_removed(
    keys: ThrowawayKeys, tmp_path: Path
) -> None:
    gpg = gpg_at(tmp_path, keys)
    gpg.load(keys.export)
    (private,) = tmp_path.iterdir()
    homes = list(private.iterdir())
    for folder in (private, *homes):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert not any((home / "private-keys-v1.d").exists() for home in homes)
    gpg.load(keys.export)
    assert list(private.iterdir()) == homes
    gpg.close()
    assert list(tmp_path.iterdir()) == []
    gpg.close()


def test_keyring_of_another_instance_is_taken_over(
    keyring: Keyring, keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    with closing(gpg_at(tmp_path, keys)) as gpg:
        assert gpg.verify(keyring, keys.signatures["good"], signed).accepted


def test_keyring_file_removed_by_a_cleaner_is_made_anew(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    with closing(gpg_at(tmp_path, keys)) as gpg:
        ring = gpg.load(keys.export)
        (file,) = tmp_path.rglob("pinned.gpg")
        file.unlink()
        assert gpg.verify(ring, keys.signatures["good"], signed).accepted


def test_keyring_file_damaged_later_is_not_an_unknown_key(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    with closing(gpg_at(tmp_path, keys)) as gpg:
        ring = gpg.load(keys.export)
        (file,) = tmp_path.rglob("pinned.gpg")
        file.write_bytes(b"")
        assert gpg.verify(ring, keys.signatures["good"], signed).reason is R.GPG_FAILED


def test_home_path_may_be_long(keys: ThrowawayKeys, tmp_path: Path, signed: Path) -> None:
    parent = tmp_path / ("long" * 40)
    parent.mkdir()
    with closing(gpg_at(parent, keys)) as gpg:
        assert gpg.verify(gpg.load(keys.export), keys.signatures["good"], signed).accepted


def test_environment_of_the_user_is_not_consulted(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "gnupg"
    elsewhere.mkdir(mode=0o700)
    (elsewhere / "gpg.conf").write_text("weak-digest SHA256\nno-such-option\n")
    monkeypatch.setenv("GNUPGHOME", str(elsewhere))
    monkeypatch.setenv("LANGUAGE", "de")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    with closing(gpg_at(tmp_path, keys)) as gpg:
        ring = gpg.load(keys.export)
        assert gpg.verify(ring, keys.signatures["good"], signed).accepted
        assert gpg.verify(ring, keys.signatures["inline"], signed).reason is R.NO_SIGNATURE
    assert [path.name for path in elsewhere.iterdir()] == ["gpg.conf"]


# Trouble that is no verdict ----------------------------------------------------------------


def test_missing_temporary_folder_does_no_harm(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with closing(gpg_at(tmp_path, keys)) as gpg:
        assert gpg.verify(gpg.load(keys.export), keys.signatures["good"], signed).accepted


def test_unwritable_home_is_a_storage_error(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    with pytest.raises(StorageError, match="can't be written for gpg: No such file"):
        gpg_at(tmp_path / "missing", keys)
    gpg = gpg_at(tmp_path, keys)
    ring = gpg.load(keys.export)
    gpg.close()
    with pytest.raises(StorageError, match="can't be written for gpg"):
        gpg.verify(ring, keys.signatures["good"], signed)
    with pytest.raises(StorageError, match="can't be written for gpg"):
        gpg.load(keys.export)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "relative", "read error"])
def test_F64_file_that_can_not_be_read_is_a_storage_error(
    kind: str, gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "relative":
        path = Path("pyproject.toml")
    elif kind == "read error":
        if sys.platform != "linux":
            pytest.skip("needs /proc")
        path = Path("/proc/self/mem")  # a regular file whose first page gives EIO
    with pytest.raises(StorageError):
        gpg.verify(keyring, keys.signatures["good"], path)


def test_F66_missing_binary_refuses_keys_and_postpones_verdicts(
    keyring: Keyring, keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    with closing(gpg_at(tmp_path, keys, binary=str(tmp_path / "no-gpg"))) as gpg:
        with pytest.raises(NotYetError, match="no-gpg"):
            gpg.load(keys.export)
        with pytest.raises(NotYetError, match="no-gpg"):
            gpg.verify(keyring, keys.signatures["good"], signed)
        with pytest.raises(NotYetError):
            _ = gpg.version


def test_F66_binary_that_goes_missing_later_postpones_verdicts(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    binary = script(tmp_path, f'exec {which("gpg")} "$@"')
    with closing(gpg_at(tmp_path, keys, binary)) as gpg:
        ring = gpg.load(keys.export)
        Path(binary).unlink()
        with pytest.raises(NotYetError, match="can't be run"):
            gpg.verify(ring, keys.signatures["good"], signed)
        with pytest.raises(NotYetError, match="can't be run"):
            gpg.load(keys.export)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("exit 139", "crashed .exit code 139"),
        ("kill -SEGV $$", "crashed .exit code -11"),
        ("exit 0", "gpg failed: no message"),
        ("echo 'gpg: out of core in secure memory' >&2; exit 2", "gpg failed: out of core"),
        ("printf 'gpg: \\033[31mred\\n' >&2; exit 2", "gpg failed: .\\[31mred"),
    ],
)
def test_F66_crash_while_verifying_is_no_verdict(
    command: str, message: str, keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    body = f'case "$*" in *--verify*) {command};; *) exec {which("gpg")} "$@";; esac'
    with closing(gpg_at(tmp_path, keys, script(tmp_path, body))) as gpg:
        ring = gpg.load(keys.export)
        with pytest.raises(NotYetError, match=message):
            gpg.verify(ring, keys.signatures["good"], signed)


@pytest.mark.parametrize("command", ["exit 139", "exit 0", "echo nonsense", "kill -KILL $$"])
def test_F66_broken_binary_refuses_keys(command: str, keys: ThrowawayKeys, tmp_path: Path) -> None:
    with closing(gpg_at(tmp_path, keys, script(tmp_path, command))) as gpg:
        with pytest.raises(NotYetError):
            gpg.load(keys.export)
        with pytest.raises(NotYetError):
            _ = gpg.version


def ends(pid: int) -> bool:
    """Whether a process that was sent SIGKILL ends; the kernel takes its time for a grandchild."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], 60)[0])
    finally:
        os.close(process)


@pytest.mark.skipif(sys.platform != "linux", reason="needs pidfds")
def test_F66_hanging_gpg_is_killed_with_its_children(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    pids = tmp_path / "pids"
    hang = f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    body = f'case "$*" in *--verify*) {hang};; *) exec {which("gpg")} "$@";; esac'
    with closing(gpg_at(tmp_path, keys, script(tmp_path, body))) as gpg:
        ring = gpg.load(keys.export)
        gpg.timeout_s = 0.15
        while not pids.exists():  # a loaded machine may kill the script before it wrote them
            with pytest.raises(NotYetError, match="did not answer within"):
                gpg.verify(ring, keys.signatures["good"], signed)
            gpg.timeout_s *= 2
    started = [int(pid) for pid in pids.read_text().split()]
    assert len(started) == 2
    assert all(ends(pid) for pid in started)


def test_F66_gpg_that_hangs_from_the_start_is_not_waited_for(
    keys: ThrowawayKeys, tmp_path: Path
) -> None:
    with (
        closing(gpg_at(tmp_path, keys, script(tmp_path, "exec sleep 600"), 0.1)) as gpg,
        pytest.raises(NotYetError, match=r"did not answer within 0\.1 s"),
    ):
        gpg.load(keys.export)


def test_user_id_can_not_pose_as_a_status_line() -> None:
    transcript = Transcript()
    transcript.stderr = (
        "gpg: note\n[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG A x\x85[GNUPG:] VALIDSIG y\rz\n"
        "x [GNUPG:] BADSIG\n[GNUPG:] TRUST_UNDEFINED 0 pgp\n"
    )
    assert transcript.status_lines == (
        *("NEWSIG", "GOODSIG A x\x85[GNUPG:] VALIDSIG y\rz", "TRUST_UNDEFINED 0 pgp"),
    )
    assert transcript.last_words == "note; x [GNUPG:] BADSIG"


# Google's key ------------------------------------------------------------------------------


@pytest.fixture
def google(tmp_path: Path) -> Iterator[Gpg]:
    pinned = frozenset({PINNED_FINGERPRINT})
    with closing(Gpg(home_parent=tmp_path, pinned=pinned, now=now)) as made:
        yield made


def test_built_in_key_is_usable(google: Gpg) -> None:
    keyring = google.load(builtin_key())
    assert {key.primary for key in keyring.subkeys} == {PINNED_FINGERPRINT}
    signing = {key.fingerprint for key in keyring.subkeys if key.can_sign and not key.revoked}
    assert {SUBKEY_2021, SUBKEY_2025} <= signing
    assert len(keyring.subkeys) == 8
    assert all(part.isdigit() for part in google.version.split("."))


def export(year: int) -> bytes:
    return (RELEASES / f"google-linux-signing-key-{year}.asc").read_bytes()


def asc(archive: Path) -> bytes:
    return archive.with_name(f"{archive.name}.asc").read_bytes()


real = pytest.mark.skipif(
    not GO_1_27_1.exists(), reason="the real Go archives are not beside the repository"
)


@real
@pytest.mark.real
def test_real_release_by_a_subkey_in_force_is_good(google: Gpg) -> None:
    verdict = google.verify(google.load(export(2026)), asc(GO_1_27_1), GO_1_27_1)
    assert (verdict.accepted, verdict.reason) == (True, R.GOOD)
    assert (verdict.subkey, verdict.primary) == (SUBKEY_2025, PINNED_FINGERPRINT)
    assert verdict.signed_at is not None
    assert verdict.signed_at.date().isoformat() == "2026-08-28"


@real
@pytest.mark.real
@pytest.mark.parametrize("year", [2021, 2024, 2026])
def test_real_release_signed_in_time_by_a_subkey_expired_since_is_good(
    google: Gpg, year: int
) -> None:
    verdict = google.verify(google.load(export(year)), asc(GO_1_19_8), GO_1_19_8)
    assert (verdict.accepted, verdict.reason) == (True, R.GOOD_EXPIRED_KEY)
    assert verdict.subkey == SUBKEY_2021
    assert verdict.signed_at is not None
    assert verdict.signed_at.date().isoformat() == "2023-03-30"


@real
@pytest.mark.real
def test_F65_real_release_waits_for_the_keyring_with_its_subkey(google: Gpg) -> None:
    old = google.load(export(2024))
    verdict = google.verify(old, asc(GO_1_27_1), GO_1_27_1)
    assert verdict.reason is R.UNKNOWN_SUBKEY
    assert verdict.subkey == SUBKEY_2025
    assert verdict.detail.startswith("unknown signing subkey 0E22…648F: run")
    new = google.load(builtin_key())
    assert google.verify(new, asc(GO_1_27_1), GO_1_27_1).accepted
    assert lost_subkeys(new, old) == ()
    assert SUBKEY_2025 in lost_subkeys(old, new)


@real
@pytest.mark.real
@pytest.mark.parametrize("year", [2021, 2024])
def test_real_export_gives_the_pinned_key_without_the_key_of_2007(google: Gpg, year: int) -> None:
    keyring = google.load(export(year))
    assert {key.primary for key in keyring.subkeys} == {PINNED_FINGERPRINT}
    assert len(keyring.subkeys) == {2021: 5, 2024: 7}[year]


@real
@pytest.mark.real
def test_F67_real_signatures_swapped_are_bad(google: Gpg) -> None:
    keyring = google.load(export(2026))
    for signature, archive in ((GO_1_19_8, GO_1_27_1), (GO_1_27_1, GO_1_19_8)):
        assert google.verify(keyring, asc(signature), archive).reason is R.BAD_SIGNATURE


@real
@pytest.mark.real
def test_built_in_key_is_the_export_of_2026() -> None:
    assert builtin_key() == export(2026)


# Text beside the signature, clocks, and the end -------------------------------------------------

TEXT = b"This release was withdrawn; get it from evil.example instead.\n"
HEADERS = b"-----\nVersion: GnuPG v2 - https://gnupg.org\nComment: a-b\n"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda asc: asc + TEXT, R.OTHER_TEXT),
        (lambda asc: asc + b"\n \n" + TEXT, R.OTHER_TEXT),
        (lambda asc: TEXT + asc, R.OTHER_TEXT),
        (lambda asc: asc + asc, R.SEVERAL_SIGNATURES),
        (lambda asc: asc + b"\r\n\n \n", R.GOOD),
        (lambda asc: asc.replace(b"\n", b"\r\n"), R.GOOD),
        (lambda asc: asc.replace(b"-----\n", HEADERS, 1), R.GOOD),
    ],
    ids=["after", "after-a-blank", "before", "another-signature", "blanks", "crlf", "headers"],
)
def test_F104_text_beside_an_armored_signature_is_refused(
    change, reason: R, gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path
) -> None:
    """gpg reads the armored part alone; the file would be served with words that nobody signed."""
    verdict = gpg.verify(keyring, change(keys.signatures["good"]), signed)
    assert (verdict.reason, verdict.accepted) == (reason, reason is R.GOOD)


def test_F104_a_signature_that_is_not_armored_has_no_text_beside_it(
    gpg: Gpg, keyring: Keyring, keys: ThrowawayKeys, signed: Path, tmp_path: Path
) -> None:
    lines = keys.signatures["good"].decode().split("\n\n", 1)[1].split("\n=")[0]
    assert gpg.verify(keyring, b64decode(lines), signed).accepted


def test_F96_the_clock_of_gpg_has_no_say(keys: ThrowawayKeys, tmp_path: Path, signed: Path) -> None:
    """The keys are of 2020. A gpg of 2016 calls them keys of the future, and must not refuse."""
    early = script(tmp_path, f'exec {which("gpg")} --faked-system-time "20160101T000000!" "$@"')
    with closing(gpg_at(tmp_path, keys, early)) as gpg:
        ring = gpg.load(keys.export)
        verdicts = {row: gpg.verify(ring, keys.signatures[row], signed).reason for row in ROWS}
    assert verdicts == ROWS


def test_F66_a_gpg_that_hangs_is_ended_by_close(
    keys: ThrowawayKeys, tmp_path: Path, signed: Path
) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    hang = f"echo > {started}; sleep 600"
    body = f'case "$*" in *--verify*) {hang};; *) exec {which("gpg")} "$@";; esac'
    with closing(gpg_at(tmp_path, keys, script(tmp_path, body))) as gpg:
        ring = gpg.load(keys.export)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(gpg.verify, ring, keys.signatures["good"], signed)
            started.read_bytes()  # until gpg runs
            gpg.close()
            with pytest.raises((NotYetError, StorageError)):
                waiting.result(timeout=60)
        with pytest.raises((NotYetError, StorageError)):
            gpg.verify(ring, keys.signatures["good"], signed)
