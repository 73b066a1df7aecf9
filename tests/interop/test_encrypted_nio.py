"""matrix-nio and matrix-js-sdk read what the other encrypts: two implementations of everything."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.interop.nio_client import nio_client, say, texts_of, until_ready
from tests.support.js_client import JsClients
from tests.support.server import RunningServer

pytestmark = [
    pytest.mark.interop,
    pytest.mark.xdist_group("node"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


async def test_nio_and_js_read_each_other(
    server: RunningServer, js: JsClients, tmp_path: Path
) -> None:
    alice = await js.add("alice", await server.user("alice"))
    bob = await server.user("bob")
    room_id = await alice.create_encrypted_room(bob.user_id)
    async with nio_client(bob, tmp_path / "nio") as client:
        texts = texts_of(client)
        await client.join(room_id)
        await until_ready(client, room_id, alice.user_id)

        await alice.send(room_id, "from js", bob.user_id)
        async with asyncio.timeout(20):
            assert await texts.get() == ("from js", True)

        event_id = await say(client, room_id, "from nio")
        assert await alice.read(room_id, event_id) == "from nio"
