"""The meta tags by which a host says where the repository of a module is.

Follows cmd/go/internal/vcs (matchGoImport) and discovery.go (parseMetaGoImports):
`<meta name="go-import" content="corp.example/x git https://git.corp.example/team/x">`.
Since Go 1.25 a fourth field may name a sub-directory of the repository. Not here: asking the host
(`services/modules/gitplaces`).
"""

from dataclasses import dataclass
from html.parser import HTMLParser

from app.core.errors import BadInputError, UnknownError

MAX_PAGE_BYTES = 1 << 20
_MAX_TAGS = 1000


@dataclass(frozen=True, slots=True)
class GoImport:
    """One tag.

    Attributes:
        prefix: the module path at the root of the repository, or at its sub-directory.
        vcs: the version control: "git".
        url: of the repository.
        subdirectory: of the repository: "deep/lib"; "" for its root.
    """

    prefix: str
    vcs: str
    url: str
    subdirectory: str = ""


class _Reader(HTMLParser):
    """Gathers the tags of a page's head."""

    def __init__(self) -> None:
        super().__init__()
        self.imports: list[GoImport] = []
        self._is_over = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_over = self._is_over or tag == "body"
        values = {name: value or "" for name, value in attrs}
        if self._is_over or tag != "meta" or values.get("name") != "go-import":
            return
        fields = values.get("content", "").split()
        if len(fields) in (3, 4) and len(self.imports) < _MAX_TAGS:
            self.imports.append(GoImport(*fields))

    def handle_endtag(self, tag: str) -> None:
        self._is_over = self._is_over or tag == "head"


def go_import_of(page: bytes, module: str) -> GoImport:
    """Return the one tag of a page that is about a module.

    Raises:
        UnknownError: the page has no such tag.
        BadInputError: it has several, one of another version control than git, or one whose
            sub-directory is none.
    """
    reader = _Reader()
    reader.feed(page[:MAX_PAGE_BYTES].decode("utf-8", "replace"))
    about = [one for one in reader.imports if f"{module}/".startswith(f"{one.prefix}/")]
    if not about:
        raise UnknownError("the host's page names no repository for it")
    if len(about) > 1:
        raise BadInputError("the host's page has several go-import tags for it")
    if about[0].vcs != "git":
        raise BadInputError(f"the host's page names {about[0].vcs[:20]!a} instead of git")
    if about[0].subdirectory.startswith(("/", "-")):
        raise BadInputError("the host's page names a sub-directory with a slash or hyphen in front")
    return about[0]
