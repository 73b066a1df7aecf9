"""What our users upload: at once, or to an id that they created before.

client-server-api#post_matrixmediav3upload
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from msgspec import Struct

from homeserver.errors import (
    CannotOverwriteMedia,
    Forbidden,
    InvalidParam,
    LimitExceeded,
    NotFound,
    TooLarge,
)
from homeserver.protocol.mxc import Mxc
from homeserver.services.media.arrivals import Arrivals
from homeserver.services.media.contents import Contents
from homeserver.services.media.ground import Ground
from homeserver.store import media, media_files
from homeserver.store.database import Connection
from homeserver.store.media import MediaRow, NewMedia

Write = Callable[[Connection, NewMedia, int], Awaitable[bool]]

MAX_FILE_NAME = 1000
MAX_CONTENT_TYPE = 255


class Upload(Struct, frozen=True):
    """What an uploader says, and the bytes. `length` is None if they didn't say.

    Without `user_id` it is the picture of a link preview, which the server itself fetched.
    """

    user_id: str | None
    content_type: str | None
    file_name: str | None
    length: int | None
    body: AsyncIterator[bytes]


class Uploads:
    """Takes media in."""

    def __init__(self, ground: Ground, contents: Contents) -> None:
        self._ground = ground
        self._contents = contents
        self.arrivals = Arrivals()

    async def create(self, user_id: str) -> tuple[Mxc, int]:
        """An id to upload to later, and until when. Raises LimitExceeded.

        client-server-api#post_matrixmediav1create
        """
        mxc = self._new_mxc()
        now = self._ground.clock()
        expires_at = now + self._ground.config.pending_upload_lifetime * 1000
        async with self._ground.database.transaction() as connection:
            await media.lock_user(connection, user_id)
            pending = await media.pending_uploads(connection, user_id, now)
            # "the server should limit the number of concurrent pending media uploads"
            if len(pending) >= self._ground.config.pending_uploads:
                raise LimitExceeded(pending[0] - now, "Too many uploads are announced and not made")
            await media.reserve(connection, mxc, user_id, now, expires_at)
        return mxc, expires_at

    async def upload(self, upload: Upload) -> Mxc:
        """Store an upload under a new id. Raises TooLarge, Forbidden, StorageFull, ..."""
        mxc = self._new_mxc()
        await self._check(upload)
        async with self._received(upload) as sha256:
            await self._record(upload, self._new_media(mxc, upload, sha256), media.insert)
        return mxc

    async def upload_to(self, mxc: Mxc, upload: Upload) -> None:
        """Store an upload under an id that its user created.

        Raises NotFound, Forbidden, CannotOverwriteMedia and what `upload` raises.
        """
        await self._check_created(mxc, upload.user_id)
        await self._check(upload)
        async with self._received(upload) as sha256:
            await self._record(upload, self._new_media(mxc, upload, sha256), media.complete)
        self.arrivals.arrived(mxc)

    async def _check_created(self, mxc: Mxc, user_id: str | None) -> None:
        row: MediaRow | None = None
        if mxc.server_name == self._ground.server_name:
            async with self._ground.database.connection() as connection:
                row = await media.find(connection, mxc)
        # "The MXC ID was not created with POST /_matrix/media/v1/create", or has expired
        if row is None or (row.expires_at is not None and row.expires_at < self._ground.clock()):
            raise NotFound("There is no such media id, or it has expired")
        if row.user_id != user_id:
            raise Forbidden("Somebody else created this media id")
        if row.sha256 is not None:
            raise CannotOverwriteMedia("This media id has its content already")

    async def _check(self, upload: Upload) -> None:
        """Refuse at once what can be refused without its bytes."""
        if upload.length is not None and upload.length > self._ground.config.max_upload_size:
            raise self._too_large()
        if upload.file_name is not None and len(upload.file_name) > MAX_FILE_NAME:
            raise InvalidParam("The file name is too long")
        async with self._ground.database.transaction() as connection:
            await self._check_quota(connection, upload.user_id, more=upload.length or 0)

    async def _check_quota(
        self,
        connection: Connection,
        user_id: str | None,
        *,
        more: int = 0,
        sha256: bytes | None = None,
    ) -> None:
        """Raises Forbidden if the user has too much with this."""
        quota = self._ground.config.user_quota
        if quota is None or user_id is None:
            return
        await media.lock_user(connection, user_id)
        if sha256 is not None:
            more = await media_files.size(connection, sha256)
        if await media.stored_bytes(connection, user_id) + more > quota:
            raise Forbidden(f"You may store {quota} bytes; delete something first")

    async def _record(self, upload: Upload, new: NewMedia, write: Write) -> None:
        """Say in the database whose content it is. Raises Forbidden, CannotOverwriteMedia."""
        async with self._ground.database.transaction() as connection:
            await self._check_quota(connection, upload.user_id, sha256=new.sha256)
            if not await write(connection, new, self._ground.clock()):
                raise CannotOverwriteMedia("This media id has got its content meanwhile")

    @asynccontextmanager
    async def _received(self, upload: Upload) -> AsyncIterator[bytes]:
        """The content's SHA-256, when all of it is in the store; safe until the block ends."""
        size = 0
        with self._ground.media_bytes.incoming() as incoming:
            async for chunk in upload.body:
                size += len(chunk)
                if size > self._ground.config.max_upload_size:
                    raise self._too_large()
                await incoming.write(chunk)
            async with self._contents.stored(incoming) as sha256:
                yield sha256

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Files may have {self._ground.config.max_upload_size} bytes at most")

    def _new_media(self, mxc: Mxc, upload: Upload, sha256: bytes) -> NewMedia:
        return NewMedia(
            mxc,
            sha256,
            upload.content_type[:MAX_CONTENT_TYPE] if upload.content_type else None,
            upload.file_name or None,
            upload.user_id,
            is_public=self._ground.config.unauthenticated_paths == "open",
            is_preview=upload.user_id is None,
        )

    def _new_mxc(self) -> Mxc:
        return Mxc(self._ground.server_name, secrets.token_urlsafe(18))
