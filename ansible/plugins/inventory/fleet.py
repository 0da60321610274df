"""The nodes of a Moorage as an inventory, in groups by channel, state, group and rollout step."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
short_description: The nodes that are enrolled at a Moorage
version_added: 0.1.0
description:
  - Asks the admin API for all nodes but retired ones. The file's name ends in C(fleet.yml) or
    C(fleet.yaml).
  - "Groups: C(channel_stable), C(state_behind), C(group_canary), and, while a rollout of the node's
    channel is open, C(step_1), C(step_2) … for the step that reaches the node first. Characters
    that Ansible does not want in names become C(_)."
  - The steps are those of the plan for the nodes as they are. The server prefers nodes that have
    had a grant already, so that a node which was silent meanwhile may come in another step.
author:
  - The Moorage authors (@moorage)
options:
  plugin:
    description: Says that this file is for this plugin.
    required: true
    choices: [moorage.go.fleet]
  url:
    description: Base URL of Moorage.
    type: str
    required: true
    env:
      - name: MOORAGE_SERVER
  token:
    description: An admin token.
    type: str
    required: true
    env:
      - name: MOORAGE_TOKEN
  ca:
    description: Path of a file with the certificate authority of the server.
    type: path
  channel:
    description: Only nodes of this channel.
    type: str
  hostname:
    description: What hosts are called. A name that several nodes have gets the node's id behind it.
    type: str
    choices: [name, id]
    default: name
extends_documentation_fragment:
  - constructed
"""

EXAMPLES = r"""
# production.fleet.yml; the token is in the environment, as MOORAGE_TOKEN
plugin: moorage.go.fleet
url: https://moorage.example
keyed_groups:
  - key: moorage_facts.arch
    prefix: arch
compose:
  ansible_host: moorage_facts.hostname
"""

import hashlib
import json
from collections import Counter
from urllib.parse import urlencode

from ansible.errors import AnsibleParserError
from ansible.module_utils.urls import open_url

from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

OPEN_STATES = ("running", "paused", "halted")
PAGE = 200


def steps_of(rollout, nodes):
    """Return the number, from 1, of the step that reaches each node first, by node id.

    Nodes that are held are in no step. The order is that of the server: silent nodes last, then
    sha256(rollout id, node id).
    """

    def order(node):
        rank = hashlib.sha256(f"{rollout['id']}\n{node['id']}".encode()).digest()
        return (node["state"] == "silent", rank)

    able = sorted((node for node in nodes if node["state"] != "held"), key=order)
    steps = {}
    for number, step in enumerate(rollout["plan"]["steps"], start=1):
        if step.get("group"):
            chosen = [node for node in able if node["group"] == step["group"]]
        else:
            percent = step.get("percent")
            size = -(-len(able) * percent // 100) if percent else step.get("nodes") or 0
            rest = [node for node in able if node["id"] not in steps]
            chosen = rest[: max(0, size - len(steps))]
        for node in chosen:
            steps.setdefault(node["id"], number)
    return steps


def hostnames(nodes, by):
    """Return the name of each node's host, by node id."""
    count = Counter(node["name"] for node in nodes)
    return {
        node["id"]: node["id"]
        if by == "id"
        else node["name"]
        if count[node["name"]] == 1
        else f"{node['name']}-{node['id']}"
        for node in nodes
    }


def groups_of(node, step):
    """Return the groups of a node; step is None outside a rollout."""
    groups = [f"channel_{node['channel']}", f"state_{node['state']}", f"group_{node['group']}"]
    return groups if step is None else [*groups, f"step_{step}"]


class InventoryModule(BaseInventoryPlugin, Constructable):
    """The inventory plugin."""

    NAME = "moorage.go.fleet"

    def verify_file(self, path):
        """Return whether a file is for this plugin."""
        return super().verify_file(path) and path.endswith(("fleet.yml", "fleet.yaml"))

    def parse(self, inventory, loader, path, cache=True):
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        more = {"channel": self.get_option("channel")} if self.get_option("channel") else {}
        nodes = self._pages("nodes", more)
        rollouts = {}
        for rollout in self._pages("rollouts", more):
            if rollout["state"] in OPEN_STATES:
                rollouts.setdefault(rollout["channel"], rollout)
        self.fill(nodes, rollouts)

    def fill(self, nodes, rollouts):
        """Add hosts, variables and groups; rollouts are the open ones by channel."""
        steps = {}
        for channel, rollout in rollouts.items():
            steps.update(steps_of(rollout, [node for node in nodes if node["channel"] == channel]))
        names = hostnames(nodes, self.get_option("hostname"))
        strict = self.get_option("strict")
        for node in nodes:
            host = self.inventory.add_host(names[node["id"]])
            step = steps.get(node["id"])
            variables = {f"moorage_{name}": value for name, value in node.items() if name != "id"}
            variables.update(moorage_node=node["id"], moorage_step=step)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
            for group in groups_of(node, step):
                self.inventory.add_child(
                    self.inventory.add_group(self._sanitize_group_name(group)), host
                )
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(
                self.get_option("groups"), variables, host, strict=strict
            )
            self._add_host_to_keyed_groups(
                self.get_option("keyed_groups"), variables, host, strict=strict
            )

    def _pages(self, noun, more):
        """Return all items of a list of the admin API."""
        items, cursor = [], None
        while True:
            query = {**more, "limit": PAGE, **({"cursor": cursor} if cursor else {})}
            page = self._get(f"{noun}?{urlencode(query)}")
            items += page["items"]
            cursor = page["next_cursor"]
            if not cursor:
                return items

    def _get(self, path):
        url = f"{self.get_option('url').rstrip('/')}/api/v1/{path}"
        headers = {"Authorization": f"Bearer {self.get_option('token')}"}
        try:
            answer = open_url(
                url, headers=headers, ca_path=self.get_option("ca"), follow_redirects="none"
            )
            return json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise AnsibleParserError(f"moorage.go.fleet: {url}: {error}") from error
