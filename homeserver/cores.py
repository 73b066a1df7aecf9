"""What runs before anybody can ask for anything: the database, the stream, the ways to others.

Rules of this file: each is built on those before it, and pushed on the stack with how it is closed.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import structlog
from msgspec import Struct

from homeserver import background
from homeserver.clock import now_ms
from homeserver.config import EMBEDDED, Config
from homeserver.federation import Ground
from homeserver.federation import build as build_federation
from homeserver.http.federation.parts import FederationParts
from homeserver.http.metrics import Metrics
from homeserver.protocol.push_defaults import default_rules
from homeserver.protocol.signatures import Signer
from homeserver.remote import core as remote_core
from homeserver.remote.core import RemoteCore
from homeserver.remote.guarded_client import guarded_session
from homeserver.remote.media import RemoteMedia
from homeserver.services.aftermath import Aftermath
from homeserver.services.app_services.parts import AppServiceParts, app_service_parts
from homeserver.services.media.parts import MediaParts, media_parts
from homeserver.services.outages import Outages
from homeserver.services.previews.previews import Previews
from homeserver.services.previews.running import running as previews_running
from homeserver.services.push.parts import PushParts, push_parts
from homeserver.services.search_index import SearchIndex
from homeserver.signing_key import load_signer
from homeserver.store.database import Database, migrate, migrations_directory
from homeserver.stream import core as stream_core
from homeserver.stream.core import StreamCore

log = structlog.get_logger()


class Cores(Struct, frozen=True):
    """What runs already when the other parts are built."""

    stream: StreamCore
    remote: RemoteCore
    federation: FederationParts
    media: MediaParts
    previews: Previews
    push: PushParts
    app_services: AppServiceParts
    search_index: SearchIndex


async def running_cores(
    config: Config, database: Database, metrics: Metrics, stack: AsyncExitStack
) -> Cores:
    """What runs before anybody can ask for anything, each built on those before it."""
    signer = load_signer(config)
    remote = await _remote(config, database, signer, stack)
    stream = await _stream(config, database, metrics, signer, stack)
    media = await _media(config, database, remote, stream, stack)
    federation = await _federation(Ground(config, database, stream, remote), stack)
    previews = await stack.enter_async_context(
        previews_running(config, database, media.pictures.keep, now_ms)
    )
    push = await stack.enter_async_context(push_parts(config, database, stream, now_ms))
    background.beside(stack, push.pushers.run)
    app_services = await stack.enter_async_context(
        app_service_parts(config, database, stream, now_ms)
    )
    search_index = SearchIndex(database, stream.writer, stream.notifier)
    background.beside(stack, search_index.run)
    return Cores(stream, remote, federation, media, previews, push, app_services, search_index)


async def open_database(config: Config, stack: AsyncExitStack) -> Database:
    """The database with the newest schema; Postgres itself is started where it is ours."""
    url = config.database
    if url == EMBEDDED:
        url = await _embedded_postgres(config, stack)
    database = await Database.open(url, config.database_connections)
    stack.push_async_callback(database.close)
    async with database.connection() as connection:
        applied = await migrate(connection, migrations_directory())
    if applied:
        log.info("schema migrated", applied=applied)
    return database


async def _embedded_postgres(config: Config, stack: AsyncExitStack) -> str:
    from homeserver.store.embedded import EmbeddedPostgres  # only if it is used

    postgres = EmbeddedPostgres(config.data_dir / "postgres", report=log.info)
    url = await asyncio.to_thread(postgres.start)
    stack.callback(postgres.stop)
    background.beside(stack, postgres.keep_running)
    return url


async def _remote(
    config: Config, database: Database, signer: Signer, stack: AsyncExitStack
) -> RemoteCore:
    """The ways to other servers; which of them don't answer is written down now and at the end."""
    remote = await stack.enter_async_context(remote_core.running(config, database, signer, now_ms))
    outages = Outages(database, remote.availability)
    stack.push_async_callback(outages.write)
    background.beside(stack, outages.run)
    return remote


async def _stream(
    config: Config, database: Database, metrics: Metrics, signer: Signer, stack: AsyncExitStack
) -> StreamCore:
    """The hot room, with the writer lock taken; the writer is drained at the end."""
    defaults = default_rules(
        thread_subscriptions=config.push.thread_subscriptions,
        legacy_mentions=config.push.legacy_mentions,
    )
    stream = stream_core.build(database, config.caches, signer, defaults)
    await stream.start()
    stack.push_async_callback(stream.stop)
    background.beside(stack, stream.inboxes.run)
    aftermath = Aftermath(database, stream, forget_on_leave=config.rooms.forget_on_leave)
    stream.writer.on_publish(aftermath.published)
    background.beside(stack, aftermath.run)
    if config.presence.enabled:
        await stream.presence.start(now_ms)
        stack.push_async_callback(stream.presence.flush)
        background.beside(stack, stream.presence.run)
    _measure_stream(metrics, stream)
    return stream


def _measure_stream(metrics: Metrics, stream: StreamCore) -> None:
    writer = stream.writer
    metrics.histogram(
        "homeserver_commit_seconds", "How long a batch takes to commit", writer.commit_seconds
    )
    metrics.histogram("homeserver_batch_changes", "Changes in a batch", writer.batch_sizes)
    metrics.gauge("homeserver_live_rooms", "Rooms in memory", lambda: len(stream.rooms))
    metrics.gauge("homeserver_long_polls", "Open long polls", lambda: len(stream.notifier))
    metrics.gauge("homeserver_stream_position", "Newest visible", lambda: writer.position)


async def _media(
    config: Config,
    database: Database,
    remote: RemoteCore,
    stream: StreamCore,
    stack: AsyncExitStack,
) -> MediaParts:
    """The content repository; what other servers redirect to is fetched with its own session."""
    seconds = float(config.media.fetch_seconds)
    redirected = guarded_session(config.outgoing, seconds=seconds)
    await stack.enter_async_context(redirected)
    fetch = RemoteMedia(remote.client, redirected, seconds).fetch
    return await stack.enter_async_context(
        media_parts(config, database, fetch, lambda: stream.writer.position, now_ms)
    )


async def _federation(ground: Ground, stack: AsyncExitStack) -> FederationParts:
    """What comes in from other servers and what goes out to them."""
    federation = build_federation(ground)
    await federation.inbound.incoming.start()
    stack.push_async_callback(federation.inbound.incoming.stop)
    await federation.resync.start()
    stack.push_async_callback(federation.resync.stop)
    await federation.sender.start()
    stack.push_async_callback(federation.sender.stop)
    background.beside(stack, federation.sender.run)
    background.beside(stack, federation.inbound.extremities.run)
    return federation
