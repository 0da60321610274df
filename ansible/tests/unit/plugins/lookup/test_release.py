"""Which release a term means."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.moorage.go.plugins.lookup import release


def listed(version, *, stable=True, kind="archive"):
    filename = f"{version}.linux-amd64.tar.gz"
    file = {"filename": filename, "os": "linux", "arch": "amd64", "kind": kind, "size": 7}
    return {"version": version, "stable": stable, "files": [{**file, "sha256": "ab"}]}


LISTING = [
    listed("go1.99rc1", stable=False),
    listed("go1.98.5", kind="installer"),
    listed("go1.98.4"),
]


@pytest.mark.parametrize(
    ("term", "version"),
    [("current", "go1.98.4"), ("1.99rc1", "go1.99rc1"), ("go1.98.4", "go1.98.4")],
)
def test_a_term_means_the_newest_stable_archive_or_a_release(term, version):
    value = release.of_listing(LISTING, term, "linux-amd64", "https://m.example/dl/")
    assert value == {
        "version": version,
        "platform": "linux-amd64",
        "filename": f"{version}.linux-amd64.tar.gz",
        "size": 7,
        "sha256": "ab",
        "url": f"https://m.example/dl/{version}.linux-amd64.tar.gz",
    }


@pytest.mark.parametrize(
    ("term", "platform"), [("1.97", "linux-amd64"), ("current", "linux-arm64")]
)
def test_what_the_server_lacks_is_an_error(term, platform):
    with pytest.raises(AnsibleLookupError, match=f"no {term} for {platform}"):
        release.of_listing(LISTING, term, platform, "")
