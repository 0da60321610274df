"""A git server on loopback: git's own http-backend behind HTTP, with users, and with faults.

    with FakeGit(folder) as fake:            # folder holds bare repositories: team/x.git
        ...  # git+http://127.0.0.1:PORT/{path}.git

Not here: ssh (`sshd`), the repositories (`gitrepos`), TLS (`tls`).
"""

import base64
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

BACKEND = Path("/usr/lib/git-core/git-http-backend")
Answer = Callable[[BaseHTTPRequestHandler], bool]


def is_here() -> bool:
    """Whether git's http-backend is installed."""
    return BACKEND.exists()


@dataclass(slots=True)
class GitUser:
    """Who may read which repositories: names below the folder, or "*" for all."""

    password: str
    repositories: frozenset[str] = frozenset({"*"})


@dataclass(slots=True)
class FakeGit:
    """The server.

    Attributes:
        folder: of the bare repositories.
        users: by name; without any, everybody may read everything.
        hidden_status: of a repository that the user may not read, and of one that is not there.
        answers: by path ("/team/x.git/info/refs"): takes the request instead of git, if true.
        requests: method and path of each request, in their order.
        import_base: what `?go-get=1` names as the place of repositories; "" for this server.
        subdirectories: by module path: the repository and the sub-directory that `?go-get=1` names.
        has_version_2: whether the server knows version 2 of the protocol.
        authorizations: what each request presented.
    """

    folder: Path
    users: dict[str, GitUser] = field(default_factory=dict)
    hidden_status: int = 404
    answers: dict[str, Answer] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    import_base: str = ""
    subdirectories: dict[str, tuple[str, str]] = field(default_factory=dict)
    has_version_2: bool = True
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return self._server.server_port

    @property
    def base_url(self) -> str:
        """Return the address of the folder."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, ending: str) -> int:
        """Return how many requests' paths end so: "/info/refs", "/git-upload-pack"."""
        return sum(1 for request in self.requests if request.endswith(ending))

    def __enter__(self) -> Self:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: object) -> None:
                pass

            def do_GET(self) -> None:
                fake.take(self)

            do_POST = do_CONNECT = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        if request.path.startswith("http://") or request.command == "CONNECT":
            self._tell_import(request)
            return
        parts = urlsplit(request.path)
        path = unquote(parts.path)
        self.requests.append(f"{request.command} {path}")
        self.authorizations.append(request.headers.get("Authorization", ""))
        length = int(request.headers.get("Content-Length", "0"))
        body = request.rfile.read(length)
        own = self.answers.get(path)
        if own is not None and own(request):
            return
        repository = path.removesuffix("/info/refs").removesuffix("/git-upload-pack").strip("/")
        if self.users and self._user(request) is None:
            say(request, 401, b"who are you?\n", {"WWW-Authenticate": 'Basic realm="git"'})
            return
        if not self._may_read(request, repository) or not (self.folder / repository).is_dir():
            say(request, self.hidden_status, b"repository not found\n")
            return
        self._run(request, path, parts.query, body)

    def _tell_import(self, request: BaseHTTPRequestHandler) -> None:
        """Answer `?go-get=1` of any host, as its HTTP proxy; refuse TLS."""
        if request.command == "CONNECT":
            say(request, 405, b"")
            return
        page = self.import_page(request.path)
        say(request, 404 if page is None else 200, page or b"not found\n")

    def import_page(self, address: str) -> bytes | None:
        """Return the page of a module's host, "https://git.corp.example/team/x?go-get=1"."""
        parts = urlsplit(address)
        elements = parts.path.strip("/").split("/")
        for count in range(len(elements), 0, -1):
            name = "/".join(elements[:count])
            repository, subdirectory = self.subdirectories.get(name, (name, ""))
            if (self.folder / f"{repository}.git").is_dir():
                url = f"{self.import_base or self.base_url}/{repository}.git"
                words = f"{parts.netloc}/{name} git {url} {subdirectory}".rstrip()
                tag = f'<meta name="go-import" content="{words}">'
                return f"<html><head>{tag}</head></html>".encode()
        return None

    def _user(self, request: BaseHTTPRequestHandler) -> GitUser | None:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            name, _, password = base64.b64decode(value).decode().partition(":")
            user = self.users.get(name)
            return user if user is not None and user.password == password else None
        if scheme == "Bearer":
            return next((u for u in self.users.values() if u.password == value), None)
        return None

    def _may_read(self, request: BaseHTTPRequestHandler, repository: str) -> bool:
        user = self._user(request)
        return user is None or bool(user.repositories & {"*", repository})

    def _run(self, request: BaseHTTPRequestHandler, path: str, query: str, body: bytes) -> None:
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", "") if self.has_version_2 else "",
            "REMOTE_ADDR": "127.0.0.1",
        }
        with subprocess.Popen(
            [str(BACKEND)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(body)
                process.stdin.close()
                _pass_on(request, process)
            except OSError:  # the client went away
                process.kill()


def _pass_on(request: BaseHTTPRequestHandler, process: "subprocess.Popen[bytes]") -> None:
    assert process.stdout is not None
    status, headers = 200, []
    while line := process.stdout.readline().rstrip(b"\r\n"):
        name, _, value = line.decode().partition(": ")
        if name == "Status":
            status = int(value.split()[0])
        else:
            headers.append((name, value))
    request.send_response(status)
    for name, value in headers:
        request.send_header(name, value)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    while chunk := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
        request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    request.wfile.write(b"0\r\n\r\n")


def say(
    request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None
) -> None:
    """Send a whole answer."""
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)
