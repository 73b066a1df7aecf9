"""Servers that can reach each other: TLS, an authority of the tests' own, fixed names."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.support.certificates import Authority
from tests.support.peer import Peer
from tests.support.ports import free_ports
from tests.support.server import RunningServer

StartServers = Callable[..., Awaitable[list[RunningServer]]]
StartPeer = Callable[[RunningServer], Awaitable[Peer]]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def server(start_server: StartServer, authority: Authority) -> RunningServer:
    """A homeserver that trusts the tests' authority."""
    return await start_server(outgoing={"ca_file": str(authority.ca_file)})


@pytest.fixture
async def start_servers(start_server: StartServer, authority: Authority) -> StartServers:
    """`await start_servers("one", "two")`: one.test and two.test find each other."""

    async def start(*names: str, **more: Any) -> list[RunningServer]:
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        resolve = {f"{name}.test": f"127.0.0.1:{port}" for name, port in ports.items()}
        servers = []
        for name, port in ports.items():
            certificate, key = authority.certificate(f"{name}.test")
            tls = {"certificate": str(certificate), "private_key": str(key)}
            values = {
                "server_name": f"{name}.test",
                "listeners": [
                    {"port": 0, "resources": ["client"]},
                    {"port": port, "resources": ["federation"], "tls": tls},
                ],
                "federation": {"resolve": resolve, **more.pop("federation", {})},
                "outgoing": {"ca_file": str(authority.ca_file)},
            }
            servers.append(await start_server(**{**values, **more}))
        return servers

    return start


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
