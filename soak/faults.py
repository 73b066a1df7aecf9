"""What goes wrong, by a plan, and is mended again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable

from soak.links import Link
from soak.plan import Fault
from soak.servers import Servers


class Faults:
    """One at a time: a fault is mended before the next one comes."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self.done: Counter[str] = Counter()

    async def drive(self, faults: Iterable[Fault], seconds: float) -> None:
        """Until the time is over; ends with everything mended."""
        end = time.monotonic() + seconds
        for fault in faults:
            if time.monotonic() + fault.pause >= end:
                return
            await asyncio.sleep(fault.pause)
            server = self._servers.all[fault.server]
            print(f"  {fault.kind} of {server.name} for {fault.seconds:.0f} s", flush=True)
            await getattr(self, f"do_{fault.kind}")(fault)
            self.done[fault.kind] += 1

    async def do_restart(self, fault: Fault) -> None:
        server = self._servers.all[fault.server]
        await server.stop()
        await server.start()

    async def do_crash(self, fault: Fault) -> None:
        server = self._servers.all[fault.server]
        await server.kill()
        await server.start()

    async def do_outage(self, fault: Fault) -> None:
        server = self._servers.all[fault.server]
        await server.stop()
        await asyncio.sleep(fault.seconds)
        await server.start()

    async def do_crash_outage(self, fault: Fault) -> None:
        server = self._servers.all[fault.server]
        await server.kill()
        await asyncio.sleep(fault.seconds)
        await server.start()

    async def do_isolation(self, fault: Fault) -> None:
        """Nobody reaches the server, it reaches nobody; its people go on."""
        await _cut(self._servers.between(fault.server), fault.seconds)

    async def do_split(self, fault: Fault) -> None:
        """Two servers don't reach each other; the third one reaches both."""
        await _cut(self._servers.between(fault.server, fault.other), fault.seconds)

    async def do_deafness(self, fault: Fault) -> None:
        """One can't call the other, but is called by it."""
        await _cut([self._servers.links[fault.server, fault.other]], fault.seconds)


async def _cut(links: list[Link], seconds: float) -> None:
    for link in links:
        link.cut()
    try:
        await asyncio.sleep(seconds)
    finally:
        for link in links:
            link.heal()
