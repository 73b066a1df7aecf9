"""Postgres goes away and comes back: clear 5xx meanwhile, then everything goes on by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from homeserver.store.embedded import EmbeddedPostgres
from homeserver.stream.writer import Published
from tests.support.client import Client, Refused, bodies, timeline
from tests.support.server import RunningServer, settings

OUTAGE_SECONDS = 10.0
RECOVERY_SECONDS = 10.0


@pytest.fixture
def postgres(own_directory: Path) -> Iterator[EmbeddedPostgres]:
    """A server that the homeserver takes for somebody else's: it is stopped under its hands."""
    server = EmbeddedPostgres(own_directory / "pg")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def server(postgres: EmbeddedPostgres, own_directory: Path) -> AsyncIterator[RunningServer]:
    running = RunningServer(settings(postgres.url), own_directory)
    await running.start()
    yield running
    await running.stop()


async def send_when_possible(client: Client, room_id: str, text: str) -> str:
    """Sends again and again (as one transaction) until it is taken."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            try:
                return await client.send(room_id, text, txn_id=text)
            except Refused as refused:
                assert refused.status == 503
            await asyncio.sleep(0.1)


async def test_requests_fail_clearly_and_the_server_recovers(
    server: RunningServer, postgres: EmbeddedPostgres
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat", name="Cellar")
    await bob.join(room_id)
    await bob.sync()
    await alice.send(room_id, "before")

    await asyncio.to_thread(postgres.stop)
    end = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < end:
        for attempt in (
            lambda: alice.send(room_id, "meanwhile"),
            alice.create_room,
            lambda: alice.login("alice"),
            lambda: server.anonymous().register("carol"),
        ):
            before = time.monotonic()
            with pytest.raises(Refused) as refused:
                await attempt()
            assert time.monotonic() - before < 5
            assert refused.value.status == 503
            assert refused.value.errcode == "M_UNKNOWN"
            assert "database" in refused.value.body["error"]
        assert "v1.11" in (await alice.get("/_matrix/client/versions"))["versions"]
        await asyncio.sleep(0.5)

    await asyncio.to_thread(postgres.start)
    await send_when_possible(alice, room_id, "after")
    answer = await bob.sync(timeout_ms=5000)
    assert bodies(timeline(answer, room_id)) == ["before", "after"]
    assert await alice.create_room()


async def test_a_long_poll_survives_an_outage(
    server: RunningServer, postgres: EmbeddedPostgres
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.sync()
    poll = asyncio.create_task(bob.sync(timeout_ms=30_000))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(1)
    assert not poll.done()
    await asyncio.to_thread(postgres.start)
    await send_when_possible(alice, room_id, "after")
    async with asyncio.timeout(5):
        assert bodies(timeline(await poll, room_id)) == ["after"]


async def test_the_writers_connection_is_replaced_and_none_is_left_over(
    server: RunningServer, postgres: EmbeddedPostgres
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    admin = await asyncpg.connect(postgres.url)
    for number in range(5):
        cut = await admin.fetchval(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        assert cut
        await send_when_possible(alice, room_id, str(number))
    held = await admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    connections = await admin.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'homeserver'"
    )
    assert held == 1
    assert connections <= server.config.database_connections + 1
    await admin.close()


async def test_a_crash_of_postgres_in_a_load_loses_nothing(
    server: RunningServer, postgres: EmbeddedPostgres
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    await alice.sync()
    under_way = asyncio.Event()

    async def load(name: str) -> None:
        for number in range(20):
            await send_when_possible(alice, room_id, f"{name}.{number}")
            if number == 5:
                under_way.set()

    tasks = [asyncio.create_task(load(name)) for name in "abcd"]
    async with asyncio.timeout(10):
        await under_way.wait()
    crash(postgres)
    await asyncio.to_thread(postgres.start)
    await asyncio.gather(*tasks)
    answer = await alice.sync(filter='{"room":{"timeline":{"limit":100}}}')
    texts = bodies(timeline(answer, room_id))
    for name in "abcd":
        assert [t for t in texts if t[0] == name] == [f"{name}.{n}" for n in range(20)]


def crash(postgres: EmbeddedPostgres) -> None:
    assert postgres._process is not None
    os.kill(postgres._process.pid, signal.SIGKILL)
    postgres._process.wait(10)
    postgres.stop()


def names(callbacks: list[Published]) -> set[str]:
    """The classes of those who are called back."""
    return {type(callback.__self__).__name__ for callback in callbacks}  # type: ignore[attr-defined]


async def test_whoever_takes_in_commits_hears_of_those_that_may_have_been_lost(
    server: RunningServer,
) -> None:
    assert server.app is not None
    writer = server.app.stream.writer
    # Presence is never written.
    assert names(writer._apply) - names(writer._failed) == {"Presence"}
