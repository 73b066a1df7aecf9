"""A piece of media as the doors serve it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from homeserver.store.media_bytes import MediaBytes

DEFAULT_TYPE = "application/octet-stream"


class Source(Protocol):
    """Where the bytes come from."""

    def slices(self, start: int, end: int | None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end` (None: to the end, which nobody knows yet)."""


class Stored(Struct, frozen=True):
    """Bytes in the store."""

    media_bytes: MediaBytes
    name: str

    def slices(self, start: int, end: int | None) -> AsyncIterator[bytes]:
        assert end is not None, "the size of what is stored is known"
        return self.media_bytes.slices(self.name, start, end)


class Content(Struct, frozen=True):
    """What is served. `size` is None while a remote file of unknown length is being fetched.

    `etag` names the bytes; `whole` is all of them, if they are few; `sha256` is that of the media
    (also for its thumbnails), None while it is being fetched.
    """

    content_type: str
    file_name: str | None
    size: int | None
    source: Source
    etag: str | None = None
    sha256: bytes | None = None
    whole: bytes | None = None
    is_public: bool = False
