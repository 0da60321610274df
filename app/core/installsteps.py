"""Ready-to-paste steps that install a Go release from this mirror, for shells, images and CI.

Each text holds the SHA-256 of what it fetches, so that a later change of the bytes is noticed. The
`go` command's own settings are in `clientconfig`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.core.clientconfig import Target
from app.core.errors import BadInputError
from app.core.gorelease import ReleaseFile
from app.core.goversion import from_name, minor_of
from app.core.quoting import ansible_quote, powershell_quote, sh_quote

_SH = """\
sh -eu <<'MOORAGE'
# {version} for Linux on x86-64, for your user: ~/sdk/{version}.
mkdir -p ~/sdk
mkdir ~/sdk/{version}
cd ~/sdk/{version}
curl -fsSo go.tar.gz {url}
echo {check} | sha256sum -c -
tar -xzf go.tar.gz --strip-components=1
rm go.tar.gz
./bin/go version
MOORAGE
export PATH=~/sdk/{version}/bin:"$PATH"
"""

_POWERSHELL = """\
# {version} for Windows on x86-64, for your user: sdk\\{version} in your home.
& {{
  $ErrorActionPreference = 'Stop'
  $zip = Join-Path ([IO.Path]::GetTempPath()) {name}
  Invoke-WebRequest -UseBasicParsing {url} -OutFile $zip
  $sha256 = '{sha256}'
  if ((Get-FileHash -Algorithm SHA256 $zip).Hash -ne $sha256) {{ throw 'wrong SHA-256' }}
  $target = Join-Path $HOME 'sdk\\{version}'
  Expand-Archive $zip $target
  Remove-Item $zip
  & (Join-Path $target 'go\\bin\\go.exe') version
}}
$env:PATH = (Join-Path $HOME 'sdk\\{version}\\go\\bin') + ';' + $env:PATH
"""

_DOCKERFILE = """\
# syntax=docker/dockerfile:1
FROM scratch AS go
ADD --checksum=sha256:{sha256} \\
    {url} /go.tar.gz

# Your own stage; the archive is in no layer.
FROM debian:stable-slim
RUN --mount=from=go,target=/go tar -C /usr/local -xzf /go/go.tar.gz
ENV PATH="/usr/local/go/bin:$PATH"
"""

_SETUP_GO = """\
- uses: actions/setup-go@v7
  with:
    go-version: "{minor}.x"
    go-download-base-url: {base}/dl
"""

_ANSIBLE = """\
- name: Download {version}
  ansible.builtin.get_url:
    url: {url}
    dest: /var/cache/{name}
    checksum: sha256:{sha256}
    mode: "0644"
    timeout: 300

- name: Make the directory
  ansible.builtin.file:
    path: /opt/go/{number}
    state: directory
    mode: "0755"

- name: Unpack {version}
  ansible.builtin.unarchive:
    src: /var/cache/{name}
    dest: /opt/go/{number}
    remote_src: true
    extra_opts: [--strip-components=1]
    creates: /opt/go/{number}/bin/go
"""


@dataclass(frozen=True, slots=True)
class _Step:
    """A text, the platform of the archive that it fetches, and the quoting of the URL in it."""

    text: str
    os: str
    quote: Callable[[str], str]


_STEPS: Mapping[Target, _Step] = {
    Target.SH: _Step(_SH, "linux", sh_quote),
    Target.POWERSHELL: _Step(_POWERSHELL, "windows", powershell_quote),
    Target.DOCKERFILE: _Step(_DOCKERFILE, "linux", str),
    Target.GITHUB_ACTIONS: _Step(_SETUP_GO, "linux", str),
    Target.ANSIBLE: _Step(_ANSIBLE, "linux", ansible_quote),
}
_SUFFIXES = {"linux": "tar.gz", "windows": "zip"}

TARGETS = tuple(_STEPS)
"""Who the steps are for."""


def install_steps(target: Target, base_url: str, files: tuple[ReleaseFile, ...]) -> str | None:
    """Return the steps as one text; None where the release lacks the archive that they need.

    Args:
        target: one of TARGETS.
        base_url: scheme, host and port as clients see them: "https://moorage.example".
        files: those of one release that the mirror offers.

    Raises:
        BadInputError: target is none of TARGETS.
    """
    step = _STEPS.get(target)
    if step is None:
        raise BadInputError(f"there are no steps for {target}")
    file = next((f for f in files if _is_usual(f, step.os)), None)
    if file is None:
        return None
    return step.text.format(
        base=base_url,
        url=step.quote(f"{base_url}/dl/{file.filename}"),
        name=step.quote(file.filename) if target is Target.POWERSHELL else file.filename,
        sha256=file.sha256,
        check=sh_quote(f"{file.sha256}  go.tar.gz"),
        version=file.version,
        number=from_name(file.version),
        minor=minor_of(file.version),
    )


def _is_usual(file: ReleaseFile, os: str) -> bool:
    is_platform = (file.os, file.arch) == (os, "amd64")
    return is_platform and file.verifiable and file.suffix == _SUFFIXES[os]
