"""Media between servers: asked for once, streamed on, never trusted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp
import pytest
import structlog
from aiohttp import BodyPartReader, MultipartReader, StreamReader, web
from aiohttp.base_protocol import BaseProtocol

from tests.conftest import StartServer
from tests.federation.conftest import StartPeer
from tests.support.certificates import Authority
from tests.support.media import (
    Answer,
    download,
    eventually,
    media_folder,
    picture,
    stored_files,
    upload,
)
from tests.support.media import thumbnail as get_thumbnail
from tests.support.peer import Peer
from tests.support.ports import free_port
from tests.support.server import RunningServer

DOWNLOAD = "/_matrix/federation/v1/media/download/"
THUMBNAIL = "/_matrix/federation/v1/media/thumbnail/"
OLD = "/_matrix/media/v3/download/"
Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


def parts(body: bytes, headers: str = "Content-Type: image/png\r\n", metadata: str = "{}") -> bytes:
    head = f"--B\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n--B\r\n{headers}\r\n"
    return head.encode() + body + b"\r\n--B--\r\n"


def answering(data: bytes, content_type: str = "multipart/mixed; boundary=B") -> Serve:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=data, headers={"Content-Type": content_type})

    return answer


def streaming(pieces: Callable[[], AsyncIterator[bytes]]) -> Serve:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "multipart/mixed; boundary=B"})
        await response.prepare(request)
        async for piece in pieces():
            await response.write(piece)
        return response

    return answer


async def test_a_remote_file_is_fetched_once_and_kept(server: RunningServer, peer: Peer) -> None:
    data = os.urandom(100_000)
    disposition = "Content-Disposition: inline; filename*=utf-8''n%C3%A4me.png\r\n"
    peer.answer(
        "GET", DOWNLOAD, answering(parts(data, "Content-Type: image/png\r\n" + disposition))
    )
    alice = await server.user()
    mxc = f"mxc://{peer.server_name}/abc"
    answers = await asyncio.gather(*(download(alice, mxc) for _ in range(10)))
    for answer in answers:
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.file_name == "näme.png"
    await server.restart()
    assert (await download(server.moved(alice), mxc)).body == data
    assert peer.asked(DOWNLOAD) == 1


async def test_a_remote_picture_gets_a_thumbnail(server: RunningServer, peer: Peer) -> None:
    peer.answer("GET", DOWNLOAD, answering(parts(picture(500, 500))))
    alice = await server.user()
    answer = await get_thumbnail(alice, f"mxc://{peer.server_name}/abc", 96, 96)
    assert answer.image().size == (96, 96)


async def test_a_large_file_is_streamed_while_it_is_fetched(
    server: RunningServer, peer: Peer
) -> None:
    data = os.urandom(3_000_000)
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        whole = parts(data)
        yield whole[:1_500_000]
        await go_on.wait()
        yield whole[1_500_000:]

    peer.answer("GET", DOWNLOAD, streaming(pieces))
    alice = await server.user()
    mxc = f"{peer.server_name}/abc"
    url = f"{server.url}/_matrix/client/v1/media/download/{mxc}"
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with asyncio.timeout(20), alice.http.get(url, headers=headers) as first:
        start = await first.content.readexactly(1_000_000)  # the end isn't here yet
        others = [asyncio.create_task(download(alice, f"mxc://{mxc}")) for _ in range(3)]
        await asyncio.sleep(0.2)
        go_on.set()
        assert start + await first.read() == data
        assert all(answer.body == data for answer in await asyncio.gather(*others))
    assert peer.asked(DOWNLOAD) == 1


async def test_a_fetch_goes_on_when_its_client_is_gone(server: RunningServer, peer: Peer) -> None:
    data = os.urandom(1_000_000)
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield parts(data)[:600_000]
        await go_on.wait()
        yield parts(data)[600_000:]

    peer.answer("GET", DOWNLOAD, streaming(pieces))
    alice = await server.user()
    mxc = f"{peer.server_name}/abc"
    url = f"{server.url}/_matrix/client/v1/media/download/{mxc}"
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with asyncio.timeout(20), alice.http.get(url, headers=headers) as response:
        await response.content.read(1000)
        response.close()
    go_on.set()
    await eventually(lambda: len(stored_files(server)) == 1)
    assert (await download(alice, f"mxc://{mxc}")).body == data
    assert peer.asked(DOWNLOAD) == 1


async def test_a_fetch_that_breaks_is_seen_and_leaves_nothing(
    server: RunningServer, peer: Peer
) -> None:
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield parts(os.urandom(1_000_000))[:600_000]
        await go_on.wait()
        raise ConnectionResetError

    peer.answer("GET", DOWNLOAD, streaming(pieces))
    alice = await server.user()
    url = f"{server.url}/_matrix/client/v1/media/download/{peer.server_name}/abc"
    headers = {"Authorization": f"Bearer {alice.token}"}
    async with asyncio.timeout(20), alice.http.get(url, headers=headers) as response:
        await response.content.readexactly(1000)
        go_on.set()
        with pytest.raises(aiohttp.ClientError):
            await response.read()
    await eventually(lambda: list((media_folder(server) / "incoming").iterdir()) == [])
    assert stored_files(server) == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "multipart/mixed; boundary=B"),
        (b"--B--\r\n", "multipart/mixed; boundary=B"),
        (b"--B\r\n\r\n{}\r\n--B--\r\n", "multipart/mixed; boundary=B"),
        (b"garbage" * 1000, "multipart/mixed; boundary=B"),
        (
            b"--B\r\n\r\n" + b"{" * 200_000 + b"\r\n--B\r\n\r\nx\r\n--B--",
            "multipart/mixed; boundary=B",
        ),
        (parts(b"x"), "multipart/mixed"),
        (parts(b"x"), "text/html"),
        (b"--B\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "multipart/mixed; boundary=B"),
        (parts(b"x", "no header\r\n"), "multipart/mixed; boundary=B"),
        (b"--B\r\n\0: x\r\n\r\n{}\r\n--B--\r\n", "multipart/mixed; boundary=B"),
        (parts(b"x", "Content-Length: 500\r\n"), "multipart/mixed; boundary=B"),
        (parts(b"x", "Location: file:///etc/passwd\r\n"), "multipart/mixed; boundary=B"),
        (parts(b"x", "Location: /etc/passwd\r\n"), "multipart/mixed; boundary=B"),
        (parts(b"x", "Location: http://169.254.169.254/\r\n"), "multipart/mixed; boundary=B"),
    ],
)
async def test_nonsense_is_a_bad_gateway(
    server: RunningServer, peer: Peer, body: bytes, content_type: str
) -> None:
    peer.answer("GET", DOWNLOAD, answering(body, content_type))
    alice = await server.user()
    with structlog.testing.capture_logs() as lines:
        answer = await download(alice, f"mxc://{peer.server_name}/abc")
    assert (answer.status, answer.errcode) == (502, "M_UNKNOWN")
    assert stored_files(server) == []
    assert "error" not in [line["log_level"] for line in lines]  # the fault is not ours


async def test_a_file_over_the_limit_is_not_fetched(
    start_server: StartServer, authority: Authority, start_peer: StartPeer
) -> None:
    server = await start_server(
        outgoing={"ca_file": str(authority.ca_file)}, media={"max_remote_size": 1000}
    )
    peer = await start_peer(server)
    alice = await server.user()
    for name, headers in (("told", "Content-Length: 1001\r\n"), ("untold", "")):
        peer.answer("GET", DOWNLOAD + name, answering(parts(b"x" * 1001, headers)))
        answer = await download(alice, f"mxc://{peer.server_name}/{name}")
        assert (answer.status, answer.errcode) == (502, "M_TOO_LARGE")
    peer.answer("GET", DOWNLOAD + "fits", answering(parts(b"x" * 1000)))
    assert (await download(alice, f"mxc://{peer.server_name}/fits")).status == 200


@pytest.mark.parametrize(
    ("status", "errcode", "told"),
    [
        (404, "M_NOT_FOUND", (404, "M_NOT_FOUND")),
        (504, "M_NOT_YET_UPLOADED", (504, "M_NOT_YET_UPLOADED")),
        (502, "M_TOO_LARGE", (502, "M_TOO_LARGE")),
        (403, "M_FORBIDDEN", (502, "M_UNKNOWN")),
        (500, "M_UNKNOWN", (502, "M_UNKNOWN")),
    ],
)
async def test_errors_of_the_other_server_are_told(
    server: RunningServer, peer: Peer, status: int, errcode: str, told: tuple[int, str]
) -> None:
    peer.answer("GET", DOWNLOAD, {"errcode": errcode, "error": "."}, status)
    alice = await server.user()
    for answer in [await download(alice, f"mxc://{peer.server_name}/abc") for _ in range(3)]:
        assert (answer.status, answer.errcode) == told
    expected = 3 if errcode == "M_NOT_YET_UPLOADED" else 1  # the others are remembered
    assert peer.asked(DOWNLOAD) == expected


async def test_media_that_is_late_does_not_make_a_server_dead(
    server: RunningServer, peer: Peer
) -> None:
    alice = await server.user()
    for errcode, status in (("M_NOT_YET_UPLOADED", 504), ("M_TOO_LARGE", 502)):
        peer.answer("GET", DOWNLOAD, {"errcode": errcode, "error": "."}, status)
        await download(alice, f"mxc://{peer.server_name}/{errcode}")
    peer.answer("GET", DOWNLOAD, answering(parts(b"here")))
    assert (await download(alice, f"mxc://{peer.server_name}/abc")).body == b"here"


async def test_a_server_from_before_1_11_is_asked_the_old_way(
    server: RunningServer, peer: Peer
) -> None:
    peer.answer("GET", OLD, answering(b"old", "text/plain"))
    alice = await server.user()
    answer = await download(alice, f"mxc://{peer.server_name}/abc")
    assert (answer.body, answer.headers["Content-Type"]) == (b"old", "text/plain; charset=utf-8")
    assert any("allow_remote=false" in path for _, path in peer.requests)


async def test_a_redirect_to_elsewhere_is_followed(server: RunningServer, peer: Peer) -> None:
    location = f"https://{peer.server_name}/cdn/abc"
    peer.answer("GET", DOWNLOAD, answering(parts(b"", f"Location: {location}\r\n")))
    peer.answer("GET", "/cdn/", answering(b"from there", "text/plain"))
    alice = await server.user()
    assert (await download(alice, f"mxc://{peer.server_name}/abc")).body == b"from there"


async def test_a_redirect_does_not_lead_into_our_network(
    start_server: StartServer, authority: Authority, start_peer: StartPeer
) -> None:
    server = await start_server(
        outgoing={"ca_file": str(authority.ca_file), "allowed_private_ranges": ["127.0.0.1/32"]}
    )
    peer = await start_peer(server)
    port = peer.server_name.partition(":")[2]
    location = f"https://127.0.0.2:{port}/cdn/"
    peer.answer("GET", DOWNLOAD, answering(parts(b"", f"Location: {location}\r\n")))
    alice = await server.user()
    answer = await download(alice, f"mxc://{peer.server_name}/abc")
    assert answer.status == 502
    assert peer.asked("/cdn/") == 0
    peer.answer("GET", DOWNLOAD, answering(parts(b"still there")))
    assert (await download(alice, f"mxc://{peer.server_name}/def")).body == b"still there"


async def test_our_media_are_served_as_parts(server: RunningServer, peer: Peer) -> None:
    alice = await server.user()
    for size in (10, 1_000_000):
        data = os.urandom(size)
        mxc = await upload(alice, data, "image/png", "猫.png")
        answer = await signed_get(peer, DOWNLOAD + mxc.rpartition("/")[2])
        assert answer.headers["Content-Type"].startswith("multipart/mixed; boundary=")
        metadata, file, headers = await read_parts(answer)
        assert (metadata, file) == (b"{}", data)
        assert headers["Content-Type"] == "image/png"
        assert headers["Content-Disposition"] == "inline; filename*=utf-8''%E7%8C%AB.png"


async def test_our_thumbnails_are_served_as_parts(server: RunningServer, peer: Peer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(500, 500), "image/png")
    path = THUMBNAIL + mxc.rpartition("/")[2] + "?width=96&height=96&method=crop"
    _, file, headers = await read_parts(await signed_get(peer, path))
    assert Answer(200, headers, file).image().size == (96, 96)


async def test_other_servers_get_our_media_only_signed(server: RunningServer, peer: Peer) -> None:
    alice = await server.user()
    path = DOWNLOAD + (await upload(alice, b"x")).rpartition("/")[2]
    status, body = await peer.request("GET", path, header="")
    assert (status, body["errcode"]) == (401, "M_UNAUTHORIZED")
    status, body = await peer.request("GET", DOWNLOAD + "nothing")
    assert (status, body["errcode"]) == (404, "M_NOT_FOUND")


async def test_two_homeservers_exchange_media(
    start_server: StartServer, authority: Authority
) -> None:
    first, second = await two_servers(start_server, authority)
    alice, bob = await first.user(), await second.user()
    data = os.urandom(2_000_000)
    for client, other in ((alice, bob), (bob, alice)):
        mxc = await upload(client, data, "video/mp4", "film.mp4")
        answer = await download(other, mxc)
        assert (answer.body, answer.file_name) == (data, "film.mp4")
    mxc = await upload(alice, picture(500, 500))
    assert (await get_thumbnail(bob, mxc, 96, 96)).image().size == (96, 96)


async def two_servers(
    start_server: StartServer, authority: Authority
) -> tuple[RunningServer, RunningServer]:
    """Two homeservers that know where the other one is."""
    ports = {name: free_port() for name in ("one.test", "two.test")}
    resolve = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    servers = []
    for name, port in ports.items():
        certificate, key = authority.certificate(name)
        tls = {"certificate": str(certificate), "private_key": str(key)}
        servers.append(
            await start_server(
                server_name=name,
                outgoing={"ca_file": str(authority.ca_file)},
                federation={"resolve": resolve},
                listeners=[
                    {"port": 0, "resources": ["client"]},
                    {"port": port, "resources": ["federation"], "tls": tls},
                ],
            )
        )
    return servers[0], servers[1]


async def signed_get(peer: Peer, path: str) -> Answer:
    headers = {"Authorization": peer.header("GET", path)}
    async with (
        asyncio.timeout(30),
        aiohttp.ClientSession() as http,
        http.get(peer.url + path, headers=headers) as response,
    ):
        assert response.status == 200, await response.read()
        return Answer(response.status, response.headers.copy(), await response.read())


async def read_parts(answer: Answer) -> tuple[bytes, bytes, dict[str, str]]:
    """The metadata, the file and its headers, by aiohttp's parser."""
    stream = StreamReader(BaseProtocol(asyncio.get_running_loop()), 2**20)
    stream.feed_data(answer.body)
    stream.feed_eof()
    reader = MultipartReader(answer.headers, stream)
    metadata = await reader.next()
    assert isinstance(metadata, BodyPartReader)
    first = await metadata.read()
    file = await reader.next()
    assert isinstance(file, BodyPartReader)
    second = await file.read()
    assert await reader.next() is None
    return bytes(first), bytes(second), dict(file.headers)
