"""A few users with two devices each, in a few rooms: what they can do, and what is true."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from homeserver.json_types import JsonObject
from tests.model.client_model import ClientModel, RoomModel
from tests.support.client import Client, Refused
from tests.support.server import RunningServer

USERS = 3
ROOMS = 2


@dataclass
class Device:
    """A device with every token it ever got, and what it knew with each."""

    client: Client
    state_name: str
    query: dict[str, str]
    history: list[tuple[str | None, ClientModel]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.history.append((None, ClientModel(self.state_name)))


@dataclass
class World:
    """`observer` made all rooms and never leaves: what it can read is the truth."""

    server: RunningServer
    observer: Client
    devices: list[Device]
    rooms: list[str]

    @classmethod
    async def make(cls, server: RunningServer) -> World:
        observer = await server.user()
        devices = []
        for index in range(USERS):
            phone = await server.user()
            laptop = await phone.another_device()
            limited = {"room": {"timeline": {"limit": index + 2}}}
            devices.append(Device(phone, "state", {"filter": json.dumps(limited)}))
            devices.append(Device(laptop, "state_after", {"use_state_after": "true"}))
        rooms = [await observer.create_room(preset="public_chat") for _ in range(ROOMS)]
        return cls(server, observer, devices, rooms)

    def device(self, index: int) -> Device:
        return self.devices[index % len(self.devices)]

    def room(self, index: int) -> str:
        return self.rooms[index % len(self.rooms)]

    async def act(self, kind: str, who: int, where: int, what: int) -> None:
        """One action; being refused (not in the room, say) is as good as any other outcome."""
        try:
            await getattr(self, f"do_{kind}")(self.device(who).client, self.room(where), what)
        except Refused as refused:
            assert refused.status in (400, 403, 404), refused

    async def do_send(self, client: Client, room_id: str, what: int) -> None:
        for number in range(what % 4 + 1):
            await client.send(room_id, f"{what} {number}")

    async def do_thread(self, client: Client, room_id: str, what: int) -> None:
        events = await self.events(room_id)
        relation = {"rel_type": "m.thread", "event_id": events[what % len(events)]}
        body = {"msgtype": "m.text", "body": f"{what}", "m.relates_to": relation}
        await client.send(room_id, body)

    async def do_topic(self, client: Client, room_id: str, what: int) -> None:
        await self.observer.set_state(room_id, "m.room.topic", {"topic": str(what)})

    async def do_join(self, client: Client, room_id: str, what: int) -> None:
        await client.join(room_id)

    async def do_leave(self, client: Client, room_id: str, what: int) -> None:
        await client.leave(room_id)

    async def do_invite(self, client: Client, room_id: str, what: int) -> None:
        await self.observer.invite(room_id, client.user_id)

    async def do_kick(self, client: Client, room_id: str, what: int) -> None:
        await self.observer.kick(room_id, client.user_id)

    async def do_redact(self, client: Client, room_id: str, what: int) -> None:
        events = await self.events(room_id)
        await self.observer.redact(room_id, events[what % len(events)])

    async def do_receipt(self, client: Client, room_id: str, what: int) -> None:
        events = await self.events(room_id)
        event_id = events[what % len(events)]
        kind = "m.read.private" if what % 3 == 0 else "m.read"
        body = {"thread_id": "main"} if what % 5 == 0 else {}
        await client.post(f"/rooms/{quote(room_id)}/receipt/{kind}/{quote(event_id)}", body)

    async def do_typing(self, client: Client, room_id: str, what: int) -> None:
        path = f"/rooms/{quote(room_id)}/typing/{quote(client.user_id)}"
        await client.put(path, {"typing": what % 2 == 0, "timeout": 100_000})

    async def do_account_data(self, client: Client, room_id: str, what: int) -> None:
        path = f"/user/{quote(client.user_id)}"
        path += "" if what % 2 else f"/rooms/{quote(room_id)}"
        await client.put(f"{path}/account_data/org.example.{what % 3}", {"value": what})

    async def do_rename(self, client: Client, room_id: str, what: int) -> None:
        content = {"membership": "join", "displayname": str(what)}
        await client.set_state(room_id, "m.room.member", content, client.user_id)

    async def forget_memory(self) -> None:
        """What the server holds in memory only to be quick is gone."""
        app = self.server.app
        assert app is not None
        for room_id in self.rooms:
            app.stream.rooms.drop(room_id)

    async def restart(self) -> None:
        await self.server.restart()
        for client in (self.observer, *(device.client for device in self.devices)):
            self.server.moved(client)

    async def sync(self, device: Device, back: int) -> None:
        """One sync from one of the device's tokens (0: the newest), judged."""
        since, known = device.history[max(0, len(device.history) - 1 - back)]
        query = dict(device.query) if since is None else {**device.query, "since": since}
        answer = await device.client.get("/sync", **query)
        after = known.folded(answer)
        device.history.append((answer["next_batch"], after))
        await self.judge(device.client, after)

    async def events(self, room_id: str) -> list[str]:
        """The room's events, oldest first."""
        page = await self.observer.messages(room_id, limit="1000")
        return [event["event_id"] for event in page["chunk"]][::-1]

    async def judge(self, client: Client, model: ClientModel) -> None:
        """The folded answers are the truth."""
        joined = set((await client.get("/joined_rooms"))["joined_rooms"])
        assert set(model.rooms) == joined
        for room_id in joined & set(self.rooms):
            await self._judge_room(client, room_id, model.rooms[room_id])
        for kind, content in model.account_data.items():
            if kind.startswith("org.example"):
                path = f"/user/{quote(client.user_id)}/account_data/{kind}"
                assert await client.get(path) == content

    async def _judge_room(self, client: Client, room_id: str, room: RoomModel) -> None:
        events = await self.events(room_id)
        assert room.timeline == events[len(events) - len(room.timeline) :]
        state: Any = await client.get(f"/rooms/{quote(room_id)}/state")
        assert room.state == {(e["type"], e["state_key"]): e["event_id"] for e in state}
        members = [e for e in state if e["type"] == "m.room.member"]
        joined = [e for e in members if e["content"]["membership"] == "join"]
        assert room.joined_count == len(joined)
        app = self.server.app
        assert app is not None
        assert room.typing == sorted(app.stream.typing.typing_in(room_id))
        await self._judge_receipts_and_counts(client, room_id, room)
        for kind, content in room.account_data.items():
            if kind.startswith("org.example"):
                path = f"/user/{quote(client.user_id)}/rooms/{quote(room_id)}/account_data/{kind}"
                assert await client.get(path) == content

    async def _judge_receipts_and_counts(
        self, client: Client, room_id: str, room: RoomModel
    ) -> None:
        """As one who syncs for the first time is told them."""
        fresh = Client(client.http, client.url)
        fresh.user_id, fresh.device_id, fresh.token = client.user_id, "", client.token
        answer: JsonObject = await fresh.sync()
        known = RoomModel()
        joined = answer["rooms"]["join"][room_id]
        for event in joined["ephemeral"]["events"]:
            known.fold_ephemeral(event)
        assert room.receipts == known.receipts
        assert room.unread == joined["unread_notifications"]
