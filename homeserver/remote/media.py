"""Media of other servers: asked for over federation, with its redirects and its old path.

server-server-api#get_matrixfederationv1mediadownloadmediaid
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from aiohttp import BodyPartReader, ClientResponse, ClientSession, MultipartReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import content_disposition_filename, parse_content_disposition

from homeserver.errors import BadGateway, MatrixError, NotFound, NotYetUploaded, TooLarge
from homeserver.protocol.mxc import Mxc
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.remote.errors import RemoteRefusal
from homeserver.remote.media_file import RemoteFile

MAX_METADATA = 65_536
CHUNK = 65_536


class RemoteMedia:
    """Fetches media from the servers where they originated; `fetch` is a FetchMedia.

    `redirected` is a guarded session for the URLs that other servers name. `seconds`: so long may
    one file take.
    """

    def __init__(self, client: FederationClient, redirected: ClientSession, seconds: float) -> None:
        self._client = client
        self._redirected = redirected
        self._seconds = seconds

    @asynccontextmanager
    async def fetch(self, mxc: Mxc, timeout_ms: int) -> AsyncIterator[RemoteFile]:
        """The file, open. Raises NotFound, NotYetUploaded, TooLarge, BadGateway, Unreachable."""
        with _clear_errors(mxc):
            async with AsyncExitStack() as stack:
                yield await self._opened(stack, mxc, timeout_ms)

    async def _opened(self, stack: AsyncExitStack, mxc: Mxc, timeout_ms: int) -> RemoteFile:
        query = [("timeout_ms", str(timeout_ms))]
        try:
            path = path_to("/_matrix/federation/v1/media/download", mxc.media_id, query=query)
            response = await self._get(stack, mxc, path, timeout_ms)
        except RemoteRefusal as refusal:
            if not _is_unknown_path(refusal):
                raise _told(refusal, mxc) from None
        else:
            return await self._by_parts(stack, response)
        # A server from before Matrix 1.11
        query.append(("allow_remote", "false"))
        path = path_to("/_matrix/media/v3/download", mxc.server_name, mxc.media_id, query=query)
        try:
            response = await self._get(stack, mxc, path, timeout_ms)
        except RemoteRefusal as refusal:
            raise _told(refusal, mxc) from None
        return _file(response.headers, response.content.iter_any())

    async def _get(
        self, stack: AsyncExitStack, mxc: Mxc, path: str, timeout_ms: int
    ) -> ClientResponse:
        terms = Terms(seconds=self._seconds + timeout_ms / 1000)
        return await stack.enter_async_context(self._client.open_get(mxc.server_name, path, terms))

    async def _by_parts(self, stack: AsyncExitStack, response: ClientResponse) -> RemoteFile:
        if response.content_type != "multipart/mixed":
            raise BadGateway("The other server sent no multipart/mixed")
        parts = MultipartReader.from_response(response)
        await _skip_metadata(await parts.next())
        part = await parts.next()
        if not isinstance(part, BodyPartReader):
            raise BadGateway("The other server sent no second part")
        if location := part.headers.get("Location"):
            return await self._redirected_to(stack, part.headers, location)
        return _file(part.headers, _chunks(part))

    async def _redirected_to(
        self, stack: AsyncExitStack, headers: Mapping[str, str], location: str
    ) -> RemoteFile:
        """What a part's Location header leads to, "where the media can be retrieved"."""
        try:
            redirected = await stack.enter_async_context(self._redirected.get(location))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # Not the fault of the server that named it: it stays reachable.
            raise BadGateway("What the other server redirected to can't be fetched") from error
        if redirected.status != 200:
            raise BadGateway("The other server redirected to where nothing is")
        return _file({**headers, **redirected.headers}, redirected.content.iter_any())


@contextmanager
def _clear_errors(mxc: Mxc) -> Iterator[None]:
    """Turns what another server's misbehaviour raises into BadGateway."""
    try:
        yield
    except (aiohttp.ClientError, HttpProcessingError, ValueError, AssertionError) as error:
        # aiohttp's multipart reader raises the latter ones on broken parts
        raise BadGateway(f"Fetching {mxc} failed") from error


def _is_unknown_path(refusal: RemoteRefusal) -> bool:
    """Does the server not know the endpoint? (M_UNRECOGNIZED, or what isn't a Matrix error)"""
    if refusal.remote_status not in {404, 405}:
        return False
    return refusal.remote_body.get("errcode") in {"M_UNRECOGNIZED", None}


def _told(refusal: RemoteRefusal, mxc: Mxc) -> MatrixError:
    """What our client is told of another server's error."""
    errcode = refusal.remote_body.get("errcode")
    if errcode == "M_NOT_YET_UPLOADED":
        return NotYetUploaded("The content has not been uploaded yet")
    if errcode == "M_TOO_LARGE":
        return TooLarge("The other server finds the content too large to serve", status=502)
    if refusal.remote_status == 404:
        return NotFound(f"{mxc.server_name} has no such media")
    return BadGateway(f"{mxc.server_name} answered with {refusal.remote_status}")


async def _skip_metadata(part: Any) -> None:
    """The first part: JSON about the media, "Currently, this will always be an empty object"."""
    if not isinstance(part, BodyPartReader):
        raise BadGateway("The other server sent no parts")
    size = 0
    while chunk := await part.read_chunk():
        size += len(chunk)
        if size > MAX_METADATA:
            raise BadGateway("The other server sent too much metadata")


async def _chunks(part: BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(CHUNK):
        yield chunk


def _file(headers: Mapping[str, str], chunks: AsyncIterator[bytes]) -> RemoteFile:
    lower = {name.lower(): value for name, value in headers.items()}
    length = lower.get("content-length", "")
    if lower.get("content-encoding", "identity") != "identity":
        length = ""
    return RemoteFile(
        content_type=lower.get("content-type"),
        file_name=_file_name(lower.get("content-disposition")),
        length=int(length) if length.isascii() and length.isdigit() else None,
        chunks=chunks,
    )


def _file_name(disposition: str | None) -> str | None:
    """The `filename` of a Content-Disposition."""
    _, parameters = parse_content_disposition(disposition)
    return content_disposition_filename(parameters)
