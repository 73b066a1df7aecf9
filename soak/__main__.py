"""`make soak`: plays, compares, says what came of it; the exit status is 1 if anything differs.

make soak                        half an hour
make soak MINUTES=3 SEED=7       shorter, and otherwise
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from soak import plan
from soak.ending import Ending
from soak.faults import Faults
from soak.report import print_differences
from soak.servers import Servers
from soak.town import Town
from soak.traffic import Traffic


class Soak:
    """One run in `directory`."""

    def __init__(self, directory: Path, http: aiohttp.ClientSession) -> None:
        self.servers = Servers(directory)
        self.town = Town(self.servers, http)
        self.faults = Faults(self.servers)
        self.ending = Ending(self.town)
        self._begun = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self._begun:6.0f} s] {text}", flush=True)

    async def run(self, options: argparse.Namespace) -> bool:
        """Is everything equal in the end?"""
        self.say("starting the servers")
        await self.servers.start()
        await self.town.settle()
        memory = [server.memory_mb() for server in self.servers.ours]
        self.say(f"{options.minutes} minutes of traffic, seed {options.seed}")
        traffic = Traffic(self.town, options.rate)
        seconds = options.minutes * 60
        await asyncio.gather(
            traffic.drive(plan.actions(options.seed), seconds),
            self.faults.drive(plan.faults(options.seed), seconds),
        )
        await traffic.finish()
        self.say("comparing")
        await self.ending.judge()
        problems = [
            *(f"an action failed: {error!r}" for error in traffic.failures),
            *await self.ending.to_device_problems(),
            *self.ending.repetitions(),
            *(f"{server.name} logged {e}" for server in self.servers.ours for e in server.errors()),
        ]
        self._tell(memory)
        for problem in problems[:100]:
            print(problem[:2000])
        await print_differences(self.ending.found, self.servers.all)
        return not problems and not self.ending.found

    def _tell(self, memory: list[float]) -> None:
        self.say("done")
        print("actions: ", dict(sorted(self.town.done.items())))
        print("faults: ", dict(sorted(self.faults.done.items())))
        print("events compared, by room: ", self.ending.sizes)
        print("soft-failed, shown by others: ", dict(self.ending.soft_failed))
        print("shown after what refers to them: ", self.ending.shown_late)
        print("messages to devices: ", len(self.town.to_device))
        for server, before in zip(self.servers.ours, memory, strict=True):
            print(f"memory of {server.name}: {before:.0f} MB, then {server.memory_mb():.0f} MB")

    async def end(self) -> None:
        await self.town.end()
        await self.servers.stop()


async def play(options: argparse.Namespace, directory: Path) -> bool:
    running = asyncio.current_task()
    assert running is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as http:
        soak = Soak(directory, http)
        try:
            return await soak.run(options)
        finally:
            await soak.end()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4.0, help="actions a second")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    is_equal = asyncio.run(play(options, directory))
    if is_equal:
        shutil.rmtree(directory, ignore_errors=True)
    print("EQUAL" if is_equal else f"NOT EQUAL; logs and data are in {directory}")
    sys.exit(not is_equal)


main()
