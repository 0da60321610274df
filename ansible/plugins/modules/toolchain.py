#!/usr/bin/python
"""The module moorage.go.toolchain: arguments and answers; the work is module_utils/toolchain.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: toolchain
short_description: Go releases of one machine, from a Moorage mirror
version_added: 0.1.0
description:
  - Brings a Go release in, tests it and makes it current; takes it away; compares its files with
    the signed list; goes back to the release before.
  - Does what the program C(moorage-node) does, with the same code, on the same root. Nothing is
    unpacked that was not checked, and the old release stays in use until the new one has passed
    its test.
  - With O(vkey) or on an enrolled node, only what the channel's signed manifest names is
    installed. Without a key, the sums of the server's C(/dl/) count, over https or loopback.
requirements:
  - Python 3.9 or newer on the managed host; nothing else.
author:
  - The Moorage authors (@moorage)
attributes:
  check_mode:
    description: Can run in check mode and say what would change. The server is asked, and nothing
      but the record of the last look at the files (a cache) is written.
    support: full
  diff_mode:
    description: Shows what is current, installed, pinned and linked, before and after.
    support: full
options:
  state:
    description:
      - V(present) makes a release current, mends it if it has drifted, and removes old snapshots.
      - V(absent) removes one release that is not in use, or without O(version) everything.
      - V(verified) compares a release with its tree, and fails if they differ; with O(repair) it
        mends what differs.
      - V(rolled_back) goes back to another good snapshot, without network. It needs O(version), or
        O(away_from); so a second run changes nothing.
    type: str
    choices: [present, absent, verified, rolled_back]
    default: present
  version:
    description:
      - The release, as V(go1.27.1) or V(1.27.1).
      - Without it V(present) takes the channel's current release, V(verified) the current one of
        the machine.
    type: str
  away_from:
    description: With V(rolled_back), the release that must not stay in use. A machine that runs
      another one is left alone.
    type: str
  channel:
    description: The channel to follow; needs O(vkey), or a root that has a key pinned.
    type: str
  vkey:
    description: The public key that signs the channel, as C(moorage channel key) prints it. It is
      pinned in the root, and from then on only signed manifests count.
    type: str
  servers:
    description: Base URLs in order of preference. What is said here is kept in the root.
    type: list
    elements: str
    default: []
  ca:
    description: Path on the managed host of a file with further certificate authorities.
    type: path
  root:
    description: Where releases live; by default C(/opt/go) for root, else
      C(~/.local/share/moorage/go).
    type: path
  link:
    description: A further link to the current release, such as C(/usr/local/go).
    type: path
  platform:
    description: Which archive, as V(linux-amd64); by default the machine's own.
    type: str
  form:
    description: Which form of the archive is fetched. V(auto) takes zstd where server and machine
      can.
    type: str
    choices: [auto, zst, tar.gz]
    default: auto
  smoke:
    description: V(full) runs C(go version) and compiles a program before the switch.
    type: str
    choices: [full, version, none]
    default: full
  keep:
    description: How many snapshots stay on the machine.
    type: int
    default: 3
  gpg:
    description: Path on the managed host of a keyring. The archive's signature by Google is then
      checked as well, with the program C(gpg); the V(tar.gz) is fetched for it.
    type: path
  limit:
    description: Bytes a second at most, as V(20M).
    type: str
  idle:
    description:
      - Seconds without a byte after which a server is given up.
      - A file's first byte may take 120 seconds, since a full server has downloads wait.
    type: float
    default: 30
  deadline:
    description: Seconds that one file may take.
    type: float
    default: 1800
  level:
    description: How closely V(verified) looks. V(quick) at names, V(default) also at size, mode,
      times, and the content of what was touched, V(full) at the SHA-256 of every file.
    type: str
    choices: [quick, default, full]
    default: full
  repair:
    description: With V(verified), mend what differs.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: The release that the channel stable has, and no other
  moorage.go.toolchain:
    channel: stable
    vkey: moorage.example+1a2b3c4d+AbCd…
    servers: [https://edge.example, https://moorage.example]
    link: /usr/local/go

- name: One release by its number
  moorage.go.toolchain:
    version: 1.27.1
    servers: [https://moorage.example]

- name: Is every file what the release has?
  moorage.go.toolchain:
    state: verified

- name: Away from a bad release, without network
  moorage.go.toolchain:
    state: rolled_back
    away_from: 1.27.1
"""

RETURN = r"""
root:
  description: Where releases live.
  type: str
  returned: success
version:
  description: The release that is current now, or would be.
  type: str
  returned: success
previous:
  description: The release that was current before.
  type: str
  returned: success
goroot:
  description: The folder of the release that is current.
  type: str
  returned: success
result:
  description: What was done. C(foreseen) in check mode.
  type: str
  returned: success
  sample: installed
seconds:
  description: Seconds of each stage; they overlap.
  type: dict
  returned: when something was fetched or switched
drift:
  description: Paths that are missing, changed (and how) and extra.
  type: dict
  returned: with state verified
stage:
  description: What failed, in the words of a node's report.
  type: str
  returned: failure
  sample: tested
"""

import sys

from ansible.module_utils.basic import AnsibleModule

OLDEST = (3, 9)


def run(module: AnsibleModule) -> None:
    """Run the task and answer; always ends the process."""
    # Imported here, so that an old Python gets a line instead of a traceback.
    from ansible_collections.moorage.go.plugins.module_utils import toolchain
    from ansible_collections.moorage.go.plugins.module_utils.moorage_node.errors import NodeError

    params = module.params
    texts = (
        *("root", "version", "away_from", "channel", "vkey"),
        *("ca", "link", "platform", "gpg", "limit"),
    )
    request = toolchain.Request(
        state=params["state"],
        is_check=module.check_mode,
        servers=tuple(params["servers"]),
        form=params["form"],
        smoke=params["smoke"],
        keep=params["keep"],
        idle_s=params["idle"],
        deadline_s=params["deadline"],
        level=params["level"],
        is_repair=params["repair"],
        **{name: params[name] or "" for name in texts},
    )
    try:
        outcome = toolchain.Toolchain(request).run()
    except toolchain.FailedError as error:
        for line in error.warnings:
            module.warn(line)
        module.fail_json(msg=str(error), stage=error.stage)
    except toolchain.DriftFoundError as error:
        outcome = error.outcome
        module.fail_json(msg=outcome.reason, stage="drift", **outcome.facts)
    except NodeError as error:
        module.fail_json(msg=str(error), stage=error.stage)
    for line in outcome.warnings:
        module.warn(line)
    module.exit_json(
        changed=outcome.is_changed,
        diff={"before": outcome.before, "after": outcome.after},
        **outcome.facts,
    )


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            "state": {
                "choices": ["present", "absent", "verified", "rolled_back"],
                "default": "present",
            },
            "version": {},
            "away_from": {},
            "channel": {},
            "vkey": {"no_log": False},
            "servers": {"type": "list", "elements": "str", "default": []},
            "ca": {"type": "path"},
            "root": {"type": "path"},
            "link": {"type": "path"},
            "platform": {},
            "form": {"choices": ["auto", "zst", "tar.gz"], "default": "auto"},
            "smoke": {"choices": ["full", "version", "none"], "default": "full"},
            "keep": {"type": "int", "default": 3},
            "gpg": {"type": "path"},
            "limit": {},
            "idle": {"type": "float", "default": 30},
            "deadline": {"type": "float", "default": 1800},
            "level": {"choices": ["quick", "default", "full"], "default": "full"},
            "repair": {"type": "bool", "default": False},
        },
        required_if=[("state", "rolled_back", ("version", "away_from"), True)],
        mutually_exclusive=[("version", "away_from")],
        supports_check_mode=True,
    )
    if sys.version_info < OLDEST:
        module.fail_json(
            msg=f"Python 3.9 or newer is needed on the host; this is {sys.version.split()[0]}"
        )
    if module.params["keep"] < 1:
        module.fail_json(msg="at least one snapshot is kept")
    run(module)


if __name__ == "__main__":
    main()
