"""A destination's task: no wake is lost when it ends, and nobody is blamed for our trouble."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from msgspec.structs import replace

from homeserver.errors import Unavailable
from homeserver.remote.availability import Availability
from homeserver.services.federation_sender import destination as destination_file
from homeserver.services.federation_sender.destination import Destination, Means


class Taker:
    """The client and Postgres as a destination sees them: takes all, has nothing stored."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []

    async def put_canonical(self, _name: str, _path: str, body: bytes, _terms: Any) -> None:
        self.taken.append(body)


def destination(taker: Taker) -> Destination:
    means = Means(
        client=cast(Any, taker),
        availability=Availability(lambda: 0),
        stored=cast(Any, None),
        read_events=cast(Any, None),
        newest=lambda: 0,
        clock=lambda: 0,
        server_name="one.test",
    )
    return Destination("two.test", means, 0)


async def test_an_event_that_comes_while_the_task_ends_is_told() -> None:
    taker = Taker()
    to = destination(taker)
    to.add_event(1, b'"first"')
    task = to._task
    assert task is not None
    # Runs when the task is done, before the destination hears of that: it was added first.
    task.remove_done_callback(to._ended)
    task.add_done_callback(lambda _: to.add_event(2, b'"second"'))
    task.add_done_callback(to._ended)
    async with asyncio.timeout(5):
        while len(taker.taken) < 2:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0)
    assert b'"second"' in taker.taken[1]
    await to.stop()


async def test_a_server_is_not_taken_for_dead_while_our_database_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(destination_file, "AGAIN_SECONDS", 0.0)
    taker = Taker()
    to = destination(taker)
    failures = iter([Unavailable("away"), Unavailable("still away")])

    async def read_events(*_: object) -> list[tuple[int, bytes]]:
        for failure in failures:
            raise failure
        return [(1, b'"first"')]

    to._means = replace(to._means, read_events=read_events)
    to.behind_from = 0
    to.wake()
    async with asyncio.timeout(5):
        while not taker.taken:  # noqa: ASYNC110 - bounded
            await asyncio.sleep(0)
    assert b'"first"' in taker.taken[0]
    assert to._means.availability.retry_at("two.test") == 0
    await to.stop()
