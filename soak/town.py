"""Everybody, the rooms they are in, and what was sent in them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from homeserver.json_types import JsonObject
from soak.people import Person, join
from soak.plan import PEOPLE, SERVERS, VERSIONS, VISITORS
from soak.servers import Servers
from tests.support.client import Client


@dataclass
class Room:
    """The server `visitor` (if any) has no anchor in it: its people come and go."""

    number: int
    version: str
    host: int
    visitor: int | None
    room_id: str = ""
    events: list[str] = field(default_factory=list)
    sent: dict[str, str] = field(default_factory=dict)
    """Text -> event id of every message that was acknowledged."""

    @property
    def servers(self) -> list[int]:
        """Those that are in it all the time."""
        return [index for index in range(SERVERS) if index != self.visitor]


class Town:
    """`to_device`: number of the message -> to whom, and how often it may arrive at most."""

    def __init__(self, servers: Servers, http: aiohttp.ClientSession) -> None:
        self.servers = servers
        self._http = http
        self.people: list[Person] = []
        self.rooms: list[Room] = []
        self.to_device: dict[int, tuple[Person, int]] = {}
        self.done: Counter[str] = Counter()
        self._following: list[asyncio.Task[None]] = []

    def anchor(self, server: int) -> Person:
        return self.people[server * PEOPLE]

    def of_server(self, server: int) -> list[Person]:
        return self.people[server * PEOPLE : (server + 1) * PEOPLE]

    def guests(self) -> list[Person]:
        """Who isn't an anchor."""
        return [person for person in self.people if not person.is_anchor]

    def server_name(self, server: int) -> str:
        return self.servers.all[server].server_name

    async def settle(self) -> None:
        """Everybody moves in."""
        for server in self.servers.all:
            for number in range(PEOPLE):
                client = Client(self._http, server.url)
                await client.register("anchor" if number == 0 else f"guest{number}")
                self.people.append(Person(client, server, number == 0))
        for person in self.people:
            await person.client.sync()
            self._following.append(asyncio.create_task(person.follow()))
        for number, version in enumerate(VERSIONS):
            room = Room(number, version, number % SERVERS, VISITORS.get(number))
            await self._furnish(room)
            self.rooms.append(room)

    async def _furnish(self, room: Room) -> None:
        host = self.anchor(room.host)
        levels = self.levels(room)
        room.room_id = await host.client.create_room(
            preset="public_chat",
            room_version=room.version,
            name=f"room {room.number}",
            power_level_content_override=levels,
        )
        for server in room.servers:
            if server != room.host:
                await join(self.anchor(server), room.room_id, self.server_name(room.host))

    def levels(self, room: Room) -> JsonObject:
        """Power levels to begin with: the anchors have 100, their being the creator aside."""
        anchors = [self.anchor(server) for server in room.servers]
        # "the creators must not be in `users`" from room version 12 on
        named = [a for a in anchors if room.version != "12" or a is not self.anchor(room.host)]
        return {
            "users": {anchor.user_id: 100 for anchor in named},
            "events": {"m.room.power_levels": 100, "m.room.join_rules": 100},
            "state_default": 50,
            "events_default": 0,
        }

    async def end(self) -> None:
        """Nobody syncs any more."""
        for task in self._following:
            task.cancel()
        await asyncio.gather(*self._following, return_exceptions=True)
