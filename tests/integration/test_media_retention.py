"""Media go again: with their event, at an admin's word, by age and use, and only when unused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from homeserver.clock import Clock, now_ms
from homeserver.protocol.mxc import Mxc, parse_mxc
from homeserver.services.media.downloads import Wanted
from homeserver.services.media.parts import MediaParts, media_parts
from homeserver.services.media.uploads import Upload
from homeserver.store import media as media_store
from homeserver.store import media_due, media_files
from homeserver.store.database import Database
from homeserver.store.media_due import Page
from tests.conftest import StartServer
from tests.support.client import Client
from tests.support.media import (
    download,
    eventually,
    media_folder,
    picture,
    stored_files,
    thumbnail,
    upload,
)
from tests.support.server import RunningServer

DAY = 86_400_000


async def send_picture(client: Client, room_id: str, mxc: str, thumbnail_mxc: str = "") -> str:
    content = {"msgtype": "m.image", "body": "a.png", "url": mxc}
    if thumbnail_mxc:
        content["info"] = {"thumbnail_url": thumbnail_mxc}  # type: ignore[assignment]
    return await client.send(room_id, content)


def thumbnails(server: RunningServer) -> int:
    folder = media_folder(server) / "thumbnails"
    return len([path for path in folder.rglob("*") if path.is_file()])


async def test_a_redacted_event_takes_its_media_along(server: RunningServer) -> None:
    alice = await server.user()
    room_id = await alice.create_room()
    mxc, small = await upload(alice, picture(300, 300)), await upload(alice, picture(30, 30))
    event_id = await send_picture(alice, room_id, mxc, small)
    await thumbnail(alice, mxc)
    await eventually(lambda: thumbnails(server) == 1)
    await alice.redact(room_id, event_id)
    await eventually(lambda: stored_files(server) == [] and thumbnails(server) == 0)
    for gone in (mxc, small):
        assert (await download(alice, gone)).status == 404
    assert (await thumbnail(alice, mxc)).status == 404


async def test_media_stay_while_another_event_carries_them(server: RunningServer) -> None:
    alice = await server.user()
    room_id = await alice.create_room()
    mxc = await upload(alice, b"x" * 1000)
    first = await send_picture(alice, room_id, mxc)
    second = await send_picture(alice, room_id, mxc)
    marker = await upload(alice, b"marker")
    await alice.redact(room_id, first)
    await alice.redact(room_id, await send_picture(alice, room_id, marker))
    await eventually(lambda: len(stored_files(server)) == 1)  # the marker is gone
    assert (await download(alice, mxc)).status == 200
    await alice.redact(room_id, second)
    await eventually(lambda: stored_files(server) == [])


async def test_the_same_content_of_somebody_else_stays(server: RunningServer) -> None:
    alice, bob = await server.user(), await server.user()
    room_id = await alice.create_room()
    mine, theirs = await upload(alice, b"same" * 100), await upload(bob, b"same" * 100)
    await alice.redact(room_id, await send_picture(alice, room_id, mine))
    other = await upload(alice, b"other")
    await alice.redact(room_id, await send_picture(alice, room_id, other))
    await eventually(lambda: len(stored_files(server)) == 1)
    assert (await download(alice, mine)).status == 404
    assert (await download(bob, theirs)).status == 200


async def test_nobody_deletes_media_of_others_by_redacting_a_mention(
    server: RunningServer,
) -> None:
    alice, mallory = await server.user(), await server.user()
    room_id = await mallory.create_room()
    theirs, own = await upload(alice, b"alice's"), await upload(mallory, b"mallory's")
    for mxc in (theirs, own):
        await mallory.redact(room_id, await send_picture(mallory, room_id, mxc))
    await eventually(lambda: len(stored_files(server)) == 1)
    assert (await download(alice, theirs)).body == b"alice's"


async def test_an_avatar_stays_when_a_membership_is_redacted(server: RunningServer) -> None:
    alice = await server.user()
    avatar, other = await upload(alice, b"avatar"), await upload(alice, b"other")
    await alice.put(f"/profile/{alice.user_id}/avatar_url", {"avatar_url": avatar})
    room_id = await alice.create_room()
    event = await alice.get(f"/rooms/{room_id}/state/m.room.member/{alice.user_id}?format=event")
    await alice.redact(room_id, event["event_id"])
    await alice.redact(room_id, await send_picture(alice, room_id, other))
    await eventually(lambda: len(stored_files(server)) == 1)
    assert (await download(alice, avatar)).status == 200


async def test_the_media_of_a_room_are_known(server: RunningServer) -> None:
    alice = await server.user()
    room_id, other = await alice.create_room(), await alice.create_room()
    mxcs = [await upload(alice, bytes([i])) for i in range(3)]
    marker = await upload(alice, b"marker")
    for mxc in mxcs[:2]:
        await send_picture(alice, room_id, mxc)
    await send_picture(alice, other, mxcs[2])
    await alice.redact(other, await send_picture(alice, other, marker))
    await eventually(lambda: len(stored_files(server)) == 3)
    async with at(server, now_ms) as media:
        assert {str(mxc) for mxc in await media.retention.of_room(room_id)} == set(mxcs[:2])


async def test_redacted_media_can_be_kept(start_server: StartServer) -> None:
    server = await start_server(media={"delete_redacted": False})
    alice = await server.user()
    room_id = await alice.create_room()
    mxc = await upload(alice, b"kept")
    await alice.redact(room_id, await send_picture(alice, room_id, mxc))
    await asyncio.sleep(2.5)
    assert (await download(alice, mxc)).status == 200


# What the admin's doors and the clock do


@asynccontextmanager
async def at(server: RunningServer, now: int | Clock) -> AsyncIterator[MediaParts]:
    """The content repository of a server's data, as if it were `now`."""
    clock = now if callable(now) else lambda: now
    database = await Database.open(server.config.database, 3)
    try:
        async with media_parts(server.config, database, None, lambda: 0, clock) as parts:
            yield parts
    finally:
        await database.close()


async def mxc_of(uri: str) -> Mxc:
    mxc = parse_mxc(uri)
    assert mxc is not None
    return mxc


async def test_deleted_media_are_gone_with_bytes_and_thumbnails(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(300, 300))
    await thumbnail(alice, mxc)
    async with at(server, now_ms() + 1) as media:
        assert await media.retention.delete([await mxc_of(mxc)]) == [await mxc_of(mxc)]
        assert await media.retention.delete([await mxc_of(mxc)]) == []
    assert stored_files(server) == [] and thumbnails(server) == 0


async def test_what_is_deleted_can_be_uploaded_again(server: RunningServer) -> None:
    alice = await server.user()
    for _ in range(3):
        mxc = await upload(alice, b"again and again")
        assert (await download(alice, mxc)).body == b"again and again"
        async with at(server, now_ms() + 1) as media:
            await media.retention.delete([await mxc_of(mxc)])
        assert stored_files(server) == []


async def test_uploads_and_deletions_of_one_content_at_once(server: RunningServer) -> None:
    await server.stop()
    mxcs: list[Mxc] = []
    async with at(server, now_ms) as media:

        async def delete_all() -> None:
            for _ in range(20):
                page = await media.retention.find_all(Page(limit=3))
                await media.retention.delete(row.mxc for row in page)

        async def body() -> AsyncIterator[bytes]:
            yield b"contended"

        async def upload_some() -> None:
            for _ in range(20):
                one = Upload("@alice:hs.test", None, None, None, body())
                mxcs.append(await media.uploads.upload(one))

        await asyncio.gather(upload_some(), delete_all(), upload_some(), delete_all())
        await upload_some()
    async with at(server, now_ms) as media:
        there = {row.mxc for row in await media.retention.find_all(Page(limit=100))}
        for mxc in there:
            assert (await media.downloads.open(mxc, Wanted())).whole == b"contended"
    assert len(there) >= 20 and there <= set(mxcs)


async def test_old_and_unused_uploads_go_if_told_so(start_server: StartServer) -> None:
    server = await start_server(media={"local_unused_days": 10, "local_lifetime_days": 30})
    alice = await server.user()
    await upload(alice, b"unused")
    kept = await upload(alice, b"protected")
    async with at(server, now_ms() + 9 * DAY) as media:
        assert await media.retention.clear() == 0
        await media.retention.protect(await mxc_of(kept), True)
    async with at(server, now_ms() + 11 * DAY) as media:
        assert await media.retention.clear() == 1
    assert len(stored_files(server)) == 1


async def test_uploads_stay_by_default(server: RunningServer) -> None:
    alice = await server.user()
    await upload(alice, b"for ever")
    async with at(server, now_ms() + 10_000 * DAY) as media:
        assert await media.retention.clear() == 0


async def test_downloads_count_as_use(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"used")
    await server.stop()
    async with at(server, now_ms() + 5 * DAY) as media:
        await media.downloads.open(await mxc_of(mxc), Wanted())
    async with at(server, now_ms()) as media:
        row = await media.retention.find(await mxc_of(mxc))
        assert row is not None and row.last_used_at > now_ms() + 4 * DAY


async def test_quarantined_content_is_kept_from_everybody(server: RunningServer) -> None:
    alice, bob = await server.user(), await server.user()
    mxc = await upload(alice, picture(300, 300))
    await thumbnail(alice, mxc)
    async with at(server, now_ms()) as media:
        assert await media.retention.quarantine([await mxc_of(mxc)], "@admin:hs.test") == 1
    await server.restart()
    alice, bob = server.moved(alice), server.moved(bob)
    again = await upload(bob, picture(300, 300))
    for uri in (mxc, again):
        assert (await download(alice, uri)).status == 404
        assert (await thumbnail(alice, uri)).status == 404
    async with at(server, now_ms() + 1000 * DAY) as media:
        await media.retention.clear()
        await media.retention.quarantine([await mxc_of(mxc)], None)
    assert (await download(alice, mxc)).status == 200


async def test_protected_content_is_not_quarantined(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await mxc_of(await upload(alice, b"x"))
    async with at(server, now_ms()) as media:
        await media.retention.protect(mxc, True)
        assert await media.retention.quarantine([mxc], "@admin:hs.test") == 0
        await media.retention.protect(mxc, False)
        assert await media.retention.quarantine([mxc], "@admin:hs.test") == 1


async def test_media_are_listed_for_admins(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    uris = [await upload(alice, bytes(size)) for size in (10, 20, 30)]
    await upload(bob, b"bob's")
    async with at(server, now_ms()) as media:
        rows = await media.retention.find_all(Page(user_id="@alice:hs.test"))
        assert {str(row.mxc) for row in rows} == set(uris)
        rows = await media.retention.find_all(Page(larger_than=15))
        assert {row.size for row in rows} == {20, 30}
        rows = await media.retention.find_all(Page(limit=1, offset=3))
        assert len(rows) == 1
        assert await media.retention.find_all(Page(not_of="hs.test")) == []
        assert len(await media.retention.find_all(Page(not_of="else.test"))) == 4
        totals = await media.retention.totals(10, 0)
        assert [(t.user_id, t.count, t.bytes) for t in totals] == [
            ("@alice:hs.test", 3, 60),
            ("@bob:hs.test", 1, 5),
        ]
        rows = await media.retention.find_all(Page(user_id="@alice:hs.test"))
        deleted = await media.retention.delete(row.mxc for row in rows)
        assert {str(mxc) for mxc in deleted} == set(uris)


@pytest.mark.parametrize(("size", "left"), [(1000, 3), (250, 2), (0, 0)])
async def test_the_cache_of_remote_files_has_a_size(
    server: RunningServer, size: int, left: int
) -> None:
    database = await Database.open(server.config.database, 3)
    async with database.transaction() as connection:
        for index in range(3):
            sha256 = bytes([index]) * 32
            await media_files.claim(connection, sha256, 100, index)
            new = media_store.NewMedia(Mxc("remote.test", f"m{index}"), sha256, None, None)
            await media_store.insert(connection, new, index)
        over = await media_due.remote_over(connection, "hs.test", size, 100)
    await database.close()
    assert [mxc.media_id for mxc in over] == ["m0", "m1", "m2"][: 3 - left]
