"""The parts that talk to other servers, built and joined."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.protocol.signatures import Signer
from homeserver.remote.access import FederationAccess
from homeserver.remote.availability import Availability, Outage
from homeserver.remote.client import FederationClient
from homeserver.remote.guarded_client import guarded_connector, guarded_session
from homeserver.remote.key_fetcher import KeyFetcher
from homeserver.remote.keyring import Keyring
from homeserver.remote.resolution import Dns, Resolution
from homeserver.remote.well_known import WellKnown
from homeserver.store import outages as outage_store
from homeserver.store.database import Database

CONNECTIONS = 1000
LONGEST_REQUEST_SECONDS = 3600.0
"""Each request has its own, shorter limit; see `client.Terms`."""


class RemoteCore(Struct, frozen=True):
    """What `running` joins."""

    access: FederationAccess
    availability: Availability
    resolution: Resolution
    client: FederationClient
    keyring: Keyring


@asynccontextmanager
async def running(
    config: Config, database: Database, signer: Signer, clock: Clock
) -> AsyncIterator[RemoteCore]:
    """The parts, with open connections that are closed with the block."""
    federation = config.federation
    access = FederationAccess(
        config.server_name,
        federation.enabled,
        federation.allowed_servers,
        federation.denied_servers,
    )
    availability = Availability(clock)
    async with database.connection() as connection:
        availability.restore(Outage(*row) for row in await outage_store.all_outages(connection))
    connector = guarded_connector(config.outgoing, connections=CONNECTIONS)
    dns = Dns()
    async with guarded_session(
        config.outgoing, seconds=LONGEST_REQUEST_SECONDS, connector=connector
    ) as session:
        resolution = Resolution(
            WellKnown(session, time.monotonic), dns.srv, federation.resolve, time.monotonic
        )
        client = FederationClient(session, resolution, signer, availability, access)
        fetcher = KeyFetcher(client, clock, federation.notaries, config.caches.remote_keys)
        keyring = Keyring(database, fetcher, signer, clock, config.caches.remote_keys)
        yield RemoteCore(access, availability, resolution, client, keyring)
    await dns.close()
