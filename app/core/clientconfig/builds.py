"""Settings for builds: a Dockerfile, GitHub Actions, GitLab CI.

The token reaches .netrc through a shell's builtin printf: it is never a program's argument, and
never a layer, a build argument or a variable of an image.
"""

from collections.abc import Callable

from app.core.clientconfig.config import ClientConfig
from app.core.clientconfig.variables import groups
from app.core.quoting import actions_quote, dockerfile_quote, gitlab_quote, sh_quote

_DOCKER_NETRC = """
# The token is there while this command runs, and in no layer. Build with Docker 23 or later:
#   docker build --secret id={secret},env={token} .
RUN --mount=type=secret,id={secret},required=true \\
    --mount=type=tmpfs,target=/run/moorage \\
    umask 077 && \\
    printf '%s%s\\n' {entry} "$(cat /run/secrets/{secret})" > /run/moorage/netrc && \\
    NETRC=/run/moorage/netrc go mod download
"""

_ACTIONS_NETRC = """
steps:
  # Before the first go command. Fork pull requests get no secrets, and stop here.
  - name: Sign in to Moorage
    shell: bash
    env:
      {token}: ${{{{ secrets.{token} }}}}
    run: |
      : "${{{token}:?the secret {token} is not set, or not given to this run}}"
      umask 077
      printf '%s%s\\n' {entry} "${token}" > "$RUNNER_TEMP/moorage-netrc"
      echo "NETRC=$RUNNER_TEMP/moorage-netrc" >> "$GITHUB_ENV"
"""

_GITLAB_NETRC = """
default:
  before_script:
    # {token}: a masked variable of the project or group (Settings, CI/CD, Variables), not of
    # this file. The .netrc lies beside the checkout, so it gets into no cache or artifact.
    - |
      : "${{{token}:?the CI/CD variable {token} is not set, or protected and this ref is not}}"
      export NETRC="$CI_PROJECT_DIR.tmp/moorage-netrc"
      mkdir -p "$CI_PROJECT_DIR.tmp"
      rm -f "$NETRC"
      (umask 077; printf '%s%s\\n' {entry} "${token}" > "$NETRC")
"""


def dockerfile(config: ClientConfig) -> str:
    """Return Dockerfile lines for the stage that builds: ENV, and a download with the secret."""
    parts = [f"# In the stage that builds: go uses Moorage, as tenant {config.tenant}.\n"]
    for group in groups(config):
        parts.append(f"# {group.why}\n")
        settings = [f"{name}={dockerfile_quote(value)}" for name, value in group.values]
        parts.append("ENV " + " \\\n    ".join(settings) + "\n")
    if config.authenticated:
        parts.append(
            _DOCKER_NETRC.format(
                token=config.token_name,
                secret=config.token_name.lower(),
                entry=sh_quote(config.netrc_entry),
            )
        )
    else:
        parts.append("RUN go mod download\n")
    return "".join(parts)


def _yaml_variables(config: ClientConfig, key: str, quote: Callable[[str], str]) -> str:
    parts = [f"{key}:\n"]
    for group in groups(config):
        parts.append(f"  # {group.why}\n")
        parts += [f"  {name}: {quote(value)}\n" for name, value in group.values]
    return "".join(parts)


def github_actions(config: ClientConfig) -> str:
    """Return the `env` and first step of a GitHub Actions job; the token is a secret."""
    text = f"# In a job: go uses Moorage, as tenant {config.tenant}.\n"
    text += _yaml_variables(config, "env", actions_quote)
    if not config.authenticated:
        return text
    return text + _ACTIONS_NETRC.format(token=config.token_name, entry=sh_quote(config.netrc_entry))


def gitlab(config: ClientConfig) -> str:
    """Return the head of a .gitlab-ci.yml; the token is a masked variable set outside of it."""
    text = f"# At the top of .gitlab-ci.yml: go uses Moorage, as tenant {config.tenant}.\n"
    text += _yaml_variables(config, "variables", gitlab_quote)
    if not config.authenticated:
        return text
    return text + _GITLAB_NETRC.format(token=config.token_name, entry=sh_quote(config.netrc_entry))
