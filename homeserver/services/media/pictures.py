"""Pictures of link previews, which the server itself fetched: kept as media."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from msgspec import Struct

from homeserver.errors import MatrixError
from homeserver.services.media.ground import Ground
from homeserver.services.media.images import CannotThumbnail, TooManyPixels, measure
from homeserver.services.media.uploads import Upload, Uploads


class KeptPicture(Struct, frozen=True):
    uri: str
    content_type: str
    width: int
    height: int
    size: int


class Pictures:
    """Keeps pictures."""

    def __init__(self, ground: Ground, uploads: Uploads) -> None:
        self._ground = ground
        self._uploads = uploads

    async def keep(self, data: bytes) -> KeptPicture | None:
        """Store `data` if it really is a picture. Raises Unavailable."""
        limit = self._ground.config.max_image_pixels
        try:
            measured = await asyncio.to_thread(measure, data, limit)
        except (CannotThumbnail, TooManyPixels):
            return None
        try:
            mxc = await self._uploads.upload(
                Upload(None, measured.content_type, None, len(data), _once(data))
            )
        except MatrixError:
            return None  # too large, the disk is full: a preview without a picture
        return KeptPicture(
            str(mxc), measured.content_type, measured.width, measured.height, len(data)
        )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
