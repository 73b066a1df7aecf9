"""matrix-js-sdk walks through a space, its rooms, and what is said in them."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.client import Client
from tests.support.js_client import FOLDER, install, node
from tests.support.process import environment
from tests.support.server import RunningServer

pytestmark = [pytest.mark.interop, pytest.mark.xdist_group("node")]


async def test_a_walk_through_rooms_with_the_js_sdk(server: RunningServer) -> None:
    await asyncio.to_thread(install)
    alice, bob = await server.user("alice"), await server.user("bob")
    told = {"baseUrl": server.url, "alice": _account(alice), "bob": _account(bob)}
    process = await asyncio.create_subprocess_exec(
        node(),
        "rooms.mjs",
        json.dumps(told),
        cwd=FOLDER,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(120):
        output, problems = await process.communicate()
    assert process.returncode == 0, output.decode() + problems.decode()
    assert b"walked through" in problems


def _account(client: Client) -> dict[str, str]:
    return {
        "userId": client.user_id,
        "deviceId": client.device_id,
        "accessToken": client.token,
    }
