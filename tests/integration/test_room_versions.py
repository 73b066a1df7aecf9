"""A room of every version can be made, joined, used, redacted in, and upgraded."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.client import bodies
from tests.support.server import RunningServer

VERSIONS = sorted(ROOM_VERSIONS, key=int)


async def test_all_versions_are_stable_and_12_is_the_default(server: RunningServer) -> None:
    alice = await server.user("alice")
    versions = (await alice.get("/capabilities"))["capabilities"]["m.room_versions"]
    assert versions["default"] == "12"
    assert versions["available"] == {str(version): "stable" for version in range(1, 13)}
    create = await alice.state(await alice.create_room(), "m.room.create")
    assert create["room_version"] == "12"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_room_lives_its_life(server: RunningServer, version: str) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(room_version=version, preset="public_chat", name="pub")
    assert (":" in room_id) is (version != "12")
    await bob.join(room_id)
    hello = await bob.send(room_id, "hello")
    await alice.send(room_id, "hi")
    await alice.set_state(room_id, "m.room.topic", {"topic": "beer"})
    await alice.redact(room_id, hello, reason="rude")

    page = await bob.messages(room_id, limit="50")
    assert bodies([e for e in page["chunk"] if "redacted_because" not in e["unsigned"]]) == ["hi"]
    redacted = await bob.event(room_id, hello)
    assert redacted["content"] == {}
    redaction = redacted["unsigned"]["redacted_because"]
    assert redaction["redacts"] == redaction["content"]["redacts"] == hello
    assert await bob.joined_members(room_id) == {alice.user_id, bob.user_id}
    assert (await bob.state(room_id, "m.room.topic"))["topic"] == "beer"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_room_is_upgraded_to_its_version(server: RunningServer, version: str) -> None:
    alice = await server.user("alice")
    old_version = "1" if version != "1" else "2"
    old = await alice.create_room(room_version=old_version, name="pub", preset="public_chat")
    await alice.set_state(old, "m.room.topic", {"topic": "beer"})

    answer: Any = await alice.post(f"/rooms/{quote(old)}/upgrade", {"new_version": version})

    new = answer["replacement_room"]
    create = await alice.state(new, "m.room.create")
    assert create["room_version"] == version
    assert create["predecessor"]["room_id"] == old
    assert (await alice.state(old, "m.room.tombstone"))["replacement_room"] == new
    assert (await alice.state(new, "m.room.name"))["name"] == "pub"
    assert (await alice.state(new, "m.room.topic"))["topic"] == "beer"
