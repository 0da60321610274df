"""Settings for a person's shell, and as a plain file of variables."""

from app.core.clientconfig.config import ClientConfig
from app.core.clientconfig.variables import VariableGroup, groups
from app.core.quoting import dotenv_quote, powershell_quote, sh_quote

# A here-document for sh, so that pasting works in every interactive shell. Without it zsh would
# refuse the comments, and a failure would close the terminal or pass unnoticed half-way.
_SH_NETRC = """
# Sign in: the token goes into .netrc, which only you can read. Type it without leaving it in the
# shell's history:  read -r {token} && export {token}
: "${{{token}:?is not set: export the token of tenant {tenant} first}}"
if [ -n "$(printf %s "${token}" | tr -d A-Za-z0-9_)" ]; then
  echo "{token} holds something that is not a token" >&2
  exit 1
fi
umask 077
entry={entry}
netrc=${{NETRC:-$HOME/.netrc}}
touch "$netrc"
new=$(mktemp "$netrc.XXXXXX")
trap 'rm -f "$new"' EXIT
printf '%s%s\\n' "$entry" "${token}" > "$new"
# Keep everything but an earlier token of the same tenant address.
awk -v entry="$entry" 'index($0, entry) == 1 {{ next }} {{ print }}' "$netrc" >> "$new"
mv -f "$new" "$netrc"
"""

_POWERSHELL_NETRC = """
  # Sign in: the token goes into .netrc (go reads _netrc first, where there is one).
  if ($env:{token} -notmatch '^[A-Za-z0-9_]+$') {{
    throw 'Set $env:{token} to the token of tenant {tenant} first'
  }}
  $entry = {entry}
  $netrc = Join-Path $HOME '.netrc'
  if (Test-Path -LiteralPath (Join-Path $HOME '_netrc')) {{ $netrc = Join-Path $HOME '_netrc' }}
  if ($env:NETRC) {{ $netrc = $env:NETRC }}
  if (-not (Test-Path -LiteralPath $netrc)) {{ New-Item -ItemType File -Path $netrc | Out-Null }}
  if ($IsLinux -or $IsMacOS) {{ chmod 600 $netrc }}
  # Keep everything but an earlier token of the same tenant address.
  $kept = @(Get-Content -LiteralPath $netrc | Where-Object {{ -not $_.StartsWith($entry) }})
  # WriteAllLines writes no byte order mark, which go would not understand.
  [IO.File]::WriteAllLines($netrc, [string[]](@($entry + $env:{token}) + $kept))
"""


def sh(config: ClientConfig) -> str:
    """Return a POSIX shell text that writes go's settings of one user, and .netrc if needed."""
    parts = [f"sh -eu <<'MOORAGE'\n# go uses Moorage, as tenant {config.tenant}, for your user.\n"]
    if config.authenticated:
        parts.append(
            _SH_NETRC.format(
                token=config.token_name,
                tenant=config.tenant,
                entry=sh_quote(config.netrc_entry),
            )
        )
    parts += [_sh_group(group) for group in groups(config)]
    return "".join([*parts, "MOORAGE\n"])


def _sh_group(group: VariableGroup) -> str:
    settings = " ".join(sh_quote(f"{name}={value}") for name, value in group.values)
    # An older go doesn't know GOAUTH, prints nothing for it, and would refuse to write it.
    guard = '[ -z "$(go env GOAUTH)" ] || ' if group.values[0][0] == "GOAUTH" else ""
    return f"\n# {group.why}\n{guard}go env -w {settings}\n"


def powershell(config: ClientConfig) -> str:
    """Return a PowerShell text (5.1 and later) that writes go's settings of one user."""
    parts = [f"# go uses Moorage, as tenant {config.tenant}, for your user.\n& {{\n"]
    parts.append("  $ErrorActionPreference = 'Stop'\n")
    if config.authenticated:
        parts.append(
            _POWERSHELL_NETRC.format(
                token=config.token_name,
                tenant=config.tenant,
                entry=powershell_quote(config.netrc_entry),
            )
        )
    parts += [_powershell_group(group) for group in groups(config)]
    return "".join([*parts, "}\n"])


def _powershell_group(group: VariableGroup) -> str:
    settings = " ".join(powershell_quote(f"{name}={value}") for name, value in group.values)
    command = f"go env -w {settings}"
    if group.values[0][0] == "GOAUTH":
        command = f"if (go env GOAUTH) {{ {command} }}"
    check = "  if ($LASTEXITCODE) { throw 'go env -w failed' }\n"
    return f"\n  # {group.why}\n  {command}\n{check}"


def env(config: ClientConfig) -> str:
    """Return KEY=value lines for `set -a; . ./file`, EnvironmentFile=, docker --env-file or GOENV.

    A GOSUMDB with a URL has a space and needs quotes; so does a pattern with "~" or a backslash.
    docker --env-file and GOENV keep the quotes; a comment in the text says so.
    """
    parts = [f"# go uses Moorage, as tenant {config.tenant}.\n"]
    for group in groups(config):
        parts.append(f"# {group.why}\n")
        if group.values[0][0] == "GOAUTH":
            parts.append(_netrc_comment(config))
        quoted = [(name, dotenv_quote(value)) for name, value in group.values]
        if any(value.startswith("'") for _, value in quoted):
            parts.append("# docker --env-file and GOENV keep quotes: remove them there.\n")
        parts += [f"{name}={value}\n" for name, value in quoted]
    return "".join(parts)


def _netrc_comment(config: ClientConfig) -> str:
    return (
        "# That file (mode 0600) is ~/.netrc or where NETRC points, and has this line:\n"
        f"#   {config.netrc_entry}${config.token_name}\n"
    )
