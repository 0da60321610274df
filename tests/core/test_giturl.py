"""URLs of git upstreams, and which repositories a module may be in."""

import pytest

from app.core.errors import BadInputError
from app.core.giturl import (
    NamedRepository,
    check_host_keys,
    is_git,
    is_of,
    parse_git_url,
    possible_repositories,
)

HOST = "git.corp.example"


@pytest.mark.parametrize(
    ("text", "origin", "repository"),
    [
        (f"git+https://{HOST}/{{path}}.git", f"https://{HOST}", f"https://{HOST}/team/x.git"),
        (f"git+https://{HOST}:8443/scm/{{path}}/", f"https://{HOST}:8443",
         f"https://{HOST}:8443/scm/team/x"),
        (f"git+ssh://{HOST}/{{path}}", f"ssh://{HOST}", f"ssh://git@{HOST}/team/x"),
        (f"git+ssh://ci@{HOST}:2222/{{path}}", f"ssh://{HOST}:2222", f"ssh://ci@{HOST}:2222/team/x"),
        (f"git+https://{HOST}/go/mono.git", f"https://{HOST}", f"https://{HOST}/go/mono.git"),
    ],
)  # fmt: skip
def test_a_url_names_its_origin_and_each_repository(
    text: str, origin: str, repository: str
) -> None:
    url = parse_git_url(text)
    assert is_git(text)
    assert (url.origin, url.repository("team/x")) == (origin, repository)
    assert parse_git_url(url.text) == url


@pytest.mark.parametrize(
    "text",
    [
        "git+https://user:pw@h.example/{path}", "git+https://user@h.example/{path}",
        "git+ssh://-oProxyCommand=x@h.example/{path}", "git+ssh://-oProxyCommand=x/{path}",
        "git+https://h.example/{path}?x=1", "git+https://h.example/{path}#x",
        "git+https://h.example/../{path}", "git+https://h.example/-x/{path}",
        "git+https://h.example/x{path}", "git+https://h.example/{path}/{path}",
        "git+https://h.example/{other}", "git+https://h.example/", "git+https://h.example",
        "git+https://h.example/a//b", "git+https://h.example:0/{path}",
        "git+https://h.example/{path}%0a", "git+https://h.example/{path}\n",
        "git+file:///etc/{path}", "git+ext::sh/{path}", "git://h.example/{path}",
        "git+ssh://h.example:2222'x/{path}", "git+https://H.example/{path}",
    ],
)  # fmt: skip
def test_F83_a_url_that_could_mean_something_else_is_refused(text: str) -> None:
    with pytest.raises(BadInputError):
        parse_git_url(text)


def test_the_longest_repository_comes_first_and_the_number_is_bounded() -> None:
    url = parse_git_url(f"git+https://{HOST}/{{path}}")
    assert possible_repositories(url, f"{HOST}/team/x/v2", 1) == [
        NamedRepository("team/x/v2", f"{HOST}/team/x/v2"),
        NamedRepository("team/x", f"{HOST}/team/x"),
        NamedRepository("team", f"{HOST}/team"),
    ]
    assert possible_repositories(url, f"{HOST}/team/x", 2) == [
        NamedRepository("x", f"{HOST}/team/x")
    ]
    assert possible_repositories(url, HOST, 1) == []
    assert len(possible_repositories(url, f"{HOST}/" + "/".join("a" * 90), 1)) == 12
    one = parse_git_url(f"git+https://{HOST}/mono.git")
    assert possible_repositories(one, f"{HOST}/a/b", 1) == [NamedRepository("", HOST)]


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("ssh-ed25519 AAAAC3Nz\n", True),
        ("ssh-ed25519 AAAA comment\necdsa-sha2-nistp256 BBBB==\n", True),
        ("", False),
        ("host.example ssh-ed25519 AAAA", False),
        ("ssh-ed25519 AAAA\n@cert-authority * ssh-rsa AAAA", False),
        ("* ssh-ed25519 AAAA", False),
    ],
)
def test_host_keys_are_keys_and_nothing_else(text: str, *, is_good: bool) -> None:
    if is_good:
        check_host_keys(text)
        return
    with pytest.raises(BadInputError):
        check_host_keys(text)


def test_a_hosts_name_for_a_repository_is_told_by_its_path() -> None:
    url = parse_git_url(f"git+https://{HOST}/scm/{{path}}.git")
    assert is_of(url, "team/x", "team/x")
    assert is_of(url, "Team/X", "team/x.git")
    assert not is_of(url, "team/xx", "team/x")
    assert not is_of(url, "team/x", "am/x")
    one = parse_git_url(f"git+https://{HOST}/go/mono.git")
    assert is_of(one, "", "go/mono")
