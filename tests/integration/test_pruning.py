"""What grows with time is pruned, and nobody misses what goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from homeserver.clock import now_ms
from homeserver.services.pruning import DAY_MS, DEAD_DAYS, Pruning
from homeserver.store import device_lists as device_list_store
from tests.support.client import Client
from tests.support.encryption import Device
from tests.support.server import RunningServer


async def prune(server: RunningServer, unseen_days: int | None = None) -> list[tuple[str, str]]:
    """Prunes; the devices that were to be logged out."""
    assert server.app is not None
    logged_out: list[tuple[str, str]] = []

    async def delete_devices(user_id: str, device_ids: Sequence[str]) -> None:
        logged_out.extend((user_id, device_id) for device_id in device_ids)

    await Pruning(server.app.database, delete_devices, unseen_days, now_ms).prune()
    return logged_out


async def sql(server: RunningServer, statement: str, *values: Any) -> list[Any]:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        return [row[0] for row in await connection.fetch(statement, *values)]


async def prune_changes(server: RunningServer, told_upto: int) -> None:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await device_list_store.prune(connection, told_upto)


async def changes_of(server: RunningServer, client: Client) -> list[str]:
    return await sql(
        server,
        "SELECT device_id FROM device_list_changes WHERE user_id = $1 ORDER BY position",
        client.user_id,
    )


async def test_of_device_list_changes_the_newest_of_each_device_stay(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.sync()
    laptop = await alice.another_device()
    for _ in range(3):
        await Device(laptop).upload()
    await Device(alice).upload()
    gone = await alice.another_device()
    await gone.post("/logout")
    await Device(alice).upload()

    await prune_changes(server, told_upto=2**62)
    assert await changes_of(server, alice) == [laptop.device_id, alice.device_id]
    # A client that was away since before reads it from Postgres.
    await server.restart()
    answer = await server.moved(bob).sync()
    assert answer["device_lists"]["changed"] == [alice.user_id]


async def test_a_deleted_device_is_remembered_until_all_servers_were_told(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    gone = await alice.another_device()
    await gone.post("/logout")
    await Device(alice).upload()
    await prune_changes(server, told_upto=0)
    assert gone.device_id in await changes_of(server, alice)


async def test_devices_that_nobody_has_any_more_are_logged_out(server: RunningServer) -> None:
    alice = await server.user("alice")
    old, fresh = await alice.another_device(), await alice.another_device()
    long_ago = now_ms() - 31 * DAY_MS
    await sql(
        server,
        "UPDATE devices SET last_seen_at = $1, created_at = $1 WHERE device_id = $2 RETURNING 1",
        long_ago,
        old.device_id,
    )
    await sql(
        server,
        "UPDATE devices SET last_seen_at = $1, created_at = $2 WHERE device_id = $3 RETURNING 1",
        now_ms(),
        long_ago,
        fresh.device_id,
    )
    assert await prune(server) == []
    assert await prune(server, unseen_days=30) == [(alice.user_id, old.device_id)]


async def test_what_waits_for_a_server_that_is_long_dead_goes(server: RunningServer) -> None:
    dead_since = now_ms() - (DEAD_DAYS + 1) * DAY_MS
    for name, since in (("dead.test", dead_since), ("away.test", now_ms())):
        await sql(
            server,
            "INSERT INTO server_outages VALUES ($1, $2, 9, $2) RETURNING 1",
            name,
            since,
        )
        await sql(server, "INSERT INTO outgoing_to_device VALUES ($1, 1, '{}') RETURNING 1", name)
    await prune(server)
    assert await sql(server, "SELECT destination FROM outgoing_to_device") == ["away.test"]


async def test_devices_of_users_with_whom_no_room_is_shared_go(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.create_room()
    (room,) = await sql(server, "SELECT room_number FROM rooms")
    await sql(
        server,
        """
        INSERT INTO memberships (room_number, user_id, membership, event_id, sender, position,
                                 joined_from, is_local)
        VALUES ($1, '@near:x.test', 'join', '$a', '@near:x.test', 1, 1, false) RETURNING 1
        """,
        room,
    )
    for user_id in ("@near:x.test", "@far:x.test"):
        await sql(
            server, "INSERT INTO remote_device_lists VALUES ($1, 1, false, 1) RETURNING 1", user_id
        )
        await sql(
            server, "INSERT INTO remote_devices VALUES ($1, 'D', '{}', NULL) RETURNING 1", user_id
        )
    await prune(server)
    for table in ("remote_device_lists", "remote_devices"):
        assert await sql(server, f"SELECT user_id FROM {table}") == ["@near:x.test"]


async def test_placed_events_are_remembered_as_long_as_a_follower_may_ask(
    server: RunningServer,
) -> None:
    await sql(server, "INSERT INTO placed_later VALUES (1, 1), (8000000000, 2) RETURNING 1")
    await sql(server, "INSERT INTO follower_positions VALUES ('slow', 7) RETURNING 1")
    await sql(server, "UPDATE media_links_position SET position = 5 RETURNING 1")
    await prune(server)
    assert await sql(server, "SELECT position FROM placed_later") == [8000000000]
