"""Work that goes on beside all requests until the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

from homeserver.backoff import Backoff
from homeserver.errors import Unavailable

PAUSE_SECONDS = 5.0
BACKOFF = Backoff(5.0, 3600.0)
"""Seconds after a fault of ours."""
DATABASE_PATIENCE_SECONDS = 2.0

Work = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


def start(work: Work) -> asyncio.Task[None]:
    """The task that does `work` until it is cancelled.

    Should a fault of ours end the work, that is told in the log and it begins anew: nobody would
    notice otherwise that devices are no longer marked as seen, or old media no longer deleted.
    """
    return asyncio.create_task(_again_and_again(work))


async def _again_and_again(work: Work) -> None:
    while True:
        try:
            return await work()
        except Exception:
            log.exception("background work failed; it begins anew", work=work.__qualname__)
            await asyncio.sleep(PAUSE_SECONDS)


async def follow(
    has_work: Callable[[], bool],
    step: Callable[[], Awaitable[None]],
    troubled: Callable[[], None],
) -> None:
    """Take steps as long as there is work.

    A step that fails is told by `troubled` and taken again: in a moment if the database is away,
    less and less often after a fault of ours.
    """
    faults = 0
    while has_work():
        try:
            await step()
            faults = 0
        except Unavailable:
            troubled()
            await asyncio.sleep(DATABASE_PATIENCE_SECONDS)
        except Exception:
            log.exception("a step failed; it is tried again", step=step.__qualname__)
            troubled()
            faults += 1
            await asyncio.sleep(BACKOFF.after(faults))


async def end(task: asyncio.Task[None]) -> None:
    """Cancel the work and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


def beside(stack: AsyncExitStack, work: Work) -> None:
    """Does `work` beside everything else until the stack is unwound."""
    stack.push_async_callback(end, start(work))
