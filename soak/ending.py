"""The end of a soak: everything is mended, everybody says a last word, the rooms are compared."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from soak.compare import Difference, differences, shown_late, soft_failed
from soak.people import Person, join
from soak.town import Room, Town
from soak.views import view_of
from tests.support.client import Refused

DELIVERY_SECONDS = 120.0
EQUAL_SECONDS = 240.0
AGAIN_SECONDS = 5.0


class Ending:
    """`found` is what differs in the end, the rest says what was compared."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self.found: list[Difference] = []
        self.soft_failed: Counter[str] = Counter()
        self.shown_late = 0
        self.sizes: dict[int, int] = {}

    async def judge(self) -> None:
        """All rooms, and the messages to devices."""
        await asyncio.gather(*map(self._end_room, self._town.rooms))
        end = time.monotonic() + EQUAL_SECONDS
        left = list(self._town.rooms)
        while left and time.monotonic() < end:
            left = [room for room in left if not await self._is_equal(room)]
            if left:
                print(f"  not yet equal: rooms {[room.number for room in left]}", flush=True)
                await asyncio.sleep(AGAIN_SECONDS)
        for room in left:
            self.found += await self._compare(room)

    async def _end_room(self, room: Room) -> None:
        observers = await self._observers(room)
        for number in range(2):
            await self._last_words(room, observers, f"last word {number}")
        await self._last_receipts(room, observers)

    async def _observers(self, room: Room) -> list[Person]:
        """One member on each server."""
        town = self._town
        found = [town.anchor(server) for server in room.servers]
        if room.visitor is not None:
            found.append(await self._visitor(room, room.visitor))
        return found

    async def _visitor(self, room: Room, server: int) -> Person:
        """A guest of a server that may be out of the room, or only think that it is in it.

        Where a partition had its users joined and the resolution says that they never were, the
        others don't tell it so: they think that it isn't there. Its users leave and come back. A
        leave that is still on its way when the host invites would take the new join back.
        """
        town = self._town
        guest, host = town.of_server(server)[1], town.anchor(room.host)
        for each in town.of_server(server):
            await each.once(each.client.leave(room.room_id))
        users = {each.user_id for each in town.of_server(server)}
        for other in room.servers:
            await _until_members(town.anchor(other), room, users.isdisjoint)
        path = f"/rooms/{quote(room.room_id)}/unban"
        await host.once(host.client.post(path, {"user_id": guest.user_id}))
        await host.once(host.client.invite(room.room_id, guest.user_id))
        await guest.until_answered(lambda: join(guest, room.room_id, town.server_name(room.host)))
        for other in room.servers:
            await _until_members(town.anchor(other), room, {guest.user_id}.issubset)
        return guest

    async def _last_words(self, room: Room, observers: list[Person], text: str) -> None:
        """One after the other, so that the last one refers to all that there is."""
        for person in observers:
            body = f"{text} of {person.user_id}"
            try:
                event_id = await person.client.send(room.room_id, body)
            except Refused:
                if person.is_anchor:
                    raise
                continue  # a guest may have no right to
            room.sent[body] = event_id
            room.events.append(event_id)
            for other in observers:
                if not await _until(partial(_was_told, other, event_id)):
                    problem = f"{other.user_id} was never told the last word of {person.user_id}"
                    self.found.append(Difference(room, problem, (event_id,)))
                    return

    async def _last_receipts(self, room: Room, observers: list[Person]) -> None:
        event_id = room.events[-1]
        path = f"/rooms/{quote(room.room_id)}/receipt/m.read/{quote(event_id, safe='')}"
        for person in observers:
            await person.client.post(path)
        for person in observers:
            wanted = {(other.user_id, event_id) for other in observers}
            if not await _until(partial(wanted.issubset, person.receipts)):
                text = f"{person.user_id} lacks receipts of {wanted - person.receipts}"
                self.found.append(Difference(room, text, (event_id,)))

    async def _is_equal(self, room: Room) -> bool:
        return not await self._compare(room)

    async def _compare(self, room: Room) -> list[Difference]:
        town = self._town
        observers = [town.anchor(server) for server in room.servers]
        if room.visitor is not None:
            observers.append(town.of_server(room.visitor)[1])
        views = [await view_of(observer, room.room_id) for observer in observers]
        found = differences(room, views)
        if not found:
            self.soft_failed += soft_failed(views)
            self.shown_late += shown_late(views)
            self.sizes[room.number] = len(views[0].history)
        return found

    async def to_device_problems(self) -> list[str]:
        """Messages to devices that didn't arrive exactly once."""
        sent = self._town.to_device.items()
        await _until(lambda: all(reader.received[number] for number, (reader, _) in sent))
        found = []
        for number, (reader, most) in self._town.to_device.items():
            count = reader.received[number]
            if not 1 <= count <= most:
                found.append(f"message {number} reached {reader.user_id} {count} times")
        return found

    def repetitions(self) -> list[str]:
        """Events that /sync told somebody twice who never left."""
        return [
            f"{person.user_id} was told {event_id} {count} times"
            for person in self._town.people
            if person.is_anchor
            for event_id, count in person.told.items()
            if count > 1
        ]


async def _until_members(anchor: Person, room: Room, hold: Callable[[set[str]], bool]) -> None:
    """Waits until `hold` of the members that the anchor's server shows, but not for ever."""
    end = time.monotonic() + DELIVERY_SECONDS
    while time.monotonic() < end:
        members = await anchor.once(anchor.client.joined_members(room.room_id))
        if members is not None and hold(members):
            return
        await asyncio.sleep(0.2)


def _was_told(person: Person, event_id: str) -> bool:
    return person.told[event_id] > 0


async def _until(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + DELIVERY_SECONDS
    while not holds():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.05)
    return True
