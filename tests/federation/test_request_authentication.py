"""X-Matrix: who is let in."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from homeserver.protocol.signatures import Signer
from homeserver.protocol.x_matrix import authorization
from homeserver.remote.strangers import PER_ADDRESS
from tests.conftest import StartServer
from tests.federation.conftest import StartPeer
from tests.support.certificates import Authority
from tests.support.peer import Peer
from tests.support.server import RunningServer

PROFILE = "/_matrix/federation/v1/query/profile?user_id=%40alice%3Ahs.test&field=displayname"


async def test_a_signed_request_is_answered(server: RunningServer, peer: Peer) -> None:
    await server.user("alice")
    assert await peer.request("GET", PROFILE) == (200, {"displayname": "alice"})
    await peer.request("GET", PROFILE)
    assert peer.asked("/_matrix/key") == 1


async def test_the_whole_uri_and_the_method_are_signed(server: RunningServer, peer: Peer) -> None:
    for header in (
        peer.header("GET", PROFILE + "&x=1"),
        peer.header("PUT", PROFILE),
        peer.header("GET", PROFILE, {}),
    ):
        status, body = await peer.request("GET", PROFILE, header=header)
        assert (status, body["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_an_unsigned_request_is_refused(server: RunningServer, peer: Peer) -> None:
    for header in ("", "Bearer abc", "X-Matrix origin=a"):
        status, body = await peer.request("GET", PROFILE, header=header)
        assert (status, body["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_a_request_for_another_server_is_refused(server: RunningServer, peer: Peer) -> None:
    peer.destination = "other.test"
    status, body = await peer.request("GET", PROFILE)
    assert (status, body["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_nobody_signs_in_our_own_name(server: RunningServer, peer: Peer) -> None:
    header = peer.header("GET", PROFILE).replace(peer.server_name, "hs.test")
    assert (await peer.request("GET", PROFILE, header=header))[0] == 403


@pytest.mark.parametrize(
    "federation", [{"enabled": False}, {"denied_servers": ["127.0.*"]}, {"allowed_servers": ["b"]}]
)
async def test_unwelcome_servers_are_refused(
    start_server: StartServer, authority: Authority, start_peer: StartPeer, federation: object
) -> None:
    server = await start_server(federation=federation, outgoing={"ca_file": str(authority.ca_file)})
    peer = await start_peer(server)
    status, body = await peer.request("GET", PROFILE)
    assert (status, body["errcode"]) == (403, "M_FORBIDDEN")
    assert peer.requests == []


async def test_a_server_is_limited(
    start_server: StartServer, authority: Authority, start_peer: StartPeer
) -> None:
    rate = {"enabled": True, "federation": {"per_second": 0.01, "burst": 2}}
    server = await start_server(rate_limits=rate, outgoing={"ca_file": str(authority.ca_file)})
    peer, other = await start_peer(server), await start_peer(server)
    statuses = [(await peer.request("GET", PROFILE))[0] for _ in range(3)]
    assert statuses == [404, 404, 429]
    assert (await other.request("GET", PROFILE))[0] == 404


async def test_a_certificate_that_nobody_vouches_for_is_refused(
    start_server: StartServer, start_peer: StartPeer
) -> None:
    server = await start_server()
    peer = await start_peer(server)
    assert (await peer.request("GET", PROFILE))[0] == 401
    assert peer.requests == []


async def test_private_addresses_are_not_reached(
    start_server: StartServer, authority: Authority, start_peer: StartPeer
) -> None:
    outgoing = {"ca_file": str(authority.ca_file), "allowed_private_ranges": ["10.0.0.0/8"]}
    server = await start_server(outgoing=outgoing)
    peer = await start_peer(server)
    assert (await peer.request("GET", PROFILE))[0] == 401
    assert peer.requests == []


async def test_keys_of_made_up_servers_are_asked_for_within_limits(
    server: RunningServer, peer: Peer
) -> None:
    """Whoever makes up servers that never answer doesn't keep those out that we know."""
    path = "/_matrix/federation/v1/query/profile?user_id=@x:hs.test"
    assert (await peer.request("GET", path))[0] == 404
    reached = asyncio.Semaphore(0)
    writers: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        reached.release()

    async with AsyncExitStack() as stack:
        names = []
        for _ in range(PER_ADDRESS + 1):
            listening = await asyncio.start_server(silent, "127.0.0.1", 0)
            stack.callback(listening.close)
            names.append(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}")

        def claim(name: str) -> str:
            signer = Signer(name, "ed25519:x", peer.signer.key)
            return authorization(signer, "GET", path, "hs.test", None)

        waiting = [
            asyncio.create_task(peer.request("GET", path, header=claim(name)))
            for name in names[:PER_ADDRESS]
        ]
        async with asyncio.timeout(20):
            for _ in waiting:
                await reached.acquire()
        status, answer = await peer.request("GET", path, header=claim(names[PER_ADDRESS]))
        assert (status, answer["errcode"]) == (429, "M_LIMIT_EXCEEDED")
        assert (await peer.request("GET", path))[0] == 404
        for writer in writers:
            writer.close()
        assert {status for status, _ in await asyncio.gather(*waiting)} == {401}
    again, _ = await peer.request("GET", path, header=claim(names[0]))
    assert again == 401
    assert len(writers) == PER_ADDRESS  # nobody was asked twice
