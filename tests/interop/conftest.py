"""Real clients; a Synapse and a homeserver of ours that can reach each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.conftest import StartServer
from tests.interop.synapse import Synapse, synapse_python
from tests.support.certificates import Authority
from tests.support.client import Client
from tests.support.js_client import JsClients
from tests.support.ports import free_ports
from tests.support.server import RunningServer


@pytest.fixture(scope="session")
def interop_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("interop-authority"))


@pytest.fixture(scope="session")
def synapse(
    tmp_path_factory: pytest.TempPathFactory, interop_authority: Authority
) -> Iterator[Synapse]:
    """One Synapse for all tests. Without SYNAPSE_PYTHON they are skipped."""
    if synapse_python() is None:
        pytest.skip("SYNAPSE_PYTHON names no Python with Synapse: make test-interop")
    ports = free_ports(2)
    directory = tmp_path_factory.mktemp("synapse")
    server = Synapse(directory, interop_authority, (ports[0], ports[1]))
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def sam(synapse: Synapse) -> AsyncIterator[Client]:
    """A new user of Synapse's."""
    async with aiohttp.ClientSession() as http:
        yield await synapse.user(http)


@pytest.fixture
async def alice(ours: RunningServer) -> Client:
    """A new user of ours."""
    return await ours.user("alice")


@pytest.fixture
async def ours(start_server: StartServer, interop_authority: Authority) -> RunningServer:
    """A homeserver of ours that Synapse can reach."""
    [port] = free_ports(1)
    certificate, key = interop_authority.certificate("localhost")
    tls = {"certificate": str(certificate), "private_key": str(key)}
    return await start_server(
        server_name=f"localhost:{port}",
        listeners=[
            {"port": 0, "resources": ["client"]},
            {"port": port, "resources": ["federation"], "tls": tls},
        ],
        outgoing={
            "ca_file": str(interop_authority.ca_file),
            "allowed_private_ranges": ["127.0.0.0/8", "::1/128"],
        },
    )


@pytest.fixture
async def js() -> AsyncIterator[JsClients]:
    clients = JsClients()
    await clients.start()
    yield clients
    await clients.stop()
