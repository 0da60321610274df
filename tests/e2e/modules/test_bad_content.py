"""What an upstream sends that is not what it should be: go reads why, and nothing is stored.

Where a bare go would take it, or fail later and with less to read, Moorage refuses it first.
S-numbers are rows of the acceptance table in the protocol reference, F-numbers of the bad inputs.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.e2e.gocommand import Go
from tests.e2e.modules.conftest import MakeGo
from tests.e2e.modules.served import Served
from tests.e2e.process import wait_until
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy
from tests.fakes.modules import Entry, Module, go_mod_of, info_of, module, module_zip

V = "v1.0.0"


def zip_of(one: Module) -> str:
    """Return the path, at the upstream, of a module's zip."""
    return f"/repo/{one.path}/@v/{one.version}.zip"


def refusal(go: Go, served: Served, path: str, suffix: str, *, query: str = f"@{V}") -> str:
    """Return the line of ours that go prints when `go get` fails for a file that is refused."""
    ended = go.run("get", path + query)
    assert ended.code == 1
    assert f"{suffix}: 502 Bad Gateway\n" in ended.err
    _, separator, message = ended.err.partition("\tserver response: ")
    assert separator, ended.err
    line, *more = message.strip().splitlines()
    assert not more, "it is one line"
    assert served.fake.base_url not in ended.err
    return line


INFOS = {
    "another version": (info_of("v1.0.1"), "it is about version 'v1.0.1', not v1.0.0"),
    "a bad time": (info_of(V, "yesterday"), "its Time is not one that `go` reads"),
    "a small t": (info_of(V, "2024-01-02t03:04:05Z"), "its Time is not one that `go` reads"),
    "no JSON": (b"{", "it is not JSON"),
}


@pytest.mark.parametrize("name", INFOS)
def test_S16_F73_an_info_that_is_wrong_is_refused(
    go: Go, served: Served, upstream: FakeGoproxy, name: str
) -> None:
    path, (body, message) = f"example.com/s16/{name.replace(' ', '').lower()}", INFOS[name]
    upstream.put(module(path, V))
    upstream.put_raw(f"/{path}/@v/{V}.info", body)
    assert message in refusal(go, served, path, ".info")
    assert not served.has_stored(path, V, "info")


def test_S16_a_branch_that_resolves_to_no_canonical_version_is_refused(
    go: Go, served: Served, upstream: FakeGoproxy
) -> None:
    upstream.put_query("example.com/s16/branch", "master", info_of("v1"))
    message = refusal(go, served, "example.com/s16/branch", "master.info", query="@master")
    assert "sent for example.com/s16/branch@master is refused" in message
    assert "its Version 'v1' is not canonical" in message


@pytest.mark.parametrize("how", [{"stored": True}, {"backwards": True}])
def test_S17_a_repacked_zip_is_accepted_with_the_same_hash(
    go: Go, upstream: FakeGoproxy, how: dict[str, bool]
) -> None:
    path = f"example.com/s17/{next(iter(how))}"
    files = {"go.mod": go_mod_of(path), "a.go": b"package a\n", "b/b.go": b"package b\n"}
    one = module(path, V, files)
    upstream.put(replace(one, zip=module_zip(path, V, files, **how)))
    go.out("get", path)
    assert f"{path} {V} {one.h1}" in go.go_sum()


def test_S19_a_zip_that_is_not_the_one_in_go_sum_is_refused_by_go(
    go: Go, upstream: FakeGoproxy
) -> None:
    path = "example.com/s19"
    first = module(path, V)
    upstream.put(module(path, V, {"s19.go": b"package s19 // tampered\n"}))
    sums = f"{path} {V} {first.h1}\n{path} {V}/go.mod {first.mod_h1}\n"
    go.write("go.mod", f"module m\n\ngo 1.21\n\nrequire {path} {V}\n")
    go.write("go.sum", sums)
    ended = go.run("mod", "download", path)
    assert ended.code == 1
    assert "checksum mismatch" in ended.err
    assert "SECURITY ERROR" in ended.err


def test_S20_a_go_mod_that_is_not_the_one_in_go_sum_is_refused_by_go(
    go: Go, upstream: FakeGoproxy
) -> None:
    path = "example.com/s20"
    one = module(path, V)
    upstream.put(one)
    upstream.put_raw(f"/{path}/@v/{V}.mod", go_mod_of(path, go="1.20"))
    go.write("go.mod", f"module m\n\ngo 1.21\n\nrequire {path} {V}\n")
    go.write("go.sum", f"{path} {V} {one.h1}\n{path} {V}/go.mod {one.mod_h1}\n")
    ended = go.run("list", "-m", "all")
    assert ended.code == 1
    assert f"verifying {path}@{V}/go.mod: checksum mismatch" in ended.err


def test_S21_a_go_mod_that_is_not_the_zips_is_refused_though_go_would_take_it(
    go: Go, make_go: MakeGo, served: Served, upstream: FakeGoproxy
) -> None:
    path = "example.com/s21"
    upstream.put(module(path, V))
    upstream.put_raw(f"/{path}/@v/{V}.mod", go_mod_of(path, go="1.20"))
    assert make_go(upstream.url).run("get", path).code == 0
    assert served.get(f"{path}/@v/{V}.mod").status == 200
    message = refusal(go, served, path, ".zip")
    assert f"{path}@{V}.mod is not the go.mod in {path}@{V}.zip" in message
    assert not served.has_stored(path, V, "zip")


def test_S22_F69_a_zip_with_another_prefix_is_refused(
    go: Go, served: Served, upstream: FakeGoproxy
) -> None:
    path = "example.com/s22"
    wrong = module_zip(path, V, {"a.go": b"package a\n"}, prefix="example.com/other@v1.0.0/")
    upstream.put(replace(module(path, V), zip=wrong))
    message = refusal(go, served, path, ".zip")
    assert f"zip for {path}@{V} has unexpected file example.com/other@v1.0.0/a.go" in message
    assert not served.has_stored(path, V, "zip")


ENTRIES: dict[str, tuple[Callable[[str], tuple[Entry, ...]], str]] = {
    "S23 F69 case-fold": (
        lambda at: (Entry(f"{at}b.go", b"package b"), Entry(f"{at}B.go", b"package b")),
        "equal but for upper and lower case",
    ),
    "S23 nested": (
        lambda at: (Entry(f"{at}x/go.mod", b"module x\n"),),
        "'x/go.mod': a go.mod lies in the root",
    ),
    "S23 device": (lambda at: (Entry(f"{at}aux.go", b"package a"),), "aux.go"),
    "S24 F68 symlink": (
        lambda at: (Entry.symlink(f"{at}link", "/etc/passwd"),),
        "neither a regular file nor a directory",
    ),
    "S24 F68 outside": (lambda at: (Entry(f"{at}../../evil", b"x"),), ".."),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_S23_S24_a_zip_that_go_could_not_unpack_is_refused(
    go: Go, served: Served, upstream: FakeGoproxy, name: str
) -> None:
    path, (entries, message) = f"example.com/{name.replace(' ', '-').lower()}", ENTRIES[name]
    upstream.put(module(path, V, extra=entries(f"{path}@{V}/")))
    assert message in refusal(go, served, path, ".zip")
    assert not served.has_stored(path, V, "zip")
    # Nor was it left in the client's cache, from which only `go clean -modcache` would take it.
    assert not list(go.downloads.rglob(f"{V}.zip"))


def test_S24_bare_go_takes_a_zip_with_a_symlink(make_go: MakeGo, upstream: FakeGoproxy) -> None:
    path = "example.com/s24/bare"
    upstream.put(module(path, V, extra=[Entry.symlink(f"{path}@{V}/link", "/etc/passwd")]))
    assert make_go(upstream.url).run("get", path).code == 0


FAULTS = {
    "S25 F40 length": (Fault.truncate("half"), "ended before its body was complete"),
    "S25 F41 chunked": (Fault.truncate_chunked("half"), "ended before its body was complete"),
    "S25 F41 clean": (Fault.truncate_unframed("half"), "the file is no zip, is cut short"),
    "S26 F46 page": (Fault.html_200(), "the file is no zip"),
    "S26 empty": (Fault.empty_200(), "the file is too short for a zip"),
    "S29 F42 huge": (Fault.wrong_length(524_288_001), "more than the limit of 524288000"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_S25_S26_S27_S29_a_zip_that_does_not_come_whole_is_refused_and_can_be_had_later(
    go: Go, served: Served, upstream: FakeGoproxy, name: str
) -> None:
    path, (fault, message) = f"example.com/{name.replace(' ', '-').lower()}", FAULTS[name]
    one = module(path, V)
    upstream.put(one)
    upstream.fault(zip_of(one), fault, times=None)
    try:
        assert message in refusal(go, served, path, ".zip")
        assert not served.has_stored(path, V, "zip")
    finally:
        upstream.clear_faults()
    go.out("get", path)
    assert f"{path} {V} {one.h1}" in go.go_sum()


def test_S25_F44_a_zip_that_is_cut_once_comes_whole_without_go_noticing(
    go: Go, upstream: FakeGoproxy
) -> None:
    one = module("example.com/s25/once", V)
    upstream.put(one)
    upstream.fault(zip_of(one), Fault.truncate("half"))
    upstream.fault(zip_of(one), Fault.reset("half"))
    go.out("get", one.path)
    assert upstream.hits[zip_of(one)] == 3


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (f"{V}.info", "it is not JSON"),
        (f"{V}.mod", "the go.mod is an HTML or XML page"),
        ("list", "it is not a list of versions"),
    ],
)
def test_S26_F46_a_login_page_is_no_answer(
    go: Go, served: Served, upstream: FakeGoproxy, file: str, message: str
) -> None:
    path = f"example.com/s26/{file.rpartition('.')[2]}"
    upstream.put(module(path, V))
    upstream.fault(f"/repo/{path}/@v/{file}", Fault.html_200(), times=None)
    try:
        query = "" if file == "list" else f"@{V}"
        # A zip is refused with its .mod, and go asks for both at once.
        suffix = "" if file.endswith(".mod") else f"/@v/{file}"
        assert message in refusal(go, served, path, suffix, query=query)
    finally:
        upstream.clear_faults()
    go.out("get", path + query)


def test_S27_who_accepts_gzip_gets_the_bytes_as_they_are(
    served: Served, upstream: FakeGoproxy
) -> None:
    one = module("example.com/s27/identity", V)
    upstream.put(one)
    for suffix, body in (("info", one.info), ("mod", one.mod), ("zip", one.zip)):
        reply = served.get(f"{one.path}/@v/{V}.{suffix}", **{"Accept-Encoding": "gzip"})
        assert reply.body == body
        assert reply.headers["Content-Encoding"] is None


def test_S28_F43_go_waits_while_the_zip_stalls(
    go: Go, served: Served, upstream: FakeGoproxy, stalled_go
) -> None:
    one = module("example.com/s28", V, padding_bytes=200_000)
    upstream.put(one)
    upstream.fault(zip_of(one), Fault.stall("half"))
    waiting = stalled_go(go, "get", one.path)
    upstream.wait_until(lambda: upstream.stalled == 1)
    assert waiting.poll() is None
    assert served.get("example.com/s28/@v/list").status == 200, "others are answered meanwhile"
    upstream.release()
    wait_until(lambda: waiting.poll() is not None, "the end of go")
    assert waiting.poll() == 0
