"""Throw-away keys and signatures, made with the real gpg at faked times.

`throwaway_keys()` makes one pinned key with several signing subkeys, one other key, and every kind
of signature over `SIGNED` that a mirror may meet. Keys date from 2020 and signatures from June
2020 unless they say otherwise, so nothing here depends on today's date.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SIGNED = b"line one\nline two\n"
CREATED, MADE, LATER = "20200101T000000!", "20200601T000000!", "20220601T000000!"
EXPIRED_ON = "2021-07-01"  # `expired` goes out of force: one year after it was given an expiry
FAR_FUTURE = "20990601T000000!"


@dataclass(frozen=True)
class ThrowawayKeys:
    """Fingerprints, exports and signatures.

    Attributes:
        primary: the key to pin; it certifies only.
        good, expired, revoked, newer: its signing subkeys.
        other: another primary key, which signs by itself.
        export: the pinned key, complete.
        older_export: the pinned key before `newer` was added and `revoked` was revoked.
        both_export: the pinned key and the other key.
        signatures: by the names of `_make_signatures`; armored except where several are joined.
    """

    primary: str
    good: str
    expired: str
    revoked: str
    newer: str
    other: str
    export: bytes
    older_export: bytes
    both_export: bytes
    other_export: bytes
    secret_export: bytes
    certify_only_export: bytes
    revoked_primary_export: bytes
    signatures: dict[str, bytes]


class Room:
    """A short-lived gpg home with secret keys, and the agent that gpg starts for them."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def gpg(self, *args: str, at: str = CREATED, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--no-tty", "--yes"]
        command += ["--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time", at]
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.home)}
        done = subprocess.run(
            [*command, *args], input=stdin, capture_output=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def new_key(self, name: str, usage: str) -> str:
        self.gpg("--batch", "--quick-gen-key", name, "ed25519", usage, "never")
        return self.fingerprints(name)[0]

    def new_subkey(self, primary: str) -> str:
        self.gpg("--batch", "--quick-add-key", primary, "ed25519", "sign", "never")
        return self.fingerprints(primary)[-1]

    def fingerprints(self, name: str) -> list[str]:
        listing = self.gpg("--with-colons", "--fingerprint", "--fingerprint", "--list-keys", name)
        records = [line.split(":") for line in listing.decode().splitlines()]
        return [record[9] for record in records if record[0] == "fpr"]

    def sign(self, key: str, *options: str, at: str = MADE, over: bytes = SIGNED) -> bytes:
        keys = [arg for each in key.split() for arg in ("--local-user", f"{each}!")]
        mode = [] if "--sign" in options or "--clearsign" in options else ["--detach-sign"]
        return self.gpg("--batch", *keys, *options, *mode, at=at, stdin=over)

    def export(self, *keys: str) -> bytes:
        return self.gpg("--batch", "--armor", "--export", *keys)

    def close(self) -> None:
        kill = ["gpgconf", "--homedir", str(self.home), "--kill", "gpg-agent"]
        subprocess.run(kill, check=True, capture_output=True)
        while self._agent_listens():
            time.sleep(0.005)
        shutil.rmtree(self.home, ignore_errors=True)  # a dying agent removes its sockets too

    def _agent_listens(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self.home / "S.gpg-agent")) == 0


@contextmanager
def throwaway_keys() -> Iterator[ThrowawayKeys]:
    """Make the keys; no process and no secret key is left behind."""
    room = Room(Path(tempfile.mkdtemp(prefix="mk-", dir="/tmp")))  # agents need a short path
    try:
        yield _make_keys(room)
    finally:
        room.close()


def _make_keys(room: Room) -> ThrowawayKeys:
    primary = room.new_key("Pinned <pinned@example.com>", "cert")
    certify_only = room.export(primary)
    good, expired, revoked = (room.new_subkey(primary) for _ in range(3))
    other = room.new_key("Other <other@example.com>", "sign")
    signatures = _make_signatures(room, good, expired, revoked, other)
    room.gpg(
        "--batch", "--quick-set-expire", primary, "seconds=31536000", expired, at="20200701T000000!"
    )
    older_export = room.export(primary)
    room.gpg(
        "--command-fd",
        "0",
        "--edit-key",
        primary,
        stdin=b"key 3\nrevkey\ny\n0\n\ny\nsave\n",
        at=LATER,
    )
    newer = room.new_subkey(primary)
    signatures["newer"] = room.sign(newer, "--armor")
    return ThrowawayKeys(
        primary=primary,
        good=good,
        expired=expired,
        revoked=revoked,
        newer=newer,
        other=other,
        export=room.export(primary),
        older_export=older_export,
        both_export=room.export(primary, other),
        other_export=room.export(other),
        secret_export=room.gpg("--batch", "--armor", "--export-secret-keys", primary),
        certify_only_export=certify_only,
        revoked_primary_export=_revoke(room, primary),
        signatures=signatures,
    )


def _make_signatures(
    room: Room, good: str, expired: str, revoked: str, other: str
) -> dict[str, bytes]:
    armored = room.sign(good, "--armor")
    by_good, by_other = room.sign(good), room.sign(other)
    return {
        "good": armored,
        "other-key": room.sign(other, "--armor"),
        "before-expiry": room.sign(expired, "--armor"),
        "after-expiry": room.sign(expired, "--armor", at=LATER),
        "revoked-key": room.sign(revoked, "--armor"),
        "expired-signature": room.sign(good, "--armor", "--default-sig-expire", "1d"),
        "expiring-signature": room.sign(good, "--armor", "--default-sig-expire", "2090-01-01"),
        "sha1": room.sign(good, "--armor", "--digest-algo", "SHA1"),
        "md5": room.sign(good, "--armor", "--digest-algo", "MD5", "--allow-weak-digest-algos"),
        "future": room.sign(good, "--armor", at=FAR_FUTURE),
        "text-mode": room.sign(good, "--armor", "--textmode"),
        "two-good": room.sign(f"{good} {expired}", "--armor"),
        "unknown-then-good": by_other + by_good,
        "good-then-unknown": by_good + by_other,
        "expired-key-then-good": room.sign(expired) + by_good,
        "bad-then-good": room.sign(good, over=b"another file") + by_good,
        "other-file": room.sign(good, "--armor", over=b"another file"),
        "notation": room.sign(
            good,
            "--armor",
            "--sig-notation",
            "a@example.com=GOODSIG 1",
            "--sender",
            "pinned@example.com",
        ),
        "inline": room.sign(good, "--armor", "--sign"),
        "clearsigned": room.sign(good, "--clearsign"),
        "empty": b"",
        "html": b"<!DOCTYPE html>\n<html><body>go get</body></html>\n",
        "truncated": armored[: len(armored) // 2],
        "truncated-binary": by_good[:60],
    }


def _revoke(room: Room, primary: str) -> bytes:
    """Return the key with the revocation that gpg prepared when it made the key. Comes last."""
    prepared = (room.home / "openpgp-revocs.d" / f"{primary}.rev").read_bytes()
    room.gpg("--batch", "--import", stdin=prepared.replace(b":-----BEGIN", b"-----BEGIN"))
    return room.export(primary)
