"""The three servers, each a process of its own, and the links between them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Protocol

from homeserver.json_types import JsonObject
from soak.links import Link
from tests.interop.synapse import Synapse
from tests.support.certificates import Authority
from tests.support.ports import free_ports
from tests.support.process import ServerProcess
from tests.support.server import settings

PATIENCE_SECONDS = 300.0
"""The machine may have other things to do."""


class Server(Protocol):
    """One of the three. `is_up` is false while it is down on purpose."""

    name: str
    server_name: str
    url: str
    directory: Path
    is_up: bool

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def kill(self) -> None: ...

    def log_text(self) -> str: ...


class Ours:
    """A homeserver of ours with its embedded PostgreSQL."""

    def __init__(self, name: str, server_name: str, values: JsonObject, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.name = name
        self.server_name = server_name
        self.directory = directory
        self.is_up = False
        self.process = ServerProcess(values, directory, PATIENCE_SECONDS)
        self.url = f"http://127.0.0.1:{values['listeners'][0]['port']}"

    async def start(self) -> None:
        await self.process.start()
        self.is_up = True

    async def stop(self) -> None:
        self.is_up = False
        await self.process.end()

    async def kill(self) -> None:
        self.is_up = False
        await asyncio.to_thread(self.process.kill)

    async def close(self) -> None:
        await self.process.close()

    def log_text(self) -> str:
        return self.process.log()

    def memory_mb(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [kilobytes] = [x.split()[1] for x in status.splitlines() if x.startswith("VmRSS")]
        return int(kilobytes) / 1024

    def errors(self) -> list[str]:
        """What it logged as an error."""
        lines = self.log_text().splitlines()
        return [x for x in lines if '"level":"error"' in x or '"level":"critical"' in x]


class Theirs:
    """Synapse."""

    name = "synapse"

    def __init__(self, synapse: Synapse, directory: Path) -> None:
        self._synapse = synapse
        self.server_name = synapse.server_name
        self.url = synapse.url
        self.directory = directory
        self.is_up = False

    async def start(self) -> None:
        starting = asyncio.ensure_future(asyncio.to_thread(self._synapse.start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            await asyncio.wait([starting])  # so that `stop` finds the process that it starts
            raise
        self.is_up = True

    async def stop(self) -> None:
        self.is_up = False
        await asyncio.to_thread(self._synapse.stop)

    async def kill(self) -> None:
        self.is_up = False
        await asyncio.to_thread(self._synapse.kill)

    def log_text(self) -> str:
        return (self.directory / "output.log").read_text(errors="replace")


class Servers:
    """All three, in the order of the plan's numbers, and `links[from, to]`."""

    def __init__(self, directory: Path) -> None:
        ports = iter(free_ports(12))
        authority = Authority(directory)
        synapse = Synapse(directory / "synapse", authority, (next(ports), next(ports)))
        names = [f"localhost:{next(ports)}", f"localhost:{next(ports)}", synapse.server_name]
        listening = [next(ports), next(ports), synapse.federation_port]
        self.links: dict[tuple[int, int], Link] = {}
        for index in (0, 1):
            # Synapse goes where the name says, ours where they are told to go.
            self.links[2, index] = Link(int(names[index].partition(":")[2]), listening[index])
            for other in {0, 1, 2} - {index}:
                self.links[index, other] = Link(next(ports), listening[other])
        self.ours = [
            Ours(
                ("one", "two")[index],
                names[index],
                self._values(authority, names, index, (next(ports), listening[index])),
                directory / ("one", "two")[index],
            )
            for index in (0, 1)
        ]
        self.all: list[Server] = [*self.ours, Theirs(synapse, directory / "synapse")]

    def _values(
        self, authority: Authority, names: list[str], index: int, ports: tuple[int, int]
    ) -> JsonObject:
        certificate, key = authority.certificate("localhost")
        tls = {"certificate": str(certificate), "private_key": str(key)}
        resolve = {
            names[to]: f"127.0.0.1:{link.port}"
            for (start, to), link in self.links.items()
            if start == index
        }
        return settings(
            "embedded",
            server_name=names[index],
            listeners=[
                {"port": ports[0], "resources": ["client"]},
                {"port": ports[1], "resources": ["federation"], "tls": tls},
            ],
            federation={"resolve": resolve},
            outgoing={"ca_file": str(authority.ca_file)},
        )

    async def start(self) -> None:
        for link in self.links.values():
            await link.start()
        for server in self.all:
            await server.start()

    async def stop(self) -> None:
        for link in self.links.values():
            await link.stop()
        await self.all[2].stop()
        for server in self.ours:
            await server.close()

    def between(self, server: int, other: int | None = None) -> list[Link]:
        """The links of a server, both ways; with `other` only those between the two."""
        return [
            link
            for ends, link in self.links.items()
            if server in ends and (other is None or other in ends)
        ]
