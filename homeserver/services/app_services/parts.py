"""The services of application services, built and joined."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, DummyCookieJar, TCPConnector
from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.services.app_services.client import AppServiceClient
from homeserver.services.app_services.masquerade import Masquerade
from homeserver.services.app_services.questions import Questions
from homeserver.services.app_services.registry import Registry
from homeserver.services.app_services.sender import AppServiceSender
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore

CONNECTIONS_PER_SERVICE = 20


class AppServiceParts(Struct, frozen=True):
    """What `app_service_parts` joins."""

    registry: Registry
    masquerade: Masquerade
    questions: Questions
    sender: AppServiceSender


@asynccontextmanager
async def app_service_parts(
    config: Config, database: Database, stream: StreamCore, clock: Clock
) -> AsyncIterator[AppServiceParts]:
    """The parts, with all feeds at work; they end with the block. Raises RegistrationError."""
    registry = Registry(config.application_services, config.server_name)
    masquerade = Masquerade(database, registry, clock)
    for service in registry.services:
        await masquerade.requester(service.as_token, None, None)  # makes its own user
    # One that is slow holds connections of its own only.
    connector = TCPConnector(limit=0, limit_per_host=CONNECTIONS_PER_SERVICE)
    jar = DummyCookieJar()
    async with ClientSession(connector=connector, cookie_jar=jar, trust_env=False) as session:
        client = AppServiceClient(session)
        sender = AppServiceSender(database, stream, registry, client, clock)
        await sender.start()
        try:
            yield AppServiceParts(registry, masquerade, Questions(registry, client), sender)
        finally:
            await sender.stop()
