"""Real clients; a Synapse and a homeserver of ours that can reach each other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import aiohttp
import pytest
import pytest_asyncio

from tests.interop.synapse import Synapse, synapse_python
from tests.support import postgres
from tests.support.certificates import Authority
from tests.support.client import Client
from tests.support.js_client import JsClients
from tests.support.ports import free_ports
from tests.support.server import RunningServer, settings

Pair = Callable[[], Awaitable[tuple[Client, Client]]]


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


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def ours(
    template_url: str, tmp_path_factory: pytest.TempPathFactory, interop_authority: Authority
) -> AsyncIterator[RunningServer]:
    """One homeserver of ours for all tests, which Synapse can reach."""
    [port] = free_ports(1)
    certificate, key = interop_authority.certificate("localhost")
    tls = {"certificate": str(certificate), "private_key": str(key)}
    directory = tmp_path_factory.mktemp("ours")
    async with postgres.cloned(template_url) as database:
        values = settings(
            database,
            data_dir=str(directory / "data"),
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
        server = RunningServer(values, directory)
        await server.start()
        yield server
        await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def pair(ours: RunningServer, synapse: Synapse) -> AsyncIterator[Pair]:
    """Gives a new user of ours and a new one of Synapse's, each time it is called."""
    async with aiohttp.ClientSession() as http:

        async def make() -> tuple[Client, Client]:
            return await ours.user(), await synapse.user(http)

        yield make


@pytest_asyncio.fixture(loop_scope="session")
async def people(pair: Pair) -> tuple[Client, Client]:
    return await pair()


@pytest.fixture
def alice(people: tuple[Client, Client]) -> Client:
    """A new user of ours."""
    return people[0]


@pytest.fixture
def sam(people: tuple[Client, Client]) -> Client:
    """A new user of Synapse's."""
    return people[1]


@pytest.fixture
async def js() -> AsyncIterator[JsClients]:
    clients = JsClients()
    await clients.start()
    yield clients
    await clients.stop()
