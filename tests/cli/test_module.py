"""`moorage module`: publishing from a folder and from a zip, on the data directory and a server."""

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.port import Port, served_port
from tests.core.test_githook import signed
from tests.e2e.process import Site, wait_until
from tests.e2e.warm import Warm
from tests.fakes.modules import module

X = "corp.example/acme/x"


@pytest.fixture(scope="module")
def port(warm: Warm) -> Iterator[Port]:
    with served_port(warm) as served:
        served.done("owner", "set", "corp.example/acme", "default")
        served.done(
            *("route", "add", "--tenant", "default", "corp.example/acme"),
            *("published:", "--private"),
        )
        yield served


def folder(place: Path, text: str = "package x\n") -> Path:
    (place / ".git").mkdir(parents=True)
    (place / ".git" / "config").write_text("secret\n")
    (place / "go.mod").write_text(f"module {X}\n\ngo 1.24\n")
    (place / "x.go").write_text(text)
    return place


def test_a_folder_is_published_and_listed_and_its_retirement(port: Port, tmp_path: Path) -> None:
    source = str(folder(tmp_path / "x"))
    here = port.here("module", "publish", source, f"{X}@v1.0.0")
    assert (here.code, f"{X}@v1.0.0 is published: h1:" in here.out) == (0, True), here
    again = port.there("module", "publish", source, "@v1.0.0")
    assert (again.code, "with the same bytes" in again.out) == (0, True), again
    remote = port.there("module", "publish", source, "@v1.1.0")
    assert (remote.code, f"{X}@v1.1.0 is published" in remote.out) == (0, True), remote
    listed = port.both("module", "list", "--json").json
    assert [(one["version"], one["state"]) for one in listed] == [
        ("v1.0.0", "offered"),
        ("v1.1.0", "offered"),
    ]
    retired = port.there("module", "retire", f"{X}@v1.1.0", "--reason", "slow")
    assert (retired.code, "retired (slow)" in retired.out) == (0, True), retired
    assert "retired (slow)" in port.both("module", "show", f"{X}@v1.1.0").out
    assert port.server.get(f"/goproxy/default/{X}/@v/list").text == "v1.0.0\n"
    gone = port.here("module", "retire", f"{X}@v1.0.0", "--gone", "--json")
    assert gone.json["state"] == "gone"
    for ended in (
        port.here("module", "publish", source, "@v1.0.0"),
        port.there("module", "publish", source, "@v1.0.0"),
    ):
        assert (ended.code != 0, "was withdrawn on" in ended.err) == (True, True), ended


def test_a_zip_names_itself(port: Port, tmp_path: Path) -> None:
    one = module(X, "v0.0.0-rc.1")
    archive = tmp_path / "x.zip"
    archive.write_bytes(one.zip)
    wrong = port.there("module", "publish", str(archive), f"{X}@v9.9.9")
    assert (wrong.code, f"is the zip of {X}@v0.0.0-rc.1, not of" in wrong.err) == (2, True), wrong
    assert port.there("module", "publish", str(archive)).code == 0
    assert port.server.get(f"/goproxy/default/{X}/@v/v0.0.0-rc.1.zip").body == one.zip


def test_refusals_are_one_line_with_what_to_do(port: Port, tmp_path: Path) -> None:
    source = folder(tmp_path / "x")
    missing = port.there("module", "publish", str(source))
    assert f"moorage module publish {source} {X}@VERSION" in missing.err
    (tmp_path / "text").write_text("no zip")
    assert "is no module zip" in port.there("module", "publish", str(tmp_path / "text")).err
    assert "can't be read" in port.there("module", "publish", str(tmp_path / "absent")).err
    (source / "go.mod").write_text("module example.com/x\n")
    for run in (port.here, port.there):
        ended = run("module", "publish", str(source), "@v1.0.0")
        assert (ended.code != 0, "does not own a prefix of example.com/x" in ended.err) == (
            True,
            True,
        ), ended
    unnamed = port.there("module", "publish", str(source), "@1.0.0").err
    assert (
        "'1.0.0' is not a canonical version of example.com/x; publish one such as v1.2.3" in unnamed
    )
    assert "has not published" in port.there("module", "show", f"{X}@v7.0.0").err
    ended = port.there("module", "retire", f"{X}@v7.0.0")
    assert (ended.code != 0, "has not published" in ended.err) == (True, True)


def test_an_upload_without_a_server_says_so(warm: Warm, tmp_path: Path) -> None:
    source = folder(tmp_path / "x")
    site = Site(tmp_path, {"MOORAGE_SERVER": "http://127.0.0.1:9", "LC_ALL": "C.UTF-8"})
    ended = warm.run(site, "module", "publish", str(source), "@v1.0.0")
    assert ended.code != 0
    assert "can't be reached" in ended.err


def test_a_hook_is_made_shown_once_and_removed(port: Port) -> None:
    shown = port.there("hook", "create", "--tenant", "default").out
    assert f"URL           {port.server.url}/hooks/git/default/" in shown
    public = Site(
        port.site.folder, {**port.site.environ, "MOORAGE_PUBLIC_URL": "https://moorage.example"}
    )
    shown = port.warm.run(public, "hook", "create", "--tenant", "default").out
    assert "URL           https://moorage.example/hooks/git/default/" in shown
    shown = port.here("hook", "create", "--tenant", "default").out
    assert "set MOORAGE_PUBLIC_URL" in shown
    made = port.there("hook", "create", "--tenant", "default", "--json").json
    body = b'{"repository": {"full_name": "team/x"}}'
    headers = signed("github", body, made["secret"])
    url = f"{port.server.url}{made['path']}"

    def send() -> int:
        call = urllib.request.Request(url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(call) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    wait_until(lambda: send() in (200, 409), "the hook")
    assert send() == 409
    assert port.here("hook", "remove", "--tenant", "default").code == 0
    wait_until(lambda: send() == 401, "the end of the hook")


def test_a_module_cache_is_imported_and_what_is_refused_is_named(
    port: Port, tmp_path: Path
) -> None:
    good, bad = module("example.com/good", "v1.0.0"), module("example.com/bad", "v1.0.0")
    for one in (good, bad):
        place = tmp_path / "cache/download" / one.path / "@v"
        place.mkdir(parents=True)
        (place / "v1.0.0.info").write_bytes(one.info)
        (place / "v1.0.0.mod").write_bytes(one.mod)
        (place / "v1.0.0.zip").write_bytes(one.zip if one is good else one.zip[:-1])
    ended = port.here("module", "import", str(tmp_path))
    assert ended.code == 1
    assert "refused example.com/bad@v1.0.0.zip: " in ended.out
    assert ended.out.splitlines()[-2:] == [
        "the public checksum database vouches for 0 of 5 files; no log was asked about the others",
        "5 files imported, 0 were stored already, 1 refused",
    ]
    got = port.server.get("/goproxy/default/example.com/good/@v/v1.0.0.zip")
    assert got.body == good.zip
