"""Media in an object store: moto's server speaks the S3 protocol."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

from homeserver.clock import now_ms
from tests.conftest import StartServer
from tests.integration.test_media_retention import at, mxc_of
from tests.support.client import DEADLINE, Refused
from tests.support.media import download, media_folder, picture, stored_files, thumbnail, upload
from tests.support.ports import free_port
from tests.support.server import RunningServer


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    """The port of an S3 server."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
async def bucket(s3_port: int) -> AsyncIterator[str]:
    """The URL of an empty bucket."""
    url = f"http://127.0.0.1:{s3_port}/media{now_ms()}"
    async with aiohttp.ClientSession() as http, asyncio.timeout(DEADLINE * 2):
        while True:  # until it has started
            try:
                async with http.put(url) as response:
                    assert response.status == 200
                    break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.1)
    yield url


async def keys(bucket: str) -> list[str]:
    """The names of all objects in the bucket."""
    async with aiohttp.ClientSession() as http, http.get(bucket) as response:
        text = await response.text()
    return [part.partition("</Key>")[0] for part in text.split("<Key>")[1:]]


def media_in(bucket: str, **more: Any) -> dict[str, Any]:
    """The config of a server that stores there."""
    endpoint, _, name = bucket.rpartition("/")
    options = {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "a",
        "secret_access_key": "b",
        "virtual_hosted_style_request": "false",
    }
    return {"store": f"s3://{name}/hs", "store_options": options, **more}


async def test_files_are_stored_and_served(start_server: StartServer, bucket: str) -> None:
    server = await start_server(media=media_in(bucket))
    alice = await server.user()
    for size in (0, 1000, 300_000, 12_000_000):  # the last one in several parts
        data = os.urandom(size)
        mxc = await upload(alice, data, "video/mp4")
        assert (await download(alice, mxc)).body == data
        await server.restart()
        alice = server.moved(alice)
        assert (await download(alice, mxc)).body == data
        if size > 1000:
            part = await download(alice, mxc, headers={"Range": "bytes=1000-250000"})
            assert (part.status, part.body) == (206, data[1000:250_001])
    assert all(key.startswith("hs/files/") for key in await keys(bucket))
    assert stored_files(server) == [] and incoming(server) == []


def incoming(server: RunningServer) -> list[str]:
    return [path.name for path in (media_folder(server) / "incoming").iterdir()]


async def test_the_same_content_is_stored_once_there(
    start_server: StartServer, bucket: str
) -> None:
    server = await start_server(media=media_in(bucket))
    alice = await server.user()
    await asyncio.gather(*(upload(alice, b"same" * 1000) for _ in range(5)))
    assert len(await keys(bucket)) == 1


async def test_thumbnails_and_deletion(start_server: StartServer, bucket: str) -> None:
    server = await start_server(media=media_in(bucket))
    alice = await server.user()
    mxc = await upload(alice, picture(500, 500))
    for _ in range(2):
        assert (await thumbnail(alice, mxc, 96, 96)).image().size == (96, 96)
    assert len(await keys(bucket)) == 2
    assert incoming(server) == []
    async with at(server, now_ms() + 1) as media:
        await media.retention.delete([await mxc_of(mxc)])
    assert await keys(bucket) == []


async def test_a_store_that_is_away_is_told_and_survived(
    start_server: StartServer, bucket: str
) -> None:
    nowhere = bucket.rpartition("/")[0] + "/no-such-bucket"
    server = await start_server(media=media_in(nowhere))
    alice = await server.user()
    with pytest.raises(Refused) as refused:
        await upload(alice, b"x" * 1000)
    assert refused.value.status == 503
    assert incoming(server) == []
    assert await alice.get("/account/whoami")
