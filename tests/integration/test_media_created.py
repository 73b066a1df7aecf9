"""Media ids that are created first and uploaded to later; the old, open paths."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from homeserver.clock import now_ms
from tests.conftest import StartServer
from tests.integration.test_media_retention import at
from tests.support.client import Client, Refused
from tests.support.media import download, picture, send, thumbnail, upload
from tests.support.server import RunningServer


async def create(client: Client) -> str:
    answer = await client.post("/_matrix/media/v1/create")
    assert now_ms() < answer["unused_expires_at"] <= now_ms() + 86_400_000
    return str(answer["content_uri"])


async def upload_to(client: Client, mxc: str, data: bytes, content_type: str = "a/b") -> None:
    path = "/_matrix/media/v3/upload/" + mxc.removeprefix("mxc://")
    assert await send(client, "PUT", path, data, content_type, "n.png") == {}


async def test_a_created_id_gets_its_content_later(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await create(alice)
    early = asyncio.create_task(download(alice, mxc))
    small = asyncio.create_task(thumbnail(alice, mxc))
    await asyncio.sleep(0.2)
    assert not early.done()
    data = picture(100, 100)
    await upload_to(alice, mxc, data, "image/png")
    answer = await early
    assert (answer.body, answer.headers["Content-Type"], answer.file_name) == (
        data,
        "image/png",
        "n.png",
    )
    assert (await small).image().size == (32, 32)


async def test_waiting_for_an_upload_ends(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await create(alice)
    answer = await download(alice, mxc, timeout_ms=100)
    assert (answer.status, answer.errcode) == (504, "M_NOT_YET_UPLOADED")


async def test_an_id_takes_one_content_only(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await create(alice)
    await upload_to(alice, mxc, b"first")
    with pytest.raises(Refused) as refused:
        await upload_to(alice, mxc, b"second")
    assert (refused.value.status, refused.value.errcode) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    with pytest.raises(Refused) as refused:
        await upload_to(alice, await upload(alice, b"x"), b"y")
    assert refused.value.errcode == "M_CANNOT_OVERWRITE_MEDIA"


async def test_of_uploads_at_once_one_wins(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await create(alice)
    results = await asyncio.gather(
        *(upload_to(alice, mxc, bytes([i]) * 5000) for i in range(5)), return_exceptions=True
    )
    assert sum(result is None for result in results) == 1
    body = (await download(alice, mxc)).body
    assert body in {bytes([i]) * 5000 for i in range(5)}


async def test_an_id_is_its_creators(server: RunningServer) -> None:
    alice, bob = await server.user(), await server.user()
    with pytest.raises(Refused) as refused:
        await upload_to(bob, await create(alice), b"x")
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")


@pytest.mark.parametrize("mxc", ["mxc://hs.test/unknown", "mxc://else.test/abc", "mxc://a/b.c"])
async def test_ids_that_were_not_created(server: RunningServer, mxc: str) -> None:
    alice = await server.user()
    with pytest.raises(Refused) as refused:
        await upload_to(alice, mxc, b"x")
    assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND")


async def test_created_ids_expire(start_server: StartServer) -> None:
    server = await start_server(media={"pending_upload_lifetime": 1})
    alice = await server.user()
    mxc = str((await alice.post("/_matrix/media/v1/create"))["content_uri"])
    await asyncio.sleep(1.1)
    with pytest.raises(Refused) as refused:
        await upload_to(alice, mxc, b"late")
    assert refused.value.errcode == "M_NOT_FOUND"
    assert (await download(alice, mxc)).errcode == "M_NOT_FOUND"
    async with at(server, now_ms()) as media:
        assert await media.retention.clear() == 1


async def test_a_user_has_few_pending_ids(start_server: StartServer) -> None:
    server = await start_server(media={"pending_uploads": 2})
    alice = await server.user()
    mxcs = [await create(alice) for _ in range(2)]
    with pytest.raises(Refused) as refused:
        await create(alice)
    assert (refused.value.status, refused.value.errcode) == (429, "M_LIMIT_EXCEEDED")
    assert refused.value.body["retry_after_ms"] > 0
    await create(await server.user())
    await upload_to(alice, mxcs[0], b"x")
    await create(alice)


async def test_the_old_paths_can_be_open(start_server: StartServer) -> None:
    server = await start_server(media={"unauthenticated_paths": "open"})
    alice = await server.user()
    mxc = await upload(alice, picture(100, 100))
    nobody = server.anonymous()
    assert (await download(nobody, mxc, old=True)).status == 200
    assert (await thumbnail(nobody, mxc, old=True)).image().size == (32, 32)
    assert (await download(nobody, mxc)).status == 401


async def test_servers_from_before_may_sign_what_they_ask_for(start_server: StartServer) -> None:
    server = await start_server(media={"unauthenticated_paths": "open"})
    mxc = await upload(await server.user(), b"a file")
    signed = {"Authorization": 'X-Matrix origin="a.test",key="ed25519:1",sig="c2ln"'}
    assert (await download(server.anonymous(), mxc, old=True, headers=signed)).status == 200


async def test_who_logs_in_may_use_the_old_paths(server: RunningServer) -> None:
    alice, nobody = await server.user(), server.anonymous()
    mxc = await upload(alice, picture(100, 100))
    assert (await download(alice, mxc, old=True)).status == 200
    assert (await thumbnail(alice, mxc, old=True)).image().size == (32, 32)
    assert (await download(nobody, mxc, old=True)).status == 404


async def test_the_old_paths_can_be_frozen(start_server: StartServer) -> None:
    server = await start_server(media={"unauthenticated_paths": "open"})
    alice = await server.user()
    before = await upload(alice, picture(100, 100))
    frozen = msgspec.structs.replace(server.config.media, unauthenticated_paths="frozen")
    server.config = msgspec.structs.replace(server.config, media=frozen)
    await server.restart()
    alice, nobody = server.moved(alice), server.anonymous()
    after = await upload(alice, picture(101, 101))
    for _ in range(2):  # from the store, then from memory
        assert (await download(alice, after)).status == 200
        assert (await thumbnail(alice, after)).status == 200
        assert (await download(nobody, before, old=True)).status == 200
        assert (await thumbnail(nobody, before, old=True)).status == 200
        assert (await download(nobody, after, old=True)).status == 404
        assert (await thumbnail(nobody, after, old=True)).status == 404


async def test_some_media_can_be_open_to_everybody(start_server: StartServer) -> None:
    server = await start_server(media={"unauthenticated_paths": "open"})
    alice = await server.user()
    icon, other = await upload(alice, picture(100, 100)), await upload(alice, b"other")
    closed = msgspec.structs.replace(
        server.config.media, unauthenticated_paths="closed", public=(icon,)
    )
    server.config = msgspec.structs.replace(server.config, media=closed)
    await server.restart()
    nobody = server.anonymous()
    for _ in range(2):
        assert (await download(nobody, icon, old=True)).status == 200
        assert (await thumbnail(nobody, icon, old=True)).status == 200
        assert (await download(nobody, other, old=True)).status == 404
