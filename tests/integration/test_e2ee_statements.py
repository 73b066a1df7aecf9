"""How many statements keys, messages and syncs cost: as many for hundreds as for one."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from tests.support.client import Client
from tests.support.encryption import Device, one_time_keys
from tests.support.server import RunningServer


class Statements:
    """Those that requests send meanwhile, without the housekeeping's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent: list[str] = []
        real = asyncpg.Connection._execute  # type: ignore[attr-defined]

        async def execute(connection: Any, query: str, *arguments: Any, **options: Any) -> Any:
            if any(frame.filename.endswith("http/middleware.py") for frame in inspect.stack()):
                self._sent.append(query)
            return await real(connection, query, *arguments, **options)

        monkeypatch.setattr(asyncpg.Connection, "_execute", execute)

    @contextmanager
    def counted(self) -> Iterator[list[str]]:
        """The statements sent within the block."""
        before = len(self._sent)
        found: list[str] = []
        yield found
        found += self._sent[before:]


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    return Statements(monkeypatch)


async def devices_of(client: Client, count: int) -> list[Client]:
    """Further devices of a user, with keys."""
    devices = [await client.another_device() for _ in range(count)]
    for device in devices:
        await Device(device).upload(one_time_keys=one_time_keys(*"ABCD"))
    return devices


async def test_asking_claiming_and_sending_cost_the_same_for_many(
    server: RunningServer, statements: Statements
) -> None:
    alice, others = await server.user("alice"), [await server.user() for _ in range(5)]
    devices = [device for other in others for device in await devices_of(other, 2)]
    await alice.get("/account/whoami")  # from now on her token is known
    counts: list[list[int]] = []
    for some in (devices[:1], devices):
        wanted: dict[str, dict[str, Any]] = {}
        for device in some:
            wanted.setdefault(device.user_id, {})[device.device_id] = {"some": "content"}
        claims = {u: dict.fromkeys(ids, "signed_curve25519") for u, ids in wanted.items()}
        costs = []
        with statements.counted() as sent:
            await alice.post("/keys/query", {"device_keys": {u: [] for u in wanted}})
        costs.append(len(sent))
        with statements.counted() as sent:
            await alice.post("/keys/claim", {"one_time_keys": claims})
        costs.append(len(sent))
        await alice.put(f"/sendToDevice/first/{len(some)}", {"messages": wanted})
        with statements.counted() as sent:
            await alice.put(f"/sendToDevice/test/{len(some)}", {"messages": wanted})
        costs.append(len(sent))
        counts.append(costs)

    assert counts[0] == counts[1] == [3, 1, 0], "the writer sends messages, not the request"


async def test_a_hundred_one_time_keys_are_added_by_one_statement(
    server: RunningServer, statements: Statements
) -> None:
    alice = await server.user("alice")
    await alice.get("/account/whoami")  # from now on her token is known
    keys = one_time_keys(*(f"key{n}" for n in range(100)))

    with statements.counted() as sent:
        await alice.post("/keys/upload", {"one_time_keys": keys})

    assert len([query for query in sent if "INTO one_time_keys" in query]) == 1
    assert len(sent) == 2, "the other one counts what is left"


async def test_a_sync_needs_no_statement_for_what_is_recent(
    server: RunningServer, statements: Statements
) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.sync()
    await bob.sync()

    with statements.counted() as sent:
        await bob.sync()
    assert sent == []

    await Device(alice).upload()
    messages: dict[str, dict[str, Any]] = {bob.user_id: {bob.device_id: {}}}
    await alice.put("/sendToDevice/test/1", {"messages": messages})
    with statements.counted() as sent:
        answer = await bob.sync()
    assert answer["device_lists"]["changed"] == [alice.user_id]
    assert len(answer["to_device"]["events"]) == 1
    assert sent == []
