"""Does the actions of a plan. To be refused is as good as any other outcome; what is acknowledged
counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from soak.people import TO_DEVICE, Person, join
from soak.plan import Action
from soak.town import Room, Town
from tests.support.client import Refused

AT_ONCE = 16
LEVELS = (0, 0, 50, 75)
CHANGED_LEVELS = ("redact", "kick", "ban", "invite", "events_default", "m.room.topic")


class Traffic:
    """`rate`: actions a second."""

    def __init__(self, town: Town, rate: float) -> None:
        self._town = town
        self._pause = 1 / rate
        self._free = asyncio.Semaphore(AT_ONCE)
        self._running: set[asyncio.Task[None]] = set()
        self.failures: list[BaseException] = []

    async def drive(self, actions: Iterable[Action], seconds: float) -> None:
        """Begins actions until the time is over; what is under way goes on."""
        end = time.monotonic() + seconds
        for action in actions:
            if time.monotonic() >= end:
                return
            await self._free.acquire()
            task = asyncio.create_task(self._do(action))
            self._running.add(task)
            task.add_done_callback(self._ended)
            await asyncio.sleep(self._pause)

    async def finish(self) -> None:
        """Waits for what is under way."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._free.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.failures.append(error)

    async def _do(self, action: Action) -> None:
        person = self._town.people[action.who]
        if not person.server.is_up:
            self._town.done["(server down)"] += 1
            return
        room = self._town.rooms[action.room]
        await getattr(self, f"do_{action.kind}")(person, room, action.what)
        self._town.done[action.kind] += 1

    def _guest(self, what: int) -> Person:
        guests = self._town.guests()
        return guests[what % len(guests)]

    def _anchor(self, room: Room, what: int) -> Person:
        return self._town.anchor(room.servers[what % len(room.servers)])

    # Messages

    async def do_message(self, person: Person, room: Room, what: int) -> None:
        await self._say(person, room, f"{what} of {person.user_id}")

    async def do_burst(self, person: Person, room: Room, what: int) -> None:
        for number in range(what % 30):
            await self._say(person, room, f"{what}.{number} of {person.user_id}")

    async def _say(self, person: Person, room: Room, text: str) -> None:
        if text in room.sent:  # chance gave the same number twice
            return
        txn_id = f"{room.number} {text}"
        send = lambda: person.client.send(room.room_id, text, txn_id=txn_id)  # noqa: E731
        try:
            event_id, _ = await person.until_answered(send)
        except Refused:
            return
        room.sent[text] = event_id
        room.events.append(event_id)

    async def do_redact(self, person: Person, room: Room, what: int) -> None:
        if room.events:
            event_id = room.events[-1 - what % min(len(room.events), 100)]
            await person.once(person.client.redact(room.room_id, event_id, reason=str(what)))

    # State

    async def do_topic(self, person: Person, room: Room, what: int) -> None:
        person = person if what % 2 else self._anchor(room, what)
        content = {"topic": f"topic {what}"}
        await person.once(person.client.set_state(room.room_id, "m.room.topic", content))

    async def do_custom_state(self, person: Person, room: Room, what: int) -> None:
        person = person if what % 3 else self._anchor(room, what)
        state = person.client.set_state(
            room.room_id, "org.example.state", {"what": what}, f"key {what % 5}"
        )
        await person.once(state)

    async def do_rename(self, person: Person, room: Room, what: int) -> None:
        path = f"/profile/{quote(person.user_id)}/displayname"
        await person.once(person.client.put(path, {"displayname": f"name {what}"}))

    async def do_power(self, person: Person, room: Room, what: int) -> None:
        anchor = self._anchor(room, what)
        levels = await anchor.once(anchor.client.state(room.room_id, "m.room.power_levels"))
        if levels is None:
            return
        level = LEVELS[what // 100 % len(LEVELS)]
        if what % 2:
            levels.setdefault("users", {})[self._guest(what // 10).user_id] = level
        else:
            name = CHANGED_LEVELS[what // 10 % len(CHANGED_LEVELS)]
            within = levels.setdefault("events", {}) if "." in name else levels
            within[name] = min(level, 50) if name != "events_default" else level % 50
        content = anchor.client.set_state(room.room_id, "m.room.power_levels", levels)
        await anchor.once(content)

    async def do_join_rule(self, person: Person, room: Room, what: int) -> None:
        anchor = self._anchor(room, what)
        content = {"join_rule": "invite" if what // 10 % 3 == 0 else "public"}
        await anchor.once(anchor.client.set_state(room.room_id, "m.room.join_rules", content))

    # Membership

    async def do_join(self, person: Person, room: Room, what: int) -> None:
        via = self._town.server_name(room.servers[what % len(room.servers)])
        await person.once(join(person, room.room_id, via))

    async def do_leave(self, person: Person, room: Room, what: int) -> None:
        if not person.is_anchor:
            await person.once(person.client.leave(room.room_id))

    async def do_invite(self, person: Person, room: Room, what: int) -> None:
        guest = self._guest(what)
        await person.once(person.client.invite(room.room_id, guest.user_id))

    async def do_kick(self, person: Person, room: Room, what: int) -> None:
        person = person if what % 2 else self._anchor(room, what)
        await person.once(person.client.kick(room.room_id, self._guest(what // 10).user_id))

    async def do_ban(self, person: Person, room: Room, what: int) -> None:
        person = person if what % 2 else self._anchor(room, what)
        await person.once(person.client.ban(room.room_id, self._guest(what // 10).user_id))

    async def do_unban(self, person: Person, room: Room, what: int) -> None:
        anchor = self._anchor(room, what)
        body = {"user_id": self._guest(what // 10).user_id}
        await anchor.once(anchor.client.post(f"/rooms/{quote(room.room_id)}/unban", body))

    # What passes by

    async def do_typing(self, person: Person, room: Room, what: int) -> None:
        path = f"/rooms/{quote(room.room_id)}/typing/{quote(person.user_id)}"
        await person.once(person.client.put(path, {"typing": what % 2 == 0, "timeout": 5000}))

    async def do_receipt(self, person: Person, room: Room, what: int) -> None:
        if room.events:
            event_id = room.events[-1 - what % min(len(room.events), 5)]
            path = f"/rooms/{quote(room.room_id)}/receipt/m.read/{quote(event_id, safe='')}"
            await person.once(person.client.post(path))

    async def do_to_device(self, person: Person, room: Room, what: int) -> None:
        people = [p for p in self._town.people if p is not person]
        reader = people[what % len(people)]
        number = len(self._town.to_device) + 1
        self._town.to_device[number] = (reader, 0)  # not before it is acknowledged
        messages: Any = {reader.user_id: {reader.client.device_id: {"number": number}}}
        path = f"/sendToDevice/{TO_DEVICE}/{number}"
        send = lambda: person.client.put(path, {"messages": messages})  # noqa: E731
        _, again = await person.until_answered(send)
        # Synapse forgets in a crash which of these requests it has answered.
        most = 2 if again and person.server.name == "synapse" else 1
        self._town.to_device[number] = (reader, most)
