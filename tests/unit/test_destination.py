"""A destination's task: no wake is lost when it ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from homeserver.remote.availability import Availability
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
