"""Ready-to-paste settings that make `go` use Moorage, for shells, images, CI and machines.

`render` writes the text for a `Target` from a `ClientConfig`, which is valid by construction. The
variables, and which belong together, are in `variables.py`; the texts in `shells.py`, `builds.py`
and `machines.py`. No text holds a secret: each names where the token is.

Not here: which patterns are private and which log a tenant uses (services/tenants), and how values
are quoted (`app.core.quoting`).
"""

from collections.abc import Callable, Mapping
from enum import StrEnum

from app.core.clientconfig.builds import dockerfile, github_actions, gitlab
from app.core.clientconfig.config import ClientConfig
from app.core.clientconfig.machines import ansible, systemd
from app.core.clientconfig.shells import env, powershell, sh

__all__ = ["ClientConfig", "Target", "render"]


class Target(StrEnum):
    """Who reads the settings."""

    SH = "sh"
    POWERSHELL = "powershell"
    DOCKERFILE = "dockerfile"
    GITHUB_ACTIONS = "github-actions"
    GITLAB = "gitlab"
    ANSIBLE = "ansible"
    SYSTEMD = "systemd"
    ENV = "env"


_WRITERS: Mapping[Target, Callable[[ClientConfig], str]] = {
    Target.SH: sh,
    Target.POWERSHELL: powershell,
    Target.DOCKERFILE: dockerfile,
    Target.GITHUB_ACTIONS: github_actions,
    Target.GITLAB: gitlab,
    Target.ANSIBLE: ansible,
    Target.SYSTEMD: systemd,
    Target.ENV: env,
}


def render(target: Target, config: ClientConfig) -> str:
    """Return the settings as one text that ends with a line break, to paste as it is.

    The text sets every variable that decides where modules come from, and never GOFLAGS. If the
    tenant demands a token, the text also makes a .netrc, from a secret that it names.
    """
    return _WRITERS[target](config)
