"""Media for tests: uploads, downloads with their headers, pictures."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import content_disposition_filename, parse_content_disposition
from PIL import Image

from homeserver.json_types import JsonObject
from tests.support.client import DEADLINE, Client, Refused
from tests.support.server import RunningServer

AUTHED = "/_matrix/client/v1/media"
OLD = "/_matrix/media/v3"


@dataclass(frozen=True, slots=True)
class Answer:
    """A served file, or an error."""

    status: int
    headers: Any
    body: bytes

    @property
    def errcode(self) -> str:
        return str(msgspec.json.decode(self.body)["errcode"])

    @property
    def file_name(self) -> str | None:
        """The name in Content-Disposition, decoded."""
        _, parameters = parse_content_disposition(self.headers["Content-Disposition"])
        return content_disposition_filename(parameters) or None

    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.body))


async def upload(
    client: Client,
    data: bytes | AsyncIterable[bytes],
    content_type: str = "application/octet-stream",
    file_name: str | None = None,
) -> str:
    """The content URI. Raises Refused."""
    answer = await send(client, "POST", f"{OLD}/upload", data, content_type, file_name)
    return str(answer["content_uri"])


async def send(
    client: Client,
    method: str,
    path: str,
    data: bytes | AsyncIterable[bytes],
    content_type: str = "application/octet-stream",
    file_name: str | None = None,
) -> JsonObject:
    """Uploads to a path; the decoded answer. Raises Refused."""
    headers = {"Content-Type": content_type}
    if client.token:
        headers["Authorization"] = f"Bearer {client.token}"
    query = {} if file_name is None else {"filename": file_name}
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with (
        asyncio.timeout(DEADLINE),
        client.http.request(
            method, client.url + path, data=body, headers=headers, params=query
        ) as response,
    ):
        answer: JsonObject = await response.json(content_type=None)
        if response.status >= 400:
            raise Refused(response.status, answer, response.headers)
        return answer


async def get(
    client: Client,
    path: str,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> Answer:
    """Whatever the server serves there."""
    from yarl import URL

    headers = dict(headers or {})
    if client.token:
        headers["Authorization"] = f"Bearer {client.token}"
    url = URL(client.url + path, encoded=True).update_query(query or {})
    async with (
        asyncio.timeout(DEADLINE),
        client.http.request(method, url, headers=headers) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def download(
    client: Client,
    mxc: str,
    *,
    old: bool = False,
    file_name: str | None = None,
    timeout_ms: int = 5000,
    headers: dict[str, str] | None = None,
    method: str = "GET",
) -> Answer:
    path = f"{OLD if old else AUTHED}/download/{mxc.removeprefix('mxc://')}"
    if file_name is not None:
        path += f"/{quote(file_name, safe='')}"
    return await get(client, path, {"timeout_ms": str(timeout_ms)}, headers, method)


async def thumbnail(
    client: Client,
    mxc: str,
    width: int = 32,
    height: int = 32,
    method: str = "crop",
    *,
    old: bool = False,
    query: dict[str, str] | None = None,
) -> Answer:
    path = f"{OLD if old else AUTHED}/thumbnail/{mxc.removeprefix('mxc://')}"
    size = {"width": str(width), "height": str(height), "method": method}
    return await get(client, path, {**size, **(query or {})})


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait until it holds; fails after DEADLINE seconds."""
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110  (the file system tells nobody)
            await asyncio.sleep(0.01)


def media_folder(server: RunningServer) -> Path:
    return server.config.data_dir / "media"


def stored_files(server: RunningServer) -> list[Path]:
    """The contents in a local store, without thumbnails."""
    return [p for p in (media_folder(server) / "files").rglob("*") if p.is_file()]


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB", **options: Any) -> bytes:
    """A picture: red on the left, blue on the right."""
    image = Image.new(mode, (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def animation(width: int, height: int, kind: str = "GIF", frames: int = 3) -> bytes:
    """A moving picture: red, green, blue, ..."""
    colors = ["red", "green", "blue", "white", "black"]
    images = [Image.new("RGB", (width, height), colors[i % 5]) for i in range(frames)]
    out = io.BytesIO()
    images[0].save(out, kind, save_all=True, append_images=images[1:], duration=50)
    return out.getvalue()
