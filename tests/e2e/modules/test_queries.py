"""What go asks a module for, and the version that it gets. S-numbers are rows of the acceptance
table in the protocol reference.
"""

import re

import pytest

from tests.e2e.gocommand import Go
from tests.e2e.modules.served import Served
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Module, go_mod_of, info_of, module

PSEUDO = "v0.0.0-20240102030405-abcdef123456"
EARLIER = "v0.0.0-20230102030405-0123456789ab"


def put(fake: FakeGoproxy, path: str, *versions: str) -> list[Module]:
    made = [module(path, version) for version in versions]
    for one in made:
        fake.put(one)
    return made


def resolved(go: Go, path: str, query: str) -> str:
    """Return the version that a query comes to, by `go list -m`."""
    return go.out("list", "-m", "-f", "{{.Version}}", f"{path}@{query}")


def test_S1_go_get_takes_the_newest_release_and_writes_both_hashes(
    go: Go, served: Served, upstream: FakeGoproxy
) -> None:
    *_, newest, _ = put(upstream, "example.com/s1/first", "v1.0.0", "v1.1.0", "v1.2.0-rc.1")
    go.out("get", "example.com/s1/first")
    assert "example.com/s1/first v1.1.0" in go.go_mod()
    assert go.go_sum() == [
        f"example.com/s1/first v1.1.0 {newest.h1}",
        f"example.com/s1/first v1.1.0/go.mod {newest.mod_h1}",
    ]
    kinds = [line["kind"] for line in served.asked("example.com/s1/first")]
    assert list(dict.fromkeys(kinds)) == ["list", "info", "mod", "zip"]
    asked = [r.path.rpartition("/")[2] for r in upstream.asked_for("example.com/s1/first")]
    assert asked == ["list", "v1.1.0.info", "v1.1.0.mod", "v1.1.0.zip"]


def test_S2_asking_about_a_version_fetches_no_zip_and_passes_its_time_on(
    go: Go, upstream: FakeGoproxy
) -> None:
    origin = {"VCS": "git", "URL": "https://git.example/s2", "Hash": "ab" * 20}
    upstream.put(
        module("example.com/s2/first", "v1.0.0", time="2021-05-06T07:08:09Z", origin=origin)
    )
    (listed,) = go.objects("list", "-m", "-json", "example.com/s2/first@v1.0.0")
    assert (listed["Version"], listed["Time"]) == ("v1.0.0", "2021-05-06T07:08:09Z")
    assert listed["Origin"]["URL"] == origin["URL"]
    assert not [r for r in upstream.asked_for("example.com/s2/first") if r.path.endswith(".zip")]


def test_S3_capitals_in_path_and_version_work(
    go: Go, served: Served, upstream: FakeGoproxy
) -> None:
    (one,) = put(upstream, "example.com/S3/Case", "v1.0.0-RC1")
    go.out("get", "example.com/S3/Case@v1.0.0-RC1")
    assert f"example.com/S3/Case v1.0.0-RC1 {one.h1}" in go.go_sum()
    assert served.get("example.com/%21s3/%21case/@v/v1.0.0-%21r%21c1.info").status == 200
    assert served.get("example.com/!s3/!case/@v/v1.0.0-!r!c1.info").status == 200


@pytest.mark.parametrize("path", ["example.com/S4/@v/list", "example.com/s4/@v/v1.0.0-RC1.info"])
def test_S4_F1_bare_capitals_are_refused_and_not_folded(
    served: Served, upstream: FakeGoproxy, path: str
) -> None:
    put(upstream, "example.com/s4", "v1.0.0", "v1.0.0-rc1")
    assert served.get(path).status == 400
    assert not upstream.asked_for("example.com/s4")


@pytest.mark.parametrize("query", ["master", "abcdef1", "HEAD"])
def test_S5_a_branch_or_commit_resolves_to_a_pseudo_version(
    go: Go, upstream: FakeGoproxy, query: str
) -> None:
    path = f"example.com/s5/{query.lower()}"
    upstream.put(module(path, PSEUDO))
    upstream.put_query(path, query, info_of(PSEUDO))
    go.out("get", f"{path}@{query}")
    assert f"{path} {PSEUDO}" in go.go_mod()


def test_S6_a_branch_with_a_slash_is_refused_by_go_itself(go: Go, served: Served) -> None:
    ended = go.run("get", "example.com/s6@feature/x")
    assert ended.code == 1
    assert "disallowed version string" in ended.err
    assert served.asked("example.com/s6") == []


def test_S7_build_metadata_falls_back_to_the_plain_version(go: Go, upstream: FakeGoproxy) -> None:
    put(upstream, "example.com/s7", "v1.1.0")
    assert resolved(go, "example.com/s7", "v1.1.0+meta") == "v1.1.0"


@pytest.mark.parametrize(
    ("query", "version"),
    [
        ("v1", "v1.2.0"),
        ("v1.1", "v1.1.1"),
        ("<v1.1.0", "v1.0.1"),
        (">=v1.0.1", "v1.0.1"),
        ("latest", "v1.2.0"),
    ],
)
def test_S8_ranges_are_resolved_by_the_list(
    go: Go, upstream: FakeGoproxy, query: str, version: str
) -> None:
    put(upstream, "example.com/s8", "v1.0.0", "v1.0.1", "v1.1.0", "v1.1.1", "v1.2.0", "v1.3.0-pre")
    assert resolved(go, "example.com/s8", query) == version


def test_S9_latest_is_upstreams_own_where_there_are_only_pseudo_versions(
    go: Go, upstream: FakeGoproxy
) -> None:
    put(upstream, "example.com/s9/latest", PSEUDO)
    assert resolved(go, "example.com/s9/latest", "latest") == PSEUDO


def test_S9_nothing_matches_where_upstream_has_no_latest_and_an_empty_list(
    go: Go, upstream: FakeGoproxy
) -> None:
    upstream.put(module("example.com/s9/none", PSEUDO))
    upstream.set_list("example.com/s9/none", b"")
    upstream.set_latest("example.com/s9/none", None)
    ended = go.run("list", "-m", "example.com/s9/none@latest")
    assert ended.code == 1
    assert 'no matching versions for query "latest"' in ended.err


@pytest.mark.parametrize(
    ("name", "lines", "latest"),
    [
        ("told", f"{EARLIER} 2024-06-01T00:00:00Z\n{PSEUDO} 2024-01-01T00:00:00Z\n", EARLIER),
        ("own", f"{PSEUDO}\n{EARLIER}\n", PSEUDO),
    ],
)
def test_S9_latest_is_the_newest_commit_of_the_list_where_upstream_has_no_latest(
    go: Go, upstream: FakeGoproxy, name: str, lines: str, latest: str
) -> None:
    path = f"example.com/s9/{name}"
    for version in (PSEUDO, EARLIER):
        upstream.put(module(path, version))
    upstream.set_list(path, lines.encode())
    upstream.set_latest(path, None)
    assert resolved(go, path, "latest") == latest
    # Commits are no versions to choose from.
    assert go.out("list", "-m", "-versions", path) == path


def test_S10_the_newest_pre_release_is_latest_where_there_is_no_release(
    go: Go, upstream: FakeGoproxy
) -> None:
    put(upstream, "example.com/s10", "v1.0.0-alpha", "v1.0.0-beta.2", "v1.0.0-beta.11")
    assert resolved(go, "example.com/s10", "latest") == "v1.0.0-beta.11"


@pytest.mark.parametrize("line", ["v9", "v1.1.0+meta", "v2.0.0", "junk", "v01.0.0"])
def test_S11_lines_that_break_go_are_taken_out_of_a_list(
    go: Go, served: Served, upstream: FakeGoproxy, line: str
) -> None:
    path = f"example.com/s11/with-{re.sub('[^a-z0-9]', '', line)}"
    put(upstream, path, "v1.0.0")
    upstream.set_list(path, f"{line}\r\n\r\nv1.0.0 2024-01-02T03:04:05Z\r\n".encode())
    assert served.get(f"{path}/@v/list").text == "v1.0.0\n"
    assert resolved(go, path, "latest") == "v1.0.0"


def test_S11_the_same_list_breaks_go_without_moorage(make_go, upstream: FakeGoproxy) -> None:
    put(upstream, "example.com/s11/bare", "v1.0.0")
    upstream.set_list("example.com/s11/bare", b"v1.0.0\nv9\n")
    ended = make_go(upstream.url).run("list", "-m", "example.com/s11/bare@latest")
    assert ended.code == 1
    assert "v9.info: 404 Not Found" in ended.err


@pytest.mark.parametrize(
    ("name", "has_go_mod", "version"),
    [("without", False, "v2.3.0+incompatible"), ("with", True, "v1.0.0")],
)
def test_S13_incompatible_is_latest_only_over_a_version_without_a_go_mod(
    go: Go, upstream: FakeGoproxy, name: str, has_go_mod: bool, version: str
) -> None:
    path = f"example.com/s13/{name}"
    upstream.put(module(path, "v1.0.0") if has_go_mod else module(path, "v1.0.0", go_mod=None))
    upstream.put(module(path, "v2.3.0+incompatible", go_mod=None))
    assert resolved(go, path, "latest") == version
    go.out("get", f"{path}@v2.3.0+incompatible")
    assert f"{path} v2.3.0+incompatible" in go.go_mod()


def test_S14_a_retracted_newest_version_is_not_latest_and_is_told(
    go: Go, upstream: FakeGoproxy
) -> None:
    path = "example.com/s14"
    retracting = go_mod_of(path, more="retract (\n\tv1.2.0 // itself\n\tv1.0.0 // too slow\n)\n")
    put(upstream, path, "v1.0.0", "v1.1.0")
    upstream.put(module(path, "v1.2.0", go_mod=retracting))
    assert resolved(go, path, "latest") == "v1.1.0"
    (listed,) = go.objects("list", "-m", "-u", "-json", f"{path}@v1.0.0")
    assert listed["Retracted"] == ["too slow"]


@pytest.mark.parametrize(
    ("path", "version"),
    [("example.com/s15/v2", "v2.0.1"), ("gopkg.in/s15.v3", "v3.1.0")],
)
def test_S15_major_versions_in_paths_work(
    go: Go, upstream: FakeGoproxy, path: str, version: str
) -> None:
    put(upstream, path, version)
    go.out("get", f"{path}@latest")
    assert f"{path} {version}" in go.go_mod()


@pytest.mark.parametrize(
    ("path", "message"),
    [("example.com/s15/v1", "malformed module path"), ("foo", "malformed module path")],
)
def test_S15_paths_that_are_no_module_are_refused_by_go_itself(
    go: Go, served: Served, path: str, message: str
) -> None:
    ended = go.run("list", "-m", f"{path}@latest")
    assert ended.code == 1
    assert message in ended.err
    assert served.asked(path) == []
