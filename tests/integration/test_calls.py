"""Calls: credentials that a real coturn accepts, and where MatrixRTC finds its transports."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.ports import free_port

LIVEKIT = "https://livekit.hs.test/jwt"
SECRET = "turn secret"
STARTED_SECONDS = 15.0


@pytest.fixture
async def coturn(tmp_path: Path) -> AsyncIterator[int]:
    """A running coturn with a shared secret: its port."""
    if shutil.which("turnserver") is None or shutil.which("turnutils_uclient") is None:
        pytest.skip("coturn is not installed")
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        "turnserver",
        "-n",
        "--use-auth-secret",
        f"--static-auth-secret={SECRET}",
        "--realm=hs.test",
        "--listening-ip=127.0.0.1",
        f"--listening-port={port}",
        "--relay-ip=127.0.0.1",
        *("--no-tls", "--no-dtls", "--no-cli", "--allow-loopback-peers"),
        f"--pidfile={tmp_path / 'pid'}",
        f"--userdb={tmp_path / 'db'}",
        "--log-file=stdout",
        stdout=asyncio.subprocess.DEVNULL,
    )
    await _listens(port)
    yield port
    process.terminate()
    await process.wait()


async def _listens(port: int) -> None:
    async with asyncio.timeout(STARTED_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            await writer.wait_closed()
            return


async def _call(port: int, username: str, password: str) -> int:
    """Send something through the TURN server to oneself; the client's exit status."""
    arguments = ["-u", username, "-w", password, "-p", str(port), "-n", "1", "-m", "1", "-y"]
    process = await asyncio.create_subprocess_exec(
        "turnutils_uclient",
        *arguments,
        "127.0.0.1",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(30):
        return await process.wait()


async def test_coturn_accepts_our_credentials_and_no_others(
    start_server: StartServer, coturn: int
) -> None:
    uris = [f"turn:127.0.0.1:{coturn}?transport=udp"]
    server = await start_server(voip={"turn_uris": uris, "turn_shared_secret": SECRET})
    answer = await (await server.user("alice")).get("/voip/turnServer")
    assert answer["uris"] == uris
    assert await _call(coturn, answer["username"], answer["password"]) == 0
    assert await _call(coturn, answer["username"], "another") != 0


async def test_calls_find_the_livekit_service(start_server: StartServer) -> None:
    server = await start_server(
        voip={"livekit_service_url": LIVEKIT}, public_baseurl="https://hs.test"
    )
    transports = [{"type": "livekit", "livekit_service_url": LIVEKIT}]
    alice = await server.user("alice")
    for path in ("/v1/rtc/transports", "/unstable/org.matrix.msc4143/rtc/transports"):
        answer = await alice.get(f"/_matrix/client{path}")
        assert answer == {"rtc_transports": transports}
    well_known = await server.anonymous().get("/.well-known/matrix/client")
    assert well_known["org.matrix.msc4143.rtc_foci"] == transports


async def test_without_a_service_there_is_no_transport(start_server: StartServer) -> None:
    alice = await (await start_server()).user("alice")
    assert await alice.get("/_matrix/client/v1/rtc/transports") == {"rtc_transports": []}
