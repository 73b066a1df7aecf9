"""Work beside the requests goes on, whatever happens to it."""

from __future__ import annotations

import asyncio

import pytest

from homeserver import background
from homeserver.backoff import Backoff


async def test_work_that_fails_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "PAUSE_SECONDS", 0.0)
    begun: list[int] = []
    third = asyncio.Event()

    async def work() -> None:
        begun.append(len(begun))
        if len(begun) < 3:
            raise ValueError("a fault")
        third.set()
        await asyncio.Event().wait()

    task = background.start(work)
    async with asyncio.timeout(10):
        await third.wait()
        await background.end(task)
    assert begun == [0, 1, 2]
    assert task.cancelled()


def test_the_wait_doubles_up_to_its_limit() -> None:
    backoff = Backoff(2.0, 9.0, chance=lambda: 0.5)
    assert [backoff.after(failures) for failures in (1, 2, 3, 4, 10_000)] == [2, 4, 8, 9, 9]


def test_the_wait_varies_by_a_fifth() -> None:
    shortest = Backoff(10, 10, chance=lambda: 0.0)
    longest = Backoff(10, 10, chance=lambda: 1.0)
    assert [round(backoff.after(1), 6) for backoff in (shortest, longest)] == [8, 12]
