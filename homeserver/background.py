"""Work that goes on beside all requests until the server ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

PAUSE_SECONDS = 5.0

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


async def end(task: asyncio.Task[None]) -> None:
    """Cancel the work and wait for its end."""
    task.cancel()
    await asyncio.wait([task])


def beside(stack: AsyncExitStack, work: Work) -> None:
    """Does `work` beside everything else until the stack is unwound."""
    stack.push_async_callback(end, start(work))
