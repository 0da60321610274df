"""`/fleet/install.sh`: a POSIX script that brings a machine its first Go release.

With Python it fetches the node program, checks its sum, and runs it with the arguments. Without
Python it installs one release with curl, sha256sum and tar; then nothing checks the files later.
"""

from app.core.errors import BadInputError

_ALLOWED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/[]%")
_SCRIPT = r"""#!/bin/sh
# Brings a Go release to this machine. Usage, arguments as of `moorage-node install`:
#
#   curl -fsS @SERVER@/fleet/install.sh | sh -s -- install go1.23.1
#   curl -fsS @SERVER@/fleet/install.sh | sh -s -- enroll --token-file token
#
# MOORAGE_ROOT says where to (default: /opt/go as root, else ~/.local/share/moorage/go), and
# MOORAGE_BIN where the program goes (/usr/local/bin as root, else ~/.local/bin).
# MOORAGE_NODE_SHA256 is the sum of moorage-node.pyz, if you know it from elsewhere.
set -eu

main() {
  server='@SERVER@'
  if [ "$(id -u)" = 0 ]; then
    root="${MOORAGE_ROOT:-/opt/go}"
    program="${MOORAGE_BIN:-/usr/local/bin}/moorage-node"
  else
    root="${MOORAGE_ROOT:-${XDG_DATA_HOME:-$HOME/.local/share}/moorage/go}"
    program="${MOORAGE_BIN:-$HOME/.local/bin}/moorage-node"
  fi
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' HUP INT TERM

  for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
      with_python "$@"
      return
    fi
  done
  without_python "$@"
}

fail() {
  echo "install.sh: $*" >&2
  exit 1
}

fetch() {
  if command -v curl >/dev/null 2>&1; then
    curl -fsS --retry 3 -o "$2" "$server$1" || fail "can't fetch $server$1"
  elif command -v wget >/dev/null 2>&1; then
    wget -q -O "$2" "$server$1" || fail "can't fetch $server$1"
  else
    fail "neither curl nor wget is here"
  fi
}

sum_of() {
  if command -v sha256sum >/dev/null 2>&1; then
    sha256sum "$1" | cut -c1-64
  elif command -v shasum >/dev/null 2>&1; then
    shasum -a 256 "$1" | cut -c1-64
  else
    fail "neither sha256sum nor shasum is here"
  fi
}

with_python() {
  fetch /fleet/moorage-node.pyz "$work/program"
  expected="${MOORAGE_NODE_SHA256:-}"
  if [ -z "$expected" ]; then
    fetch /fleet/moorage-node.pyz.sha256 "$work/sum"
    expected="$(cut -c1-64 "$work/sum")"
  fi
  [ "$(sum_of "$work/program")" = "$expected" ] || fail "moorage-node.pyz has another sum"
  mkdir -p "$(dirname "$program")"
  chmod 755 "$work/program"
  cp "$work/program" "$program.new"
  mv -f "$program.new" "$program"
  echo "install.sh: $program is in place" >&2
  folder="$(dirname "$program")"
  case ":$PATH:" in
    *":$folder:"*) ;;
    *) echo "install.sh: $folder is not on your PATH: export PATH=\"$folder:\$PATH\"" >&2 ;;
  esac
  [ $# -gt 0 ] || return 0
  command="$1"
  shift
  case "$command" in
    install | enroll) "$python" "$program" "$command" --server "$server" --root "$root" "$@" ;;
    *) "$python" "$program" "$command" --root "$root" "$@" ;;
  esac
}

without_python() {
  if [ "${1:-}" != install ] || [ $# -ne 2 ]; then
    fail "without Python 3.9 or newer only 'install VERSION' works"
  fi
  version="go${2#go}"
  case "$version" in
    *[!0-9a-z.]*) fail "$2 is no Go release; write go1.23.1" ;;
  esac
  case "$(uname -s)" in
    Linux) system=linux ;;
    Darwin) system=darwin ;;
    FreeBSD) system=freebsd ;;
    *) fail "without Python, $(uname -s) is not known here" ;;
  esac
  case "$(uname -m)" in
    x86_64 | amd64) arch=amd64 ;;
    aarch64 | arm64) arch=arm64 ;;
    armv6l | armv7l) arch=armv6l ;;
    i?86) arch=386 ;;
    *) arch="$(uname -m)" ;;
  esac
  name="$version.$system-$arch.tar.gz"
  [ ! -e "$root/$version" ] || fail "$root/$version exists already"
  fetch "/dl/$name" "$work/$name"
  fetch "/dl/$name.sha256" "$work/sum"
  [ "$(sum_of "$work/$name")" = "$(cut -c1-64 "$work/sum")" ] || fail "$name has another sum"
  mkdir -p "$root"
  staging="$root/.staging-$$"
  trap 'rm -rf "$work" "$staging"' EXIT
  mkdir "$staging"
  tar -xzf "$work/$name" -C "$staging" --no-same-owner || fail "can't unpack $name below $root"
  "$staging/go/bin/go" version | grep -qF "go version $version " || fail "$version does not start"
  mv "$staging/go" "$root/$version"
  ln -s "$version" "$root/.current.$$"
  # Without -T, which not every mv has, the link would go into the folder that current leads to.
  if ! mv -fT "$root/.current.$$" "$root/current" 2>/dev/null; then
    rm -f "$root/.current.$$"
    ln -sfn "$version" "$root/current"
  fi
  echo "install.sh: $version is current in $root (without Python nothing checks it later)" >&2
}

main "$@"
"""


def install_script(server_url: str) -> str:
    """Return the script for a server.

    Args:
        server_url: scheme, host and port as clients see them, without a slash at the end. It
            becomes part of the script: letters, digits and "-._~:/[]%" alone.

    Raises:
        BadInputError: server_url has another character.
    """
    if not server_url or set(server_url) - _ALLOWED:
        raise BadInputError("a server's URL in a script has none but plain characters")
    return _SCRIPT.replace("@SERVER@", server_url.rstrip("/"))
