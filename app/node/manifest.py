"""A channel's manifest: which releases a node may run, signed, with an expiry.

Only `open_manifest` makes a `Manifest`: no code holds one whose signature was not checked.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from .errors import RefusedError
from .goversion import is_version
from .instant import parse_instant, show_instant, show_span
from .note import VerifierKey, open_note

HEADING = "moorage channel 1"
TOLERANCE_S = 600
"""Seconds that a node's clock may be off without consequence."""
CHUNK_BYTES = 1 << 20

_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILENAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,127}", re.ASCII)


class Compressed(NamedTuple):
    """The zstd form of an archive: size in bytes, hex SHA-256 of the file and of its sums."""

    size: int
    sha256: str
    chunks: str


class ManifestFile(NamedTuple):
    """An archive that the manifest names; digests are hex SHA-256."""

    filename: str
    size: int
    sha256: str
    tree: str
    chunks: str
    zst: Compressed | None


class Manifest(NamedTuple):
    """A channel's revision.

    Attributes:
        channel: its name.
        revision: grows with each revision of the channel.
        issued_at, expires_at: seconds since 1970.
        current: the release that the channel's nodes run.
        releases: archives by release, then by platform ("linux-amd64").
        raw: the signed note.
    """

    channel: str
    revision: int
    issued_at: int
    expires_at: int
    current: str
    releases: dict[str, dict[str, ManifestFile]]
    raw: bytes

    def file_of(self, version: str, platform: str) -> ManifestFile:
        """Return the archive of a release for a platform.

        Raises:
            RefusedError: the channel does not offer it.
        """
        files = self.releases.get(version)
        if files is None:
            offered = ", ".join(list(self.releases)[:8]) or "nothing"
            raise RefusedError(
                f"channel {self.channel} (revision {self.revision}) does not offer {version}; "
                f"it offers {offered}"
            )
        if platform not in files:
            raise RefusedError(
                f"channel {self.channel} has no archive of {version} for {platform}; "
                f"it has {', '.join(sorted(files)[:8]) or 'none'}"
            )
        return files[platform]


def open_manifest(
    raw: bytes,
    key: VerifierKey,
    *,
    channel: str,
    seen_revision: int,
    now: float,
    newest_signed: int = 0,
) -> Manifest:
    """Return the manifest of a channel, if a node may act on it.

    A clock that is behind would make every manifest look fresh. So the time by which expiry is
    judged is the later one of the clock and the newest time that the key has signed.

    Args:
        raw: the signed note.
        key: pinned.
        channel: that the node follows.
        seen_revision: the newest that the node ever saw of this channel.
        now: seconds since 1970 by this machine's clock.
        newest_signed: the newest `issued_at` that the node ever saw; 0 for none.

    Raises:
        RefusedError: wrong key or text, another channel, expired, or an older revision than seen.
    """
    manifest = _parse(open_note(raw, key), raw)
    if manifest.channel != channel:
        raise RefusedError(f"the manifest is of channel {manifest.channel!a}, not of {channel!a}")
    if manifest.revision < seen_revision:
        raise RefusedError(
            f"the manifest is a replayed older one: revision {manifest.revision} of channel "
            f"{channel}, and this node has seen {seen_revision}"
        )
    late_s = max(now, newest_signed) - manifest.expires_at
    if late_s > TOLERANCE_S:
        raise RefusedError(
            f"the manifest expired {show_span(late_s)} ago ({show_instant(manifest.expires_at)}); "
            f"this machine's clock says {show_instant(now)}: check the clock first, "
            "then whether the server still signs"
        )
    return manifest


def clock_warning(now: float, *, signed: int, server_time: int | None) -> str:
    """Return a line about a clock that is off by more than the tolerance; "" if it is right.

    Args:
        now: seconds since 1970 by this machine's clock.
        signed: when the newest manifest was signed: the true time can't be before.
        server_time: what the server says, unsigned; None if unknown.
    """
    behind_s = max(signed, server_time or 0) - now
    if behind_s > TOLERANCE_S:
        return f"this machine's clock is behind by {show_span(behind_s)}; set it"
    if server_time is not None and now - server_time > TOLERANCE_S:
        return f"this machine's clock is ahead of the server's by {show_span(now - server_time)}"
    return ""


def _parse(text: str, raw: bytes) -> Manifest:
    heading, _, body = text.partition("\n")
    if heading != HEADING:
        raise RefusedError(f"the signed note is no channel manifest: it begins {heading[:40]!a}")
    try:
        fields = json.loads(body)
        releases = {
            _version(release["version"]): {
                f"{one['os']}-{one['arch']}": _file(one)
                for one in release["files"]
                if one["kind"] == "archive"
            }
            for release in fields["releases"]
        }
        return Manifest(
            channel=str(fields["channel"]),
            revision=_number(fields["revision"]),
            issued_at=parse_instant(fields["issued_at"]),
            expires_at=parse_instant(fields["expires_at"]),
            current=_version(fields["current"]),
            releases=releases,
            raw=raw,
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RefusedError(
            f"the manifest is signed, but of a form that this program does not know: {error!a}; "
            "a newer moorage-node may know it"
        ) from error


def _file(fields: Any) -> ManifestFile:
    filename = fields["filename"]
    if not _FILENAME.fullmatch(filename):
        raise ValueError("filename")
    zst = fields.get("zst")
    return ManifestFile(
        filename=filename,
        size=_number(fields["size"]),
        sha256=_hex(fields["sha256"]),
        tree=_hex(fields["tree"]),
        chunks=_hex(fields["chunks"]),
        zst=None if zst is None else _compressed(zst),
    )


def _compressed(fields: Any) -> Compressed:
    return Compressed(_number(fields["size"]), _hex(fields["sha256"]), _hex(fields["chunks"]))


def _hex(value: Any) -> str:
    if not _HEX.fullmatch(value):
        raise ValueError("sha256")
    return str(value)


def _number(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("number")
    return value


def _version(value: Any) -> str:
    if not is_version(value):
        raise ValueError("version")
    return str(value)
