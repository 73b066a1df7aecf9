"""The clients that have registered themselves. client-server-api#client-registration

Rules of this file: a client's id is the hash of its metadata, so that all devices with the same
client share one row ("This can be mitigated by de-duplicating client registrations"), and a client
that was forgotten gets its old id again.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import OAuthError
from homeserver.protocol.oauth.clients import Metadata
from homeserver.store import oauth_clients
from homeserver.store.database import Database

MAX_UNUSED = 5_000
UNUSED_MS = 30 * 24 * 60 * 60 * 1000


class Client(Struct, frozen=True):
    client_id: str
    metadata: Metadata


class Clients:
    """Registers clients and finds them again."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def register(self, metadata: Metadata) -> Client:
        """The client with this metadata, new or not; unused ones go, if there are many."""
        encoded = msgspec.json.encode(metadata, order="sorted")
        client_id = hashlib.sha256(encoded).hexdigest()[:32]
        now = self._clock()
        async with self._database.transaction() as connection:
            if await oauth_clients.put(connection, client_id, encoded.decode(), now):
                await oauth_clients.prune(connection, now - UNUSED_MS, MAX_UNUSED)
        return Client(client_id, metadata)

    async def find(self, client_id: str | None) -> Client:
        """Raises OAuthError `invalid_client`."""
        metadata = None
        if client_id is not None:
            async with self._database.connection() as connection:
                metadata = await oauth_clients.find(connection, client_id)
        if client_id is None or metadata is None:
            raise OAuthError("invalid_client", "This client is not registered here", status=401)
        return Client(client_id, msgspec.json.decode(metadata, type=Metadata))

    async def is_used(self, client: Client) -> None:
        """Somebody logs in with it: it isn't forgotten before the tokens are there."""
        await self.register(client.metadata)
