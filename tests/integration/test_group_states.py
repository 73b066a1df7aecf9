"""States read from Postgres are remembered within a budget."""

from __future__ import annotations

import pytest

from homeserver.stream import group_states
from homeserver.stream.group_states import GroupStates
from tests.support.server import RunningServer


async def test_what_was_read_is_let_go_for_what_is_read_later(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room()
    for number in range(3):
        await alice.set_state(room_id, "m.room.topic", {"topic": f"{number}"})
    assert server.app is not None
    async with server.app.database.connection() as connection:
        groups = [
            record[0]
            for record in await connection.fetch("SELECT state_group FROM state_groups ORDER BY 1")
        ]
        newest, before = groups[-1], groups[-2]
        states = GroupStates()
        first = (await states.get_many(connection, [newest]))[newest]
        await states.get_many(connection, [before])
        assert states.peek(newest) is first

        monkeypatch.setattr(group_states, "LOADED_ENTRIES", len(first.state))
        states = GroupStates()
        await states.get_many(connection, [before])
        await states.get_many(connection, [groups[0]])

        assert states.peek(before) is None
        again = (await states.get_many(connection, [before]))[before]
        assert again.state != first.state
        assert states.peek(groups[0]) is None
