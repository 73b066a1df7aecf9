"""Who waits for an announced upload to arrive."""

from __future__ import annotations

import asyncio

from homeserver.protocol.mxc import Mxc


class Arrivals:
    """Wakes those who asked for a piece of media before its content was there."""

    def __init__(self) -> None:
        self._waiting: dict[Mxc, set[asyncio.Event]] = {}

    def arrived(self, mxc: Mxc) -> None:
        for event in self._waiting.get(mxc, ()):
            event.set()

    def watch(self, mxc: Mxc) -> asyncio.Event:
        """An event that is set when it arrives; `unwatch` it. Watch first, then look."""
        event = asyncio.Event()
        self._waiting.setdefault(mxc, set()).add(event)
        return event

    def unwatch(self, mxc: Mxc, event: asyncio.Event) -> None:
        waiting = self._waiting[mxc]
        waiting.discard(event)
        if not waiting:
            del self._waiting[mxc]
