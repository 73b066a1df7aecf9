"""Uploads and downloads: what goes in comes out, unaltered, to those who may have it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import resource
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.client import Client, Refused
from tests.support.media import download, eventually, media_folder, stored_files, thumbnail, upload
from tests.support.server import RunningServer


async def test_an_upload_can_be_downloaded_as_it_was(server: RunningServer) -> None:
    alice = await server.user()
    data = os.urandom(300_000)
    mxc = await upload(alice, data, "image/png", "cat.png")
    answer = await download(await server.user(), mxc)
    assert (answer.status, answer.body) == (200, data)
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"] == "inline; filename=cat.png"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["Content-Length"] == "300000"


SIZES = [0, 1, 65_536, 262_144, 262_145, 3_000_000]


async def test_every_size_comes_out_as_it_went_in(server: RunningServer) -> None:
    alice = await server.user()
    for size in SIZES:
        data = os.urandom(size)
        mxc = await upload(alice, data)
        for _ in range(2):  # from the store, then from memory
            answer = await download(alice, mxc)
            assert answer.body == data


async def test_downloads_need_a_token_and_uploads_an_account(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"secret")
    nobody = server.anonymous()
    assert (await download(nobody, mxc)).status == 401
    assert (await thumbnail(nobody, mxc)).status == 401
    with pytest.raises(Refused) as refused:
        await upload(nobody, b"x")
    assert refused.value.status == 401
    assert (await download(nobody, mxc, old=True)).status == 404


async def test_the_same_content_is_stored_once(server: RunningServer) -> None:
    alice, bob = await server.user(), await server.user()
    first = await upload(alice, b"the same" * 1000, "text/plain")
    second = await upload(bob, b"the same" * 1000, "text/csv", "b.csv")
    assert first != second
    assert len(stored_files(server)) == 1
    assert (await download(alice, second)).headers["Content-Type"] == "text/csv; charset=utf-8"


TYPES = [
    ("text/html", "text/html; charset=utf-8", "attachment"),
    ("image/svg+xml", "image/svg+xml", "attachment"),
    ("application/javascript", "application/javascript", "attachment"),
    ("application/pdf", "application/pdf", "attachment"),
    ("Image/PNG", "Image/PNG", "inline"),
    ("text/plain; charset=koi8-r", "text/plain; charset=koi8-r", "inline"),
    ("image/png, text/html", "application/octet-stream", "attachment"),
    ("nonsense", "application/octet-stream", "attachment"),
    ("text/html;x=image/png", "text/html; charset=utf-8", "attachment"),
]


async def test_only_harmless_types_are_shown_inline(server: RunningServer) -> None:
    alice = await server.user()
    for said, served, how in TYPES:
        mxc = await upload(alice, b"<script>alert(1)</script>", said)
        answer = await download(alice, mxc)
        assert answer.headers["Content-Disposition"] == how
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Type"] == served


NAMES = [
    "../../../etc/passwd",
    "..\\..\\boot.ini",
    'quote".html',
    "new\r\nSet-Cookie: a=b",
    "naïve – 猫.png",
    "%2e%2e%2f",
    "/absolute",
    "tab\there;semi",
]


async def test_file_names_are_only_labels(server: RunningServer) -> None:
    alice = await server.user()
    for name in NAMES:
        mxc = await upload(alice, b"x", "image/png", name)
        answer = await download(alice, mxc)
        assert answer.file_name == name
        assert "Set-Cookie" not in answer.headers
        assert all(len(path.name) == 64 for path in stored_files(server))


async def test_the_path_can_override_the_file_name(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"x", "image/png", "mine.png")
    assert (await download(alice, mxc, file_name="yours.png")).file_name == "yours.png"
    assert (await download(alice, await upload(alice, b"x"))).file_name is None


RANGES = [
    ("bytes=0-0", 206, slice(0, 1)),
    ("bytes=10-19", 206, slice(10, 20)),
    ("bytes=990-", 206, slice(990, None)),
    ("bytes=-5", 206, slice(-5, None)),
    ("bytes=-5000", 206, slice(0, None)),
    ("bytes=990-5000", 206, slice(990, None)),
    ("bytes=1-2,4-5", 200, slice(0, None)),
    ("bytes=5-1", 200, slice(0, None)),
    ("lines=1-2", 200, slice(0, None)),
    ("bytes=-", 200, slice(0, None)),
]


async def test_a_range_can_be_asked_for(server: RunningServer) -> None:
    alice = await server.user()
    for asked, status, part in RANGES:
        data = os.urandom(1000)
        mxc = await upload(alice, data)
        answer = await download(alice, mxc, headers={"Range": asked})
        assert (answer.status, answer.body) == (status, data[part])
        if status == 206:
            start, end, _ = part.indices(1000)
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/1000"


async def test_a_range_of_a_large_file(server: RunningServer) -> None:
    alice = await server.user()
    data = os.urandom(2_000_000)
    mxc = await upload(alice, data)
    answer = await download(alice, mxc, headers={"Range": "bytes=500000-1499999"})
    assert answer.body == data[500_000:1_500_000]


async def test_a_range_outside_the_file_is_refused(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"x" * 1000)
    for asked in ("bytes=1000-", "bytes=-0", "bytes=5000-6000"):
        answer = await download(alice, mxc, headers={"Range": asked})
        assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */1000")


async def test_a_client_that_has_it_already_is_told_so(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"x" * 1000)
    first = await download(alice, mxc)
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"].startswith("private, max-age=")
    again = await download(alice, mxc, headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    other = {"Range": "bytes=0-9", "If-Range": '"another"'}
    assert (await download(alice, mxc, headers=other)).status == 200
    same = {"Range": "bytes=0-9", "If-Range": etag}
    assert (await download(alice, mxc, headers=same)).status == 206


@pytest.mark.parametrize("size", [1000, 1_000_000])
async def test_head_tells_the_size(server: RunningServer, size: int) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"x" * size)
    answer = await download(alice, mxc, method="HEAD")
    assert (answer.status, answer.headers["Content-Length"], answer.body) == (200, str(size), b"")


NO_MEDIA = [
    "hs.test/..%2F..%2Fetc%2Fpasswd",
    "hs.test/%2e%2e",
    "hs.test/a.b",
    "hs.test/" + "a" * 300,
    "..%2F..%2F/abc",
    "hs.test:99999999/abc",
    "[::1/abc",
]


async def test_names_that_are_no_media_are_refused(server: RunningServer) -> None:
    alice = await server.user()
    for path in NO_MEDIA:
        answer = await download(alice, f"mxc://{path}")
        assert answer.status == 400
        assert answer.errcode == "M_INVALID_PARAM"


async def test_unknown_media_are_not_found(server: RunningServer) -> None:
    alice = await server.user()
    answer = await download(alice, "mxc://hs.test/doesnotexist")
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")
    answer = await thumbnail(alice, "mxc://hs.test/doesnotexist")
    assert (answer.status, answer.errcode) == (404, "M_NOT_FOUND")


async def test_a_file_over_the_limit_is_refused(start_server: StartServer) -> None:
    server = await start_server(media={"max_upload_size": 1000})
    alice = await server.user()
    for path in ("/_matrix/client/v1/media/config", "/_matrix/media/v3/config"):
        assert await alice.get(path) == {"m.upload.size": 1000}
    await upload(alice, b"x" * 1000)

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100

    for body in (b"x" * 1001, endless()):
        with pytest.raises(Refused) as refused:
            await upload(alice, body)
        assert (refused.value.status, refused.value.errcode) == (413, "M_TOO_LARGE")
    assert len(stored_files(server)) == 1
    assert not list((media_folder(server) / "incoming").iterdir())


async def test_a_disconnect_in_the_middle_leaves_nothing(server: RunningServer) -> None:
    alice = await server.user()
    _, writer = await raw_request(
        server,
        "POST /_matrix/media/v3/upload HTTP/1.1\nHost: x\nContent-Length: 1000000\n"
        f"Authorization: Bearer {alice.token}\n\n" + "x" * 600_000,
    )
    await writer.drain()
    incoming = media_folder(server) / "incoming"
    await eventually(lambda: list(incoming.iterdir()) != [])
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: list(incoming.iterdir()) == [])
    assert stored_files(server) == []


async def raw_request(server: RunningServer, request: str) -> tuple[asyncio.StreamReader, Any]:
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace("\n", "\r\n").encode())
    return reader, writer


async def test_a_slow_upload_is_ended(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.http.media.uploads.GRACE_SECONDS", 0.5)
    alice = await server.user()
    reader, writer = await raw_request(
        server,
        "POST /_matrix/media/v3/upload HTTP/1.1\nHost: x\nContent-Length: 1000\n"
        f"Authorization: Bearer {alice.token}\n\nsome",
    )
    async with asyncio.timeout(10):
        assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert list((media_folder(server) / "incoming").iterdir()) == []


async def test_a_client_that_does_not_read_is_left(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("homeserver.http.content_answer.STALL_SECONDS", 0.5)
    alice = await server.user()
    mxc = await upload(alice, bytes(40_000_000))
    reader, writer = await raw_request(
        server,
        f"GET /_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')} HTTP/1.1\n"
        f"Host: x\nAuthorization: Bearer {alice.token}\n\n",
    )
    await asyncio.sleep(2)
    received = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while chunk := await reader.read(1 << 20):
                received += len(chunk)
    assert received < 40_000_000
    writer.close()


async def test_a_client_that_asks_first_need_not_send_in_vain(start_server: StartServer) -> None:
    server = await start_server(media={"max_upload_size": 1000})
    alice = await server.user()
    for length, answer in ((1001, b" 413 "), (10, b" 100 ")):
        reader, writer = await raw_request(
            server,
            "POST /_matrix/media/v3/upload HTTP/1.1\nHost: x\nExpect: 100-continue\n"
            f"Content-Length: {length}\nAuthorization: Bearer {alice.token}\n\n",
        )
        async with asyncio.timeout(10):
            assert answer in await reader.readline()
            if answer == b" 100 ":
                await reader.readline()
                writer.write(b"x" * length)
                assert b" 200 " in await reader.readline()
        writer.close()


async def test_what_a_crash_left_is_swept_up(server: RunningServer) -> None:
    left = media_folder(server) / "incoming" / "left"
    await asyncio.to_thread(left.write_bytes, b"x")
    await server.restart()
    assert not left.exists()


async def test_media_survive_a_restart(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"kept")
    await server.restart()
    assert (await download(server.moved(alice), mxc)).body == b"kept"


async def test_ten_uploads_at_once_do_not_mix(server: RunningServer) -> None:
    alice = await server.user()
    files = [os.urandom(400_000) for _ in range(10)]
    mxcs = await asyncio.gather(*(upload(alice, data) for data in files))
    answers = await asyncio.gather(*(download(alice, mxc) for mxc in mxcs))
    assert [hashlib.sha256(a.body).digest() for a in answers] == [
        hashlib.sha256(data).digest() for data in files
    ]


async def test_a_quota_ends_uploads_of_its_user_only(start_server: StartServer) -> None:
    server = await start_server(media={"user_quota": 1500})
    alice, bob = await server.user(), await server.user()
    await upload(alice, b"a" * 1000)
    results = await asyncio.gather(
        *(upload(alice, bytes([i]) * 400) for i in range(4)), return_exceptions=True
    )
    refused = [r for r in results if isinstance(r, Refused)]
    assert [r.errcode for r in refused] == ["M_FORBIDDEN"] * 3
    await upload(bob, b"b" * 1000)


async def test_uploads_are_rate_limited(start_server: StartServer) -> None:
    limits = {"enabled": True, "media": {"per_second": 0.1, "burst": 2}}
    server = await start_server(rate_limits=limits)
    alice = await server.user()
    await upload(alice, b"1")
    await upload(alice, b"2")
    with pytest.raises(Refused) as refused:
        await upload(alice, b"3")
    assert (refused.value.status, refused.value.errcode) == (429, "M_LIMIT_EXCEEDED")


async def test_a_full_disk_is_told_and_survived(server: RunningServer) -> None:
    alice = await server.user()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))  # fails like a full disk
    try:
        with pytest.raises(Refused) as refused:
            await upload(alice, b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert refused.value.status == 507
    assert "no space" in refused.value.body["error"]
    assert not list((media_folder(server) / "incoming").iterdir())
    assert (await download(alice, await upload(alice, b"x"))).body == b"x"


async def test_clients_that_go_away_in_the_middle_do_no_harm(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, os.urandom(20_000_000))
    path = f"{server.url}/_matrix/client/v1/media/download/{mxc.removeprefix('mxc://')}"
    headers = {"Authorization": f"Bearer {alice.token}"}
    for _ in range(3):
        async with alice.http.get(path, headers=headers) as response:
            await response.content.read(1000)
            response.close()
    assert len((await download(alice, mxc)).body) == 20_000_000


async def test_guests_may_look_but_not_upload(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, b"for all")
    answer = await server.anonymous().post("/register", {}, kind="guest")
    guest: Client = server.anonymous()
    guest.token = answer["access_token"]
    assert (await download(guest, mxc)).body == b"for all"
    with pytest.raises(Refused):
        await upload(guest, b"x")
