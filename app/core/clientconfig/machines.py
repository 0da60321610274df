"""Settings for machines: Ansible tasks and a systemd drop-in."""

import re

from app.core.clientconfig.config import ClientConfig
from app.core.clientconfig.variables import VariableGroup, groups
from app.core.quoting import ansible_quote, sh_quote, systemd_quote

_ANSIBLE_HEAD = """\
# Tasks: go uses Moorage, as tenant {tenant}, for the user that they run as (become_user).
- name: Make the directory of go's settings
  ansible.builtin.file:
    path: ~/.config/go
    state: directory
    mode: "0755"

- name: Point go at Moorage
  ansible.builtin.lineinfile:
    path: ~/.config/go/env
    regexp: "^{{{{ item.name }}}}="
    line: "{{{{ item.name }}}}={{{{ item.value }}}}"
    create: true
    mode: "0644"
  loop:
"""

_ANSIBLE_NETRC = """
# {variable} comes from ansible-vault, for example group_vars/all/vault.yml;
# no_log keeps it out of output and logs, --diff included.
- name: Sign in to Moorage
  ansible.builtin.lineinfile:
    path: ~/.netrc
    regexp: {regexp}
    line: "{entry}{{{{ {variable} }}}}"
    insertbefore: BOF
    create: true
    mode: "0600"
  no_log: true
"""

_SYSTEMD_NETRC = """
# The unit gets a copy of a .netrc that root alone can read (systemd 250 and later). Once, as root,
# with {token} set:
#   install -d -m 0700 /etc/moorage
#   (umask 077; printf '%s%s\\n' {entry} "${token}" > /etc/moorage/netrc)
LoadCredential=moorage-netrc:/etc/moorage/netrc
Environment="NETRC=%d/moorage-netrc"
"""


def ansible(config: ClientConfig) -> str:
    """Return Ansible tasks that write go's env file of one user, and .netrc from a vaulted token.

    They change single lines, so a second run changes nothing, and check mode and --diff work.
    """
    text = _ANSIBLE_HEAD.format(tenant=config.tenant)
    text += "".join(_ansible_group(group) for group in groups(config))
    if not config.authenticated:
        return text
    return text + _ANSIBLE_NETRC.format(
        variable=config.token_name.lower(),
        entry=config.netrc_entry,
        regexp=ansible_quote("^" + re.escape(config.netrc_entry)),
    )


def _ansible_group(group: VariableGroup) -> str:
    items = (
        f"    - {{name: {name}, value: {ansible_quote(value)}}}\n" for name, value in group.values
    )
    return f"    # {group.why}\n" + "".join(items)


def systemd(config: ClientConfig) -> str:
    """Return a drop-in for a unit that runs go; the token is a credential of the unit."""
    parts = [
        "# /etc/systemd/system/<unit>.service.d/moorage.conf, then systemctl daemon-reload:\n"
        f"# go uses Moorage, as tenant {config.tenant}.\n[Service]\n"
    ]
    for group in groups(config):
        parts.append(f"# {group.why}\n")
        parts += [
            f"Environment={systemd_quote(f'{name}={value}')}\n" for name, value in group.values
        ]
    if config.authenticated:
        parts.append(
            _SYSTEMD_NETRC.format(
                token=config.token_name,
                entry=sh_quote(config.netrc_entry),
            )
        )
    return "".join(parts)
