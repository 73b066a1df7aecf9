"""A file of another server, as it arrives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from homeserver.protocol.mxc import Mxc


class RemoteFile(Struct, frozen=True):
    """What the other server says of a file; `chunks` can be read once. `length` may be a lie."""

    content_type: str | None
    file_name: str | None
    length: int | None
    chunks: AsyncIterator[bytes]


FetchMedia = Callable[[Mxc, int], AbstractAsyncContextManager[RemoteFile]]
"""Opens a remote file; waits up to so many milliseconds for it to be uploaded there.

Raises NotFound, NotYetUploaded, TooLarge, BadGateway.
"""
