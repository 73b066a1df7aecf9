"""Work beside the requests goes on, whatever happens to it."""

from __future__ import annotations

import asyncio

import pytest

from homeserver import background


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
