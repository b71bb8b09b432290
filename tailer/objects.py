"""Objects in a folder or an S3-compatible store: written as a whole, read in ranges. Nothing else knows obstore.

obstore's calls block the thread that makes them and let others run. Under gevent, where threads are greenlets of one
thread, gevent's pool of native threads makes them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from tailer.errors import ArchiveUnavailable, SettingsError, TailerError

if TYPE_CHECKING:
    import obstore

T = TypeVar("T")

AWAY_S = 5.0
"""How long nothing is asked of a store that did not answer. Behind that one caller tries, while all others go on."""
QUICK_S = 1.0
"""An error that comes within that is this call's alone, and holds up nobody."""
CONNECT_S = 3.0
PART = 8 << 20
"""Bytes of a part of a large upload, and how much of it is in memory."""


class ObjectChanged(TailerError):
    """The object is not the one that was opened (any more)."""


class Opened(NamedTuple):
    """The last ``data`` of an object, which begin at byte ``start``; ``version`` names exactly this content."""

    data: bytes
    start: int
    version: str | None


class Objects:
    """Those below ``url``, ``file:///FOLDER`` or ``s3://BUCKET/PREFIX``. Thread-safe; connects when it is first used.

    ``patience`` is how many seconds one request may take. All methods raise ``ArchiveUnavailable`` when the store
    cannot be reached or refuses.
    """

    def __init__(self, url: str, *, patience: float = 10.0) -> None:
        try:
            import obstore  # noqa: PLC0415 (optional, and only for those who have an archive)
        except ImportError:
            raise SettingsError("TAILER_ARCHIVE", url, "it needs obstore: pip install 'rq-tailer[archive]'") from None
        self._obstore = obstore
        self._url = url
        parts = urlsplit(url)
        self.folder = Path(unquote(parts.path)) if parts.scheme == "file" else None
        """The folder they are in, if it is one."""
        self._patience = patience
        self._lock = threading.Lock()
        self._store: obstore.store.ObjectStore | None = None
        self._pid: int | None = None
        self._away: tuple[float, str] = (0.0, "")

    def put(self, name: str, file: Path) -> None:
        """Write an object as a whole: whoever reads it meanwhile sees the one before, or none."""
        self._ask(lambda store: self._obstore.put(store, name, file, chunk_size=PART, max_concurrency=2))
        if self.folder:
            _sync(self.folder / name)

    def open(self, name: str, size: int) -> Opened | None:
        """Return the last ``size`` bytes of an object, or all of a smaller one; ``None`` if there is none."""

        def get(store: obstore.store.ObjectStore) -> Opened:
            found = self._obstore.get(store, name, options={"range": {"suffix": size}})
            return Opened(bytes(found.bytes()), found.range[0], found.meta["e_tag"])

        try:
            return self._ask(get)
        except FileNotFoundError:
            self.names(name.rpartition("/")[0])  # raises if it is the bucket that is missing
            return None

    def read(self, name: str, start: int, end: int, version: str | None) -> bytes:
        """Return a range of an object. Raises ``ObjectChanged`` if it is another version now, or gone."""
        options: obstore.GetOptions = {"range": (start, end)}
        if version:
            options["if_match"] = version
        try:
            return self._ask(lambda store: bytes(self._obstore.get(store, name, options=options).bytes()))
        except (FileNotFoundError, self._obstore.exceptions.PreconditionError):
            raise ObjectChanged(f"{name} is not in the archive as it was") from None

    def names(self, folder: str) -> list[str]:
        """Return the names of all objects in a folder."""
        try:
            return self._ask(
                lambda store: [told["path"] for page in self._obstore.list(store, folder) for told in page]
            )
        except FileNotFoundError as error:
            raise ArchiveUnavailable(_line(error)) from None

    def delete(self, names: list[str]) -> None:
        """Remove objects; one that is not there is no error."""
        if not names:
            return
        try:
            self._ask(lambda store: self._obstore.delete(store, names))
        except FileNotFoundError:
            return

    def _ask(self, call: Callable[[obstore.store.ObjectStore], T]) -> T:
        """Make a call; what goes wrong is ``ArchiveUnavailable``; if that took long, for all who ask within ``AWAY_S``.

        Raises ``FileNotFoundError`` and obstore's ``PreconditionError``, which are answers.
        """
        store = self._opened()
        until, why = self._away
        if time.monotonic() < until:
            raise ArchiveUnavailable(why)
        if until:
            # A call may hold its thread for the whole timeout: not more than one of them.
            self._away = time.monotonic() + 3 * self._patience, why
        began = time.monotonic()
        try:
            found = _natively(lambda: call(store))
        except (FileNotFoundError, self._obstore.exceptions.PreconditionError):
            self._away = 0.0, ""
            raise
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            why, now = _line(error), time.monotonic()
            self._away = (now + AWAY_S, why) if now - began > QUICK_S else (0.0, "")
            raise ArchiveUnavailable(why) from None
        self._away = 0.0, ""
        return found

    def _opened(self) -> obstore.store.ObjectStore:
        with self._lock:
            if self.folder and not self.folder.is_dir():
                # It may be that of a mount. A folder made in its place would be taken for an archive without logs.
                raise ArchiveUnavailable(f"there is no folder {self.folder}")
            if self._store is None:
                self._store, self._pid = self._connect(), os.getpid()
            if self._pid != os.getpid():
                # obstore's threads stay behind at a fork, and a call would wait for them for ever.
                raise ArchiveUnavailable("this process was forked from one that had used the archive")
            return self._store

    def _connect(self) -> obstore.store.ObjectStore:
        if self.folder:
            return self._obstore.store.LocalStore(self.folder)
        retries: Any = {"max_retries": 2, "retry_timeout": timedelta(seconds=self._patience)}
        return self._obstore.store.S3Store.from_url(
            self._url,
            client_options={
                # Only where the endpoint's URL says http://, which is for its owner to decide.
                "allow_http": True,
                "connect_timeout": f"{CONNECT_S}s",
                "timeout": f"{self._patience}s",
            },
            retry_config=retries,
        )


def _line(error: Exception) -> str:
    """Return what happened in one line; obstore tells it in many."""
    return str(error).partition("\n")[0][:300] or type(error).__name__


def _natively(call: Callable[[], T]) -> T:
    monkey = sys.modules.get("gevent.monkey")
    if monkey and monkey.is_module_patched("threading"):
        found: T = sys.modules["gevent"].get_hub().threadpool.apply(call)
        return found
    return call()


def _sync(file: Path) -> None:
    """See to it that a file outlives a loss of power, with its name."""
    for path in (file, file.parent):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
