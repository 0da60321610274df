"""An S3 store on loopback: moto's server in a thread, on a free port.

moto keeps everything in memory, checks no signature and no checksum, and knows conditional puts.
What a store may do wrong is `s3faults.py`.
"""

import logging
import secrets
from types import TracebackType
from typing import Any, Self

from app.storage.s3client import S3Client, S3Place


class FakeS3:
    """moto's server; use it as a context manager. One is enough for all tests of a process."""

    def __init__(self) -> None:
        # Imported here: it takes a second, and most tests need none.
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.stop()

    def place(self, prefix: str = "") -> S3Place:
        """Return a new, empty bucket."""
        bucket = f"moorage-{secrets.token_hex(8)}"
        self._make_bucket(bucket)
        return S3Place(bucket, prefix, self.endpoint, "us-east-1", "access", "secret")

    def _make_bucket(self, bucket: str) -> None:
        make_bucket(self.endpoint, bucket)

    def client(self, prefix: str = "") -> S3Client:
        """Return a client of a new, empty bucket."""
        return S3Client(self.place(prefix))


def storage_of(place: S3Place, **more: Any) -> dict[str, Any]:
    """Return the settings of a store in a bucket."""
    server = {
        "endpoint": place.endpoint,
        "region": place.region,
        "access_key": place.access_key,
        "secret_key": place.secret_key,
    }
    return {"url": f"s3://{place.bucket}/{place.prefix}".rstrip("/"), "s3": server, **more}


def make_bucket(endpoint: str, bucket: str) -> None:
    """Make a bucket in a store that asks for no signature."""
    from urllib.request import Request, urlopen

    with urlopen(Request(f"{endpoint}/{bucket}", method="PUT")):
        pass
