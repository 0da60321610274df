"""Repositories that the modules' own host names by go-import tags."""

from collections.abc import Mapping

import pytest

from app.core.errors import BadInputError, UpstreamAbsentError, UpstreamContentError
from app.core.giturl import NamedRepository, below_of, parse_git_url
from app.core.goimport import MAX_PAGE_BYTES
from app.core.principal import OPERATOR
from app.services.modules.gitplaces import named_repository
from tests.nouns import a_route, an_upstream
from tests.services.modules.gits.lane import GitLane

URL = parse_git_url("git+https://git.corp.example/{path}.git")
X = "go.corp.example/x"


def tag(content: str) -> str:
    return f'<meta name="go-import" content="{content}">'


GOOD = tag(f"{X} git https://git.corp.example/team/x")


class Pages:
    """The pages of a host, by URL; a page that is not there is absent."""

    def __init__(self, pages: Mapping[str, str]) -> None:
        self._pages = pages
        self.asked: list[str] = []

    async def __call__(self, address: str) -> bytes:
        self.asked.append(address)
        if address not in self._pages:
            raise UpstreamAbsentError("404", origin="", status=404)
        return f"<html><head>{self._pages[address]}</head><body></body></html>".encode()


async def test_a_module_is_in_the_repository_that_its_root_names() -> None:
    pages = Pages({f"https://{X}?go-get=1": GOOD, f"https://{X}/sub?go-get=1": GOOD})
    assert await named_repository(URL, X, pages) == NamedRepository("team/x", X)
    assert await named_repository(URL, f"{X}/sub", pages) == NamedRepository("team/x", X)
    assert pages.asked == [f"https://{X}?go-get=1", f"https://{X}/sub?go-get=1",
                           f"https://{X}?go-get=1"]  # fmt: skip


async def test_a_fourth_field_is_a_sub_directory_of_the_repository() -> None:
    page = tag(f"{X} git https://git.corp.example/team/mono deep/x")
    pages = Pages({f"https://{X}?go-get=1": page, f"https://{X}/sub?go-get=1": page})
    assert await named_repository(URL, f"{X}/sub", pages) == NamedRepository(
        "team/mono", X, "deep/x"
    )
    pages = Pages({f"https://{X}?go-get=1": page, f"https://{X}/sub?go-get=1": GOOD})
    with pytest.raises(UpstreamContentError, match="differ"):
        await named_repository(URL, f"{X}/sub", pages)


@pytest.mark.parametrize(
    ("page", "error"),
    [
        ("", UpstreamAbsentError),
        (tag("go.corp.example/y git https://git.corp.example/team/y"), UpstreamAbsentError),
        (tag("go.corp.example/xx git https://git.corp.example/team/y"), UpstreamAbsentError),
        (f"</head><body>{GOOD}", UpstreamAbsentError),
        (tag(f"{X} hg https://git.corp.example/team/x"), UpstreamContentError),
        (tag(f"{X} mod https://proxy.example"), UpstreamContentError),
        (GOOD + tag(f"{X} git https://git.corp.example/team/y"), UpstreamContentError),
        (tag(f"{X} git https://elsewhere.example/team/x"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example.evil.example/team/x"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/team/x /etc"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/team/x --upload-pack=x"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/team/x a b"), UpstreamAbsentError),
        (tag(f"{X} git ext::sh -c x"), UpstreamAbsentError),
        (tag(f"{X} git ext::sh"), UpstreamContentError),
        (tag(f"{X} git file:///etc/x"), UpstreamContentError),
        (tag(f"{X} git file://git.corp.example/team/x"), UpstreamContentError),
        (tag(f"{X} git git://git.corp.example/team/x"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/../../etc"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/-oProxyCommand=x"), UpstreamContentError),
        (tag(f"{X} git https://git.corp.example/team/x?upload-pack=y"), UpstreamContentError),
        ("<" * 5000 + GOOD, None),
        (" " * MAX_PAGE_BYTES + GOOD, UpstreamAbsentError),
    ],
)
async def test_F81_a_page_that_names_something_else_is_absent_or_refused(
    page: str, error: type[Exception] | None
) -> None:
    pages = Pages({f"https://{X}?go-get=1": page})
    if error is None:
        assert await named_repository(URL, X, pages) == NamedRepository("team/x", X)
        return
    with pytest.raises(error):
        await named_repository(URL, X, pages)


async def test_F81_a_page_below_can_not_say_where_its_root_is() -> None:
    other = tag(f"{X} git https://git.corp.example/team/evil")
    pages = Pages({f"https://{X}?go-get=1": GOOD, f"https://{X}/sub?go-get=1": other})
    with pytest.raises(UpstreamContentError):
        await named_repository(URL, f"{X}/sub", pages)


def test_the_scheme_of_a_named_repository_does_not_count() -> None:
    ssh = parse_git_url("git+ssh://git@git.corp.example/scm/{path}.git")
    assert below_of(ssh, "https://git.corp.example/scm/team/x") == "team/x"
    assert below_of(ssh, "ssh://git@git.corp.example/scm/team/x.git/") == "team/x"
    assert below_of(ssh, "https://git.corp.example/team/x") is None
    assert below_of(ssh, "https://git.corp.example/scm/") is None
    one = parse_git_url("git+https://git.corp.example/mono.git")
    assert below_of(one, "https://git.corp.example/mono.git") is None


@pytest.mark.parametrize(
    ("pattern", "url"),
    [
        ("*.corp.example", "git+https://git.corp.example/{path}"),
        ("go.corp.example", "git+https://git.corp.example/mono.git"),
        ("go.corp.example", "https://proxy.example"),
    ],
)
async def test_a_route_with_vanity_names_its_host(lane: GitLane, pattern: str, url: str) -> None:
    draft = a_route(pattern, an_upstream(url, vanity=True), private=True)
    with pytest.raises(BadInputError):
        await lane.site.services.tenants.routes.create("acme", draft, OPERATOR)
