"""OpenSSH's server on loopback, for git over ssh: one user, one key, one host key.

with FakeSshd(folder) as fake:
    ...  # git+ssh://USER@127.0.0.1:PORT/…, fake.host_keys, fake.private_key
"""

import getpass
import os
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

_SSHD = Path("/usr/sbin/sshd")
_START_S = 20.0


def is_here() -> bool:
    """Whether OpenSSH's server can be run here: it wants a folder of its own as root."""
    return _SSHD.exists() and (os.getuid() != 0 or Path("/run/sshd").is_dir() or _made())


def _made() -> bool:
    try:
        Path("/run/sshd").mkdir(mode=0o755)
    except OSError:
        return False
    return True


@dataclass(slots=True)
class FakeSshd:
    """The server.

    Attributes:
        folder: for keys and the configuration.
        accepts_version: whether the server takes GIT_PROTOCOL; without it git speaks version 0.
    """

    folder: Path
    accepts_version: bool = True
    port: int = 0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def user(self) -> str:
        """Who logs in."""
        return getpass.getuser()

    @property
    def host_keys(self) -> str:
        """The host's public key, as a route pins it."""
        return " ".join((self.folder / "host.pub").read_text().split()[:2])

    @property
    def private_key(self) -> str:
        """The key that may log in."""
        return (self.folder / "user").read_text()

    def new_host_key(self) -> None:
        """Give the host another key; the server has it from its next start."""
        (self.folder / "host").unlink()
        (self.folder / "host.pub").unlink()
        _make_key(self.folder / "host")

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("host", "user"):
            if not (self.folder / name).exists():
                _make_key(self.folder / name)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            "LogLevel ERROR\nMaxStartups 100\n"
            + ("AcceptEnv GIT_PROTOCOL\n" if self.accepts_version else "")
        )
        self._process = subprocess.Popen(
            [str(_SSHD), "-D", "-e", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _wait_for(self.port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def _make_key(path: Path) -> None:
    subprocess.run(
        ["/usr/bin/ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.01)
    raise AssertionError("sshd does not start")
