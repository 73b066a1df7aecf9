"""The previews' parts, built and joined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeserver import background
from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.remote.guarded_client import guarded_connector, guarded_session
from homeserver.remote.web import Web
from homeserver.services.previews.hosts import Hosts
from homeserver.services.previews.previews import KeepPicture, Previews
from homeserver.store.database import Database

CONNECTIONS = 20


@asynccontextmanager
async def running(
    config: Config, database: Database, keep_picture: KeepPicture, clock: Clock
) -> AsyncIterator[Previews]:
    """Previews at work, with a guarded session of their own; they end with the block."""
    options = config.previews
    connector = guarded_connector(config.outgoing, connections=CONNECTIONS)
    async with guarded_session(
        config.outgoing,
        seconds=options.seconds,
        connector=connector,
        user_agent=options.user_agent,
    ) as session:
        web = Web(session, Hosts(options.allowed_hosts, options.denied_hosts).allows)
        previews = Previews(database, web, keep_picture, options, clock)
        forgetting = background.start(previews.run)
        try:
            yield previews
        finally:
            previews.close()
            await background.end(forgetting)
