"""Servers that can reach each other: TLS, an authority of the tests' own, fixed names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.conftest import StartServer
from tests.support.certificates import Authority
from tests.support.peer import Peer
from tests.support.server import RunningServer

StartPeer = Callable[[RunningServer], Awaitable[Peer]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def server(start_server: StartServer, authority: Authority) -> RunningServer:
    """A homeserver that trusts the tests' authority."""
    return await start_server(outgoing={"ca_file": str(authority.ca_file)})


@pytest.fixture
async def start_peer(authority: Authority) -> AsyncIterator[StartPeer]:
    async with AsyncExitStack() as stack:

        async def start(server: RunningServer) -> Peer:
            peer = Peer(server.url, server.config.server_name)
            stack.push_async_callback(peer.stop)
            await peer.start(authority)
            return peer

        yield start


@pytest.fixture
async def peer(server: RunningServer, start_peer: StartPeer) -> Peer:
    """A small server that talks to `server`."""
    return await start_peer(server)
