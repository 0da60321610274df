"""URLs of git upstreams: where the repository of a module is.

    git+https://git.corp.example/{path}.git      {path}: the module path below the route's prefix
    git+ssh://git@git.corp.example/{path}.git
    git+https://git.corp.example/go/mono.git     one repository for the whole route

A module may lie in a sub-directory, so a module path stands for several possible repositories, the
longest first. Not here: the address guard (`upstream/address`), asking a server (`upstream/git`).
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from app.core.errors import BadInputError
from app.core.hostname import HOST_NAME

PLACE = "{path}"
MAX_ELEMENTS = 12  # of a repository's path; GitLab nests groups
_SCHEMES = {"git+https": ("https", 443), "git+http": ("http", 80), "git+ssh": ("ssh", 22)}
_ELEMENT = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9._~-]*", re.ASCII)
_HOST_KEY = re.compile(
    r"(?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+={0,3}(?: [ -~]*)?",
    re.ASCII,
)
_URL = re.compile(
    r"(?P<scheme>git\+(?:https|http|ssh))://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]{0,63})@)?"
    rf"(?P<host>{HOST_NAME}|\[[0-9a-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?"
    r"(?P<path>/[A-Za-z0-9._~/{}-]*)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class NamedRepository:
    """A repository that may hold a module.

    Attributes:
        below: what stands for "{path}" in the upstream's URL.
        root: the module path at its root, or at the sub-directory.
        subdirectory: of the repository, "" for its root; see `core.gitmodule`.
    """

    below: str
    root: str
    subdirectory: str = ""


@dataclass(frozen=True, slots=True)
class GitUrl:
    """An upstream's URL, taken apart.

    Attributes:
        scheme: "https", "http" or "ssh".
        user: of ssh, "git" where the URL has none; "" for https.
        host: lower case, without brackets.
        port: always set.
        path: begins with "/"; may have "{path}" once.
    """

    scheme: str
    user: str
    host: str
    port: int
    path: str

    @property
    def is_ssh(self) -> bool:
        """Whether the repositories are reached by ssh."""
        return self.scheme == "ssh"

    @property
    def has_place(self) -> bool:
        """Whether each module path has a repository of its own."""
        return PLACE in self.path

    @property
    def origin(self) -> str:
        """Scheme, host and port, the usual port left out: "https://git.corp.example"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = self.port == _SCHEMES[f"git+{self.scheme}"][1]
        return f"{self.scheme}://{host}" if usual else f"{self.scheme}://{host}:{self.port}"

    @property
    def text(self) -> str:
        """The one spelling of the URL."""
        scheme, _, rest = self.origin.partition("://")
        user = f"{self.user}@" if self.user else ""
        return f"git+{scheme}://{user}{rest}{self.path}"

    def repository_path(self, below: str) -> str:
        """Return the path of a repository on its server: "/team/x.git" for "team/x"."""
        return self.path.replace(PLACE, below)

    def repository(self, below: str) -> str:
        """Return the URL of a repository as `go` writes it: "https://git.corp.example/team/x.git".

        Args:
            below: what takes the place of "{path}"; "" if the URL has none.
        """
        scheme, _, rest = self.origin.partition("://")
        user = f"{self.user}@" if self.user else ""
        return f"{scheme}://{user}{rest}{self.repository_path(below)}"


def is_git(url: str) -> bool:
    """Whether an upstream's URL is that of a git server, by its scheme."""
    return url.partition("://")[0].lower() in _SCHEMES


@lru_cache(maxsize=4096)
def parse_git_url(text: str) -> GitUrl:
    """Return the parts of a git upstream's URL.

    Raises:
        BadInputError: it is malformed, holds a password, or has "{path}" twice or beside other text
            of its path element ("x{path}"; "{path}.git" is allowed).
    """
    match = _URL.fullmatch(text)
    if match is None:
        raise BadInputError(
            "a git upstream is like git+https://git.corp.example/{path} or "
            "git+ssh://git@git.corp.example/{path}.git, without a password and a query"
        )
    scheme, usual_port = _SCHEMES[match["scheme"]]
    port = usual_port if match["port"] is None else int(match["port"])
    if not 1 <= port <= 65535:
        raise BadInputError("the git upstream's port is 1 to 65535")
    if match["user"] and scheme != "ssh":
        raise BadInputError("the URL holds a user name; configure a credential instead")
    path = match["path"].rstrip("/")
    _check_path(path)
    user = (match["user"] or "git") if scheme == "ssh" else ""
    return GitUrl(scheme, user, match["host"].strip("[]"), port, path)


def _check_path(path: str) -> None:
    elements = path.split("/")[1:]
    if not elements or any(not e or e.startswith((".", "-")) for e in elements):
        raise BadInputError("the git upstream's path has an empty element, or begins with . or -")
    plain = path.replace(PLACE, "")
    if "{" in plain or "}" in plain or path.count(PLACE) > 1:
        raise BadInputError("the git upstream's path may have {path} once, and no other braces")
    placed = next((e for e in elements if PLACE in e), PLACE)
    if placed not in (PLACE, f"{PLACE}.git"):
        raise BadInputError("in the git upstream's path, {path} is an element, or {path}.git")


def below_of(url: GitUrl, repository_url: str) -> str | None:
    """Return what stands for "{path}" in a repository's URL; None if it is none of the upstream's.

    Scheme and ".git" do not count: "https://git.corp.example/team/x" is of the upstream
    "git+ssh://git@git.corp.example/{path}.git", and gives "team/x".
    """
    try:
        parts = urlsplit(repository_url)
        host = parts.hostname or ""
    except ValueError:
        return None
    start, place, end = url.path.removesuffix(".git").partition(PLACE)
    path = parts.path.rstrip("/").removesuffix(".git")
    if parts.scheme not in ("https", "ssh", "http") or host != url.host or parts.query:
        return None
    below = path[len(start) : len(path) - len(end)]
    is_plain = all(_ELEMENT.fullmatch(element) for element in below.split("/"))
    return below if place and is_plain and path == f"{start}{below}{end}" else None


def is_of(url: GitUrl, below: str, repository: str) -> bool:
    """Whether a git host's name for a repository, "team/x", is that of one of an upstream.

    Capitals do not count, and neither does ".git": hosts answer under several spellings.

    Args:
        url: of the upstream.
        below: what stands for "{path}"; "" if the URL has none.
        repository: as the host's message names it.
    """
    name = repository.strip("/").removesuffix(".git").casefold()
    path = url.repository_path(below).removesuffix(".git").casefold()
    return path == f"/{name}" or path.endswith(f"/{name}")


def check_host_keys(text: str) -> None:
    """Return if text has public keys of an ssh host, one a line: "ssh-ed25519 AAAA…".

    Raises:
        BadInputError: it has none, or a line that is none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or not all(_HOST_KEY.fullmatch(line) for line in lines):
        raise BadInputError(
            "host_keys has the host's public keys, one a line, as `ssh-keyscan` prints them "
            "without the host: ssh-ed25519 AAAA…"
        )


def possible_repositories(url: GitUrl, module: str, prefix_elements: int) -> list[NamedRepository]:
    """Return the repositories that a module may be in, the longest path first.

    "git.corp.example/team/x/sub" below the prefix "git.corp.example" may be in "team/x/sub",
    "team/x" or "team". A URL without "{path}" has one repository, whose root is the prefix.

    Args:
        url: of the upstream.
        module: plain module path; the route's pattern matches it.
        prefix_elements: of the route's pattern.
    """
    elements = module.split("/")
    root, below = elements[:prefix_elements], elements[prefix_elements:]
    if not url.has_place:
        return [NamedRepository("", "/".join(root))]
    longest = min(len(below), MAX_ELEMENTS)
    return [
        NamedRepository("/".join(below[:count]), "/".join(root + below[:count]))
        for count in range(longest, 0, -1)
    ]
