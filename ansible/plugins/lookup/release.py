"""The lookup moorage.go.release: what a release is, by its number or by a channel."""

from __future__ import annotations

DOCUMENTATION = r"""
name: release
short_description: A Go release of a Moorage, with file name, size, SHA-256 and URL
version_added: 0.1.0
description:
  - Looks a release up on the control node, for tasks that need its number or its sum.
  - With O(vkey) the answer comes from the channel's signed manifest, whose signature and expiry
    are checked; else from the server's list in go.dev's format.
author:
  - The Moorage authors (@moorage)
options:
  _terms:
    description: Releases, as V(go1.27.1) or V(1.27.1); V(current) is the channel's current release,
      and without a channel the newest stable one.
    required: true
  url:
    description: Base URL of Moorage.
    type: str
    required: true
    env:
      - name: MOORAGE_SERVER
  channel:
    description: The channel whose releases count.
    type: str
  vkey:
    description: The public key that signs the channel.
    type: str
  platform:
    description: Which archive.
    type: str
    default: linux-amd64
  ca:
    description: Path of a file with the certificate authority of the server.
    type: path
"""

EXAMPLES = r"""
- name: Say which release the channel has
  ansible.builtin.debug:
    msg: "{{ lookup('moorage.go.release', 'current', url='https://moorage.example',
             channel='stable').version }}"

- name: Get an archive without the module
  ansible.builtin.get_url:
    url: "{{ release.url }}"
    checksum: "sha256:{{ release.sha256 }}"
    dest: "/srv/{{ release.filename }}"
    mode: "0644"
  vars:
    release: "{{ lookup('moorage.go.release', '1.27.1', url='https://moorage.example') }}"
"""

RETURN = r"""
_raw:
  description: For each term a dictionary with C(version), C(platform), C(filename), C(size),
    C(sha256) and C(url).
  type: list
  elements: dict
"""

import contextlib
import json
import time

from ansible.errors import AnsibleLookupError
from ansible_collections.moorage.go.plugins.module_utils.moorage_node.errors import NodeError
from ansible_collections.moorage.go.plugins.module_utils.moorage_node.fetch import Servers
from ansible_collections.moorage.go.plugins.module_utils.moorage_node.goversion import (
    parse_platform,
    parse_version,
)
from ansible_collections.moorage.go.plugins.module_utils.moorage_node.manifest import open_manifest
from ansible_collections.moorage.go.plugins.module_utils.moorage_node.note import parse_vkey

from ansible.plugins.lookup import LookupBase

CURRENT = "current"


def of_listing(listing, term, platform, base):
    """Return a release of a list in go.dev's format, which has the newest first.

    Raises:
        AnsibleLookupError: the list does not have it.
    """
    version = None if term == CURRENT else parse_version(term)
    goos, goarch = parse_platform(platform)
    for release in listing:
        if version is None and not release["stable"]:
            continue
        if version in (None, release["version"]):
            for file in release["files"]:
                if (file["os"], file["arch"], file["kind"]) == (goos, goarch, "archive"):
                    return _value(release["version"], platform, file, base)
    raise AnsibleLookupError(f"the server has no {term} for {platform}")


def of_manifest(manifest, term, platform, base):
    """Return a release of a channel's manifest.

    Raises:
        NodeError: the channel does not offer it.
    """
    version = manifest.current if term == CURRENT else parse_version(term)
    return _value(version, platform, manifest.file_of(version, platform)._asdict(), base)


def _value(version, platform, file, base):
    return {
        "version": version,
        "platform": platform,
        "filename": file["filename"],
        "size": file["size"],
        "sha256": file["sha256"],
        "url": base + file["filename"],
    }


class LookupModule(LookupBase):
    """The lookup plugin."""

    def run(self, terms, variables=None, **kwargs):
        """Return a dictionary for each term."""
        self.set_options(var_options=variables, direct=kwargs)
        url, platform = self.get_option("url").rstrip("/"), self.get_option("platform")
        channel, vkey = self.get_option("channel"), self.get_option("vkey")
        folder = f"/dl/channels/{channel}/" if channel else "/dl/"
        try:
            servers = Servers((url,), ca=self.get_option("ca") or "")
            with contextlib.closing(servers):
                if vkey:
                    if not channel:
                        raise AnsibleLookupError("a key signs channels: say which channel")
                    manifest = open_manifest(
                        servers.get(f"{folder}manifest"),
                        parse_vkey(vkey),
                        channel=channel,
                        seen_revision=0,
                        now=time.time(),
                    )
                    return [of_manifest(manifest, term, platform, url + folder) for term in terms]
                current = servers.get(f"{folder}current").decode().strip() if channel else CURRENT
                listing = json.loads(servers.get(f"{folder}?mode=json&include=all"))
                return [
                    of_listing(
                        listing, current if term == CURRENT else term, platform, url + folder
                    )
                    for term in terms
                ]
        except (NodeError, ValueError) as error:
            raise AnsibleLookupError(f"moorage.go.release: {error}") from error
