"""The bytes of media: in a local folder, or in an object store (S3, GCS, Azure) by its URL.

Rules of this file: what comes in is first written to a file of its own in `incoming/`, hashed on
the way, and gets its name in the store only when it is complete; what is in `incoming/` when the
server starts is rubbish. Names are made of hashes, never of what a client said.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from homeserver.errors import StorageFull, Unavailable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Result = TypeVar("Result")

LOCAL = "local"
LOCAL_SLICE = 256 * 1024
REMOTE_SLICE = 2 * 1024 * 1024
FLUSH_BYTES = 256 * 1024
_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Incoming:
    """A file that is being written: `size` bytes of it are on disk and can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()
        self._unwritten = bytearray()
        self._file = path.open("xb+", buffering=0)

    async def write(self, chunk: bytes) -> None:
        """Add to the file. Raises StorageFull."""
        self._unwritten += chunk
        if len(self._unwritten) >= FLUSH_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Bring everything to the file."""
        data, self._unwritten = self._unwritten, bytearray()
        with _clear_errors():
            await _in_thread(self._append, data)
        self.size += len(data)

    def _append(self, data: bytearray) -> None:
        self._hash.update(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    async def finish(self) -> bytes:
        """Make sure that it is on disk; its SHA-256. Raises StorageFull."""
        await self.flush()
        with _clear_errors():
            await _in_thread(os.fsync, self._file.fileno())
        return self._hash.digest()

    async def read(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start` on, of what is on disk."""
        return await _in_thread(os.pread, self._file.fileno(), length, start)

    def close(self) -> None:
        """End it; what was not moved into the store is gone."""
        self._file.close()
        self.path.unlink(missing_ok=True)


class MediaBytes:
    """The store. `directory` holds the incoming files, and all others if `url` is `local`."""

    def __init__(self, directory: Path, url: str, options: Mapping[str, str]) -> None:
        self._directory = directory
        self._url = url
        self._options = dict(options)
        self._opened: ObjectStore | None = None
        self.slice = LOCAL_SLICE if url == LOCAL else REMOTE_SLICE

    def prepare(self) -> None:
        """Make the directories and sweep what a crash left in `incoming/`."""
        incoming = self._directory / "incoming"
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        incoming.mkdir(exist_ok=True)
        for left in incoming.iterdir():
            left.unlink(missing_ok=True)

    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> ObjectStore:
        from obstore import store  # only once media are used

        if self._url == LOCAL:
            return store.LocalStore(self._directory)
        options: Any = self._options
        insecure = self._options.get("endpoint", "").startswith("http://")
        return store.from_url(
            self._url,
            config=options,
            client_options={"allow_http": insecure, "timeout": timedelta(seconds=60)},
            retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        )

    @contextmanager
    def incoming(self) -> Iterator[Incoming]:
        """A new file to write to; it is gone at the end of the block unless it was kept."""
        with _clear_errors():
            incoming = Incoming(self._directory / "incoming" / secrets.token_hex(16))
        try:
            yield incoming
        finally:
            incoming.close()

    async def keep(self, incoming: Incoming, sha256: bytes) -> None:
        """Move a finished file into the store. Raises StorageFull or Unavailable."""
        store = self._store()
        with _clear_errors():
            name = content_name(sha256)
            if self._url == LOCAL:
                await store.rename_async(f"incoming/{incoming.path.name}", name)
                await _in_thread(_sync_folders, self._directory, name)
            else:
                await store.put_async(name, incoming.path)

    async def put(self, name: str, data: bytes) -> None:
        """Store something small at once. Raises StorageFull or Unavailable."""
        with _clear_errors():
            await self._store().put_async(name, data)

    async def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`. Raises Unavailable, FileNotFoundError."""
        if start >= end:
            return b""
        with _clear_errors(may_be_missing=True):
            return bytes(await self._store().get_range_async(name, start=start, end=end))

    async def slices(self, name: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The same, a slice at a time."""
        while start < end:
            until = min(start + self.slice, end)
            yield await self.read(name, start, until)
            start = until

    async def delete(self, names: list[str]) -> None:
        """Delete what is there of `names`. Raises Unavailable."""
        store = self._store()
        for name in names:
            with suppress(FileNotFoundError), _clear_errors(may_be_missing=True):
                await store.delete_async(name)

    @asynccontextmanager
    async def as_file(self, name: str, size: int) -> AsyncIterator[Path]:
        """A path where a thread can read the content."""
        if self._url == LOCAL:
            yield self._directory / name
            return
        with tempfile.NamedTemporaryFile(dir=self._directory / "incoming") as copy:
            async for piece in self.slices(name, 0, size):
                with _clear_errors():
                    await _in_thread(copy.write, piece)
            copy.flush()
            yield Path(copy.name)


def content_name(sha256: bytes) -> str:
    """Where a content is in the store."""
    text = sha256.hex()
    return f"files/{text[:2]}/{text[2:4]}/{text}"


def thumbnail_name(sha256: bytes, box: str) -> str:
    """Where a thumbnail of a content is in the store."""
    text = sha256.hex()
    return f"thumbnails/{text[:2]}/{text[2:4]}/{text}-{box}"


def _sync_folders(root: Path, name: str) -> None:
    """Bring the new name to the disk, with the folders that were made for it."""
    for folder in list((root / name).parents)[:3]:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


async def _in_thread(function: Callable[..., Result], *args: Any) -> Result:
    """Runs it in a thread. Even a cancelled caller waits for its end: nobody closes the file
    under it, whose number could be another file's by then."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise


@contextmanager
def _clear_errors(*, may_be_missing: bool = False) -> Iterator[None]:
    """Turns the failures of disks and object stores into what callers understand."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (OSError, BaseError) as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            raise
        text = str(error)
        if getattr(error, "errno", None) in _NO_SPACE or "No space left" in text:
            raise StorageFull("The server has no space left for media") from error
        raise Unavailable("The server's media store can't be reached; try again later") from error
