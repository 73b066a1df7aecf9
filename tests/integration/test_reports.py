"""Reporting events, rooms and users."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Refused
from tests.support.server import RunningServer


async def reports(server: RunningServer) -> list[tuple[Any, ...]]:
    """What the server keeps for its moderators."""
    connection = await asyncpg.connect(server.config.database)
    try:
        columns = "reporter, room_id, event_id, user_id, reason"
        rows = await connection.fetch(f"SELECT {columns} FROM reports ORDER BY report_id")
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


async def test_events_rooms_and_users_are_reported_to_the_moderators(
    server: RunningServer,
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    event_id = await alice.send(room_id, "rude")
    await bob.join(room_id)

    await bob.post(f"/rooms/{room_id}/report/{event_id}", {"reason": "rude", "score": -100})
    await bob.post(f"/rooms/{room_id}/report/{event_id}")
    await bob.post(f"/rooms/{room_id}/report", {"reason": "all of it"})
    await bob.post(f"/users/{alice.user_id}/report", {"reason": ""})
    await bob.post("/users/@far:away.test/report", {"reason": "spam"})

    assert await reports(server) == [
        (bob.user_id, room_id, event_id, alice.user_id, "rude"),
        (bob.user_id, room_id, event_id, alice.user_id, ""),
        (bob.user_id, room_id, None, None, "all of it"),
        (bob.user_id, None, None, alice.user_id, ""),
        (bob.user_id, None, None, "@far:away.test", "spam"),
    ]


async def test_what_cannot_be_seen_cannot_be_reported(server: RunningServer) -> None:
    alice, eve = await server.user("alice"), await server.user("eve")
    room_id = await alice.create_room(preset="public_chat")
    event_id = await alice.send(room_id, "hello")
    paths = [
        f"/rooms/{room_id}/report/{event_id}",
        "/rooms/!unknown:hs.test/report",
        "/users/@nobody:hs.test/report",
        "/users/nobody/report",
    ]
    for path in paths:
        with pytest.raises(Refused) as refused:
            await eve.post(path, {"reason": "x"})
        assert (refused.value.status, refused.value.errcode) == (404, "M_NOT_FOUND"), path
    await eve.join(room_id)
    with pytest.raises(Refused) as refused:
        await eve.post(f"/rooms/{room_id}/report/$unknown", {"reason": "x"})
    assert refused.value.status == 404
    await eve.leave(room_id)
    with pytest.raises(Refused) as refused:
        await eve.post(f"/rooms/{room_id}/report/{event_id}", {"reason": "x"})
    assert refused.value.status == 404
    assert await reports(server) == []


@pytest.mark.parametrize(
    ("body", "errcode"),
    [({}, "M_MISSING_PARAM"), ({"reason": 7}, "M_BAD_JSON"), ({"reason": None}, "M_BAD_JSON")],
)
async def test_bad_reports_are_refused(
    server: RunningServer, body: JsonObject, errcode: str
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for path in (f"/rooms/{room_id}/report", f"/users/{alice.user_id}/report"):
        with pytest.raises(Refused) as refused:
            await alice.post(path, body)
        assert (refused.value.status, refused.value.errcode) == (400, errcode)
