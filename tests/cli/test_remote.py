"""The transport of `--server`: what a command imports, and how it speaks to a server."""

import errno
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from app.cli import remote
from app.cli.api import Api
from app.cli.output import exit_for
from app.cli.remote import Remote
from app.core.errors import BadInputError, MoorageError, SettingsError
from tests.cli.port import Port
from tests.fakes.tls import TlsFront

LOCAL = ["fastapi", "starlette", "sqlalchemy", "alembic", "httpx"]
"""What only a command without `--server` needs."""
PROGRAM = """
import contextlib, io, json, sys
from app.cli import main
with contextlib.redirect_stdout(io.StringIO()) as out:
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
heavy = [name for name in json.loads(sys.stdin.read()) if name in sys.modules]
print(json.dumps([code, heavy, len(out.getvalue())]))
"""


def imported(environ: dict[str, str], *arguments: str, look_for: list[str]) -> list[str]:
    """Run a command that must end well; return which of these packages it has imported."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={"LC_ALL": "C.UTF-8", **environ},
        input=json.dumps(look_for),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    code, heavy, printed = json.loads(done.stdout)
    assert (code, printed > 0) == (0, True), done
    return list(heavy)


@pytest.mark.parametrize(
    "arguments",
    [
        ("tenant", "list"),
        ("tenant", "list", "--json"),
        ("route", "list", "--tenant", "default"),
        ("rule", "list", "--platform"),
        ("explain", "--tenant", "default", "example.com/x@v1.0.0"),
        ("releases", "list"),
        ("audit", "list"),
        ("sumdb", "logs"),
    ],
    ids=" ".join,
)
def test_a_command_with_a_server_imports_nothing_that_is_only_needed_without(
    port: Port, arguments: tuple[str, ...]
) -> None:
    environ = {"MOORAGE_SERVER": port.server.url, "MOORAGE_TOKEN": port.server.token}
    assert imported(environ, *arguments, look_for=LOCAL) == []


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_nothing_heavy(argument: str) -> None:
    assert imported({}, argument, look_for=[*LOCAL, "pydantic", "asyncio"]) == []


def test_a_command_without_a_server_does_import_them(port: Port) -> None:
    """So that the tests above look for names that there are."""
    environ = dict(port.site.environ)
    assert imported(environ, "tenant", "list", look_for=LOCAL) == LOCAL


TEXT = b"export GOPROXY=https://moorage.example\nexport GOSUMDB=sum.golang.org\n"
"""What /client-config answers."""


class _Handler(BaseHTTPRequestHandler):
    """Answers by the path, and drops the first connections of /broken, or breaks answers off."""

    protocol_version = "HTTP/1.1"
    server: "_Server"

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path, self.headers["Authorization"]))
        length = int(self.headers["Content-Length"] or 0)
        self.rfile.read(length)
        if self.path.startswith("/broken") and self.server.to_drop:
            self.server.to_drop -= 1
            self.close_connection = True
            return
        if self.server.to_truncate:
            self.server.to_truncate -= 1
            self.close_connection = True
            self._answer(200, TEXT[:-20], **{"Content-Length": str(len(TEXT))})
        elif self.path.endswith("/client-config"):
            self._answer(200, TEXT)
        elif self.path == "/moved":
            self._answer(302, b"", location="/elsewhere")
        elif self.path == "/long":
            self._answer(200, b"x" * 101)
        else:
            self._answer(200, self.path.encode())

    do_POST = do_GET

    def _answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str, str | None]] = []
        self.to_drop = 0
        self.to_truncate = 0
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Server]:
    monkeypatch.setattr(remote, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(remote, "_ANSWER_MAX_BYTES", 100)
    with _Server() as made:
        thread = Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(server: _Server) -> Iterator[Remote]:
    made = Remote(server.url, "t0ken")
    yield made
    made.close()


def test_the_path_of_the_servers_address_comes_first_and_the_token_goes_along(
    server: _Server,
) -> None:
    client = Remote(f"{server.url}/behind/a/proxy/", "t0ken")
    assert client.send("GET", "/api/v1/x?a=%20", None) == (200, b"/behind/a/proxy/api/v1/x?a=%20")
    client.close()
    assert server.asked == [("GET", "/behind/a/proxy/api/v1/x?a=%20", "Bearer t0ken")]


def test_without_a_token_none_is_sent(server: _Server) -> None:
    client = Remote(server.url, None)
    client.send("GET", "/", None)
    client.close()
    assert server.asked == [("GET", "/", None)]


def test_a_get_is_tried_again_after_a_broken_connection(server: _Server, client: Remote) -> None:
    server.to_drop = 3
    assert client.send("GET", "/broken", None) == (200, b"/broken")
    assert len(server.asked) == 4


def test_a_get_that_keeps_breaking_is_an_error(server: _Server, client: Remote) -> None:
    server.to_drop = 99
    with pytest.raises(MoorageError, match=rf"{server.url}/broken can't be reached: "):
        client.send("GET", "/broken?secret=x", None)
    assert len(server.asked) == 4


def test_a_get_is_tried_again_after_an_answer_that_broke_off(
    server: _Server, client: Remote
) -> None:
    server.to_truncate = 3
    assert client.send("GET", "/client-config", None) == (200, TEXT)
    assert len(server.asked) == 4


def test_a_change_whose_answer_broke_off_is_an_error_and_not_sent_again(
    server: _Server, client: Remote
) -> None:
    server.to_truncate = 1
    with pytest.raises(MoorageError, match=r"/x broke off its answer after \d+ bytes$"):
        client.send("POST", "/x", b"{}")
    assert len(server.asked) == 1
    assert client.send("POST", "/x", b"{}") == (200, b"/x")


def test_a_text_is_whole_or_an_error_that_ends_a_command_with_1(
    server: _Server, client: Remote
) -> None:
    path = "/tenants/acme/client-config"
    server.to_truncate = 3
    assert Api(client).text(path).encode() == TEXT
    server.to_truncate = 4
    with pytest.raises(MoorageError, match=r"broke off its answer after \d+ bytes$") as raised:
        Api(client).text(path)
    assert exit_for(raised.value) == 1


def test_a_command_whose_answer_keeps_breaking_off_prints_one_line_and_ends_with_1(
    server: _Server,
) -> None:
    server.to_truncate = 4
    without_pauses = "from app.cli import main, remote; remote._PAUSES_S = (0, 0, 0); main()"
    arguments = ["tenant", "client-config", "acme", "--server", server.url]
    done = subprocess.run(
        [sys.executable, "-c", without_pauses, *arguments],
        env={"LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, len(server.asked)) == (1, "", 4)
    where = f"{server.url}/api/v1/tenants/acme/client-config"
    sent_bytes = len(TEXT) - 20
    assert done.stderr == f"moorage: {where} broke off its answer after {sent_bytes} bytes\n"


class _Clock:
    """A clock that only `sleep`, and a test, put forward."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


class _Network:
    """Opens connections as `socket.create_connection` does; each open or wait takes its time.

    Attributes:
        connect_s: how long a connection takes to open.
        lost: how many connections break off instead, after that time.
        timeouts: the time-out of each connection while it was opened, and what was set afterwards.
    """

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock
        self.connect_s = 1.0
        self.lost = 0
        self.timeouts: list[tuple[float, list[float]]] = []

    def create_connection(
        self, address: tuple[str, int], timeout: float, _source: object = None
    ) -> socket.socket:
        later: list[float] = []
        self.timeouts.append((timeout, later))
        self.clock.now_s += min(self.connect_s, timeout)
        if self.connect_s > timeout:
            raise TimeoutError("timed out")
        if self.lost:
            self.lost -= 1
            raise ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
        sock = _NotingSocket(socket.AF_INET, socket.SOCK_STREAM)
        sock.later = later
        sock.connect(address)
        return sock


class _NotingSocket(socket.socket):
    """A real socket that notes its time-outs, and waits no longer than a test may take."""

    later: list[float]

    def settimeout(self, value: float | None) -> None:
        assert value is not None
        self.later.append(value)
        super().settimeout(30)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> _Network:
    made = _Network(_Clock())
    monkeypatch.setattr(socket, "create_connection", made.create_connection)
    return made


@pytest.fixture
def timed(server: _Server, network: _Network) -> Iterator[Remote]:
    made = Remote(server.url, None, clock=network.clock, sleep=network.clock.sleep)
    yield made
    made.close()


def test_a_connection_opens_within_5_seconds_and_an_answer_may_take_20_minutes(
    network: _Network, timed: Remote
) -> None:
    assert timed.send("POST", "/x", b"{}") == (200, b"/x")
    assert timed.send("POST", "/x", b"{}") == (200, b"/x")
    [(connect_s, later)] = network.timeouts
    assert connect_s == 5.0
    assert later == [1199.0] * 3 + [1200.0] * 3


def test_a_server_that_takes_no_connection_is_an_error_after_seconds(
    network: _Network, timed: Remote
) -> None:
    network.connect_s = 6.0
    with pytest.raises(MoorageError, match=r"can't be reached: no connection within 5 s$"):
        timed.send("POST", "/x", b"{}")
    assert network.clock.now_s == 105.0
    with pytest.raises(MoorageError, match="no connection within 5 s"):
        timed.send("GET", "/x", None)
    assert network.clock.now_s == 125.0


def test_the_deadline_is_one_for_all_tries(
    network: _Network, timed: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_DEADLINE_S", 10.0)
    monkeypatch.setattr(remote, "_PAUSES_S", (0.5, 0.5, 0.5))
    network.connect_s, network.lost = 4.0, 9
    with pytest.raises(MoorageError, match="can't be reached: no connection within 1 s"):
        timed.send("GET", "/x", None)
    assert [timeout for timeout, _ in network.timeouts] == [5.0, 5.0, 1.0]
    assert (network.clock.now_s, network.clock.slept) == (110.0, [0.5, 0.5])


def test_no_answer_within_the_deadline_is_an_error_and_is_not_asked_for_again(
    network: _Network, timed: Remote, server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_DEADLINE_S", 1.0)
    network.connect_s = 1.0  # nothing is left for the answer
    with pytest.raises(MoorageError, match=r"/x gave no answer within 1 s$"):
        timed.send("GET", "/x", None)
    assert (server.asked, len(network.timeouts)) == ([], 1)


def test_a_post_is_sent_once(server: _Server, client: Remote) -> None:
    server.to_drop = 99
    with pytest.raises(MoorageError, match="can't be reached"):
        client.send("POST", "/broken", b"{}")
    assert len(server.asked) == 1


def test_a_redirect_is_an_answer(server: _Server, client: Remote) -> None:
    assert client.send("GET", "/moved", None) == (302, b"")
    assert len(server.asked) == 1


def test_an_answer_that_is_too_long_is_refused(server: _Server, client: Remote) -> None:
    with pytest.raises(MoorageError, match="more than 100 bytes"):
        client.send("GET", "/long", None)


@pytest.mark.parametrize(
    ("url", "token", "error"),
    [
        ("ftp://host", None, SettingsError),
        ("host:8080", None, SettingsError),
        ("http://", None, BadInputError),
        ("http://a b", None, BadInputError),
        ("http://user:password@host", None, BadInputError),
        ("http://host", "two\nlines", BadInputError),
        ("http://host", "é", BadInputError),
    ],
)
def test_what_cannot_be_an_address_or_a_token_is_refused_and_not_repeated(
    url: str, token: str | None, error: type[MoorageError]
) -> None:
    with pytest.raises(error) as raised:
        Remote(url, token)
    assert "password" not in str(raised.value)
    assert not token or token not in str(raised.value)


def test_F57_a_certificate_that_is_not_trusted_says_what_names_its_authority() -> None:
    with TlsFront(9) as front, pytest.raises(MoorageError, match="SSL_CERT_FILE=FILE names"):
        Remote(front.url, "").put("/goproxy/x", iter([]), 0, 5)
