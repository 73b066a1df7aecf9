"""The services of push, built and joined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.remote.guarded_client import guarded_connector, guarded_session
from homeserver.services.push.gateways import CONNECTIONS, Gateways
from homeserver.services.push.notifications import Notifications
from homeserver.services.push.pushers import Pushers
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore

GATEWAY_SECONDS = 30.0


class PushParts(Struct, frozen=True):
    """What `push_parts` joins."""

    pushers: Pushers
    notifications: Notifications


@asynccontextmanager
async def push_parts(
    config: Config, database: Database, stream: StreamCore, clock: Clock
) -> AsyncIterator[PushParts]:
    """The parts, with all pushers at work; they end with the block."""
    connector = guarded_connector(config.outgoing, connections=CONNECTIONS)
    session = guarded_session(config.outgoing, seconds=GATEWAY_SECONDS, connector=connector)
    async with session:
        pushers = Pushers(database, stream, Gateways(session, clock), clock)
        await pushers.start()
        try:
            yield PushParts(pushers, Notifications(database, stream))
        finally:
            await pushers.stop()
