"""`moorage releases publish`: uploads here and through a server, and what is refused before."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.port import Port, served_port
from tests.e2e.warm import Warm
from tests.fakes.archives import archive_name, go_archive
from tests.fakes.signer import Signer

ONE, TWO = "go1.99.1-corp1", "go1.99.1-corp2"
FIRST, SECOND = "go1.99.3-corp1", "go1.99.3-corp2"  # those that are taken back


@pytest.fixture(scope="module")
def port(warm: Warm, signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Port]:
    folder = tmp_path_factory.mktemp("port")
    keyring = folder / "own.asc"
    keyring.write_bytes(signer.export)
    keys = {"own_keyring": keyring, "own_fingerprints": [signer.primary]}
    settings = {f"releases__{name}": value for name, value in keys.items()}
    with served_port(warm, **settings) as served:
        yield served


def signed(folder: Path, signer: Signer, version: str, goos: str = "linux") -> str:
    data, path = go_archive(version, goos), folder / archive_name(version, goos)
    path.write_bytes(data)
    path.with_name(f"{path.name}.asc").write_bytes(signer.sign(data))
    return str(path)


def test_files_are_published_here_and_there(port: Port, signer: Signer, tmp_path: Path) -> None:
    files = [signed(tmp_path, signer, ONE, goos) for goos in ("linux", "darwin")]
    here = port.here("releases", "publish", *files, "--version", "1.99.1-corp1")
    assert (here.code, here.out.count("verified ")) == (0, 2), here
    again = port.there("releases", "publish", *files, "--version", ONE, "--json")
    assert [one["state"] for one in again.json] == ["verified"] * 2, again
    more = signed(tmp_path, signer, TWO)
    second = port.there("releases", "publish", more, "--version", TWO, "--signature", f"{more}.asc")
    assert second.code == 0, second
    listed = port.both("releases", "list", "--json").json
    assert [(one["version"], one["support"]) for one in listed] == [(TWO, "own"), (ONE, "own")]
    assert "(own)" in port.both("releases", "show", Path(more).name).out
    assert f"own      {signer.primary}" in port.both("releases", "keys", "list").out
    Path(more).write_bytes(go_archive(TWO, seed=1))
    other = port.there("releases", "publish", more, "--version", TWO)
    assert (other.code, "another name" in other.err or "refused" in other.err) == (1, True), other


def test_what_is_wrong_is_said_before_anything_is_sent(
    port: Port, signer: Signer, tmp_path: Path
) -> None:
    file = signed(tmp_path, signer, ONE)
    bare = tmp_path / archive_name(TWO)
    bare.write_bytes(b"unsigned")
    for arguments, words in [
        ((file, "--version", "1.99.1"), "go1.25.9-corp1"),
        ((file, "--version", TWO), f"not a file of {TWO}"),
        ((str(bare), "--version", TWO), "no signature"),
        ((str(tmp_path / archive_name(ONE, "darwin")), "--version", ONE), "no signature"),
        ((file, "--version", ONE, "--sha256", "0" * 64, "--sha256", "0" * 64), "once for each"),
        ((file, "--version", ONE, "--signature", str(tmp_path / "none")), "No such file"),
    ]:
        ended = port.there("releases", "publish", *arguments)
        assert (ended.code != 0, words in ended.err) == (True, True), (arguments, ended)


def test_a_release_is_taken_back_here_and_there(port: Port, signer: Signer, tmp_path: Path) -> None:
    for version, command, gone in ((FIRST, port.here, ()), (SECOND, port.there, ("--gone",))):
        file = signed(tmp_path, signer, version)
        assert port.here("releases", "publish", file, "--version", version).code == 0
        ended = command("releases", "retire", version, "--reason", "a wrong patch", *gone)
        state = "gone" if gone else "retired"
        assert (ended.code, ended.err) == (0, ""), ended
        assert ended.out.startswith(f"{version} is {state} since "), ended
        assert ended.out.rstrip().endswith(": a wrong patch"), ended
        shown = port.both("releases", "show", version).out
        assert (state in shown, "a wrong patch" in shown) == (True, True), shown
        again = port.there(
            "releases", "publish", signed(tmp_path, signer, version, "darwin"), "--version", version
        )
        assert again.code == 1, again
    unknown = port.here("releases", "retire", "go1.99.7-corp7")
    assert (unknown.code, "go1.99.7-corp7" in unknown.err) == (1, True), unknown
    public = port.here("releases", "retire", "go1.23.1")
    assert (public.code != 0, "go1.25.9-corp1" in public.err) == (True, True), public
