"""The same for sliding sync: whatever the windows show, folded answers are the truth."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeserver.json_types import JsonObject
from tests.model.client_model import RoomModel
from tests.model.test_sync_model import ACTIONS, EXAMPLES
from tests.model.world import World
from tests.support.client import Client, Refused
from tests.support.server import RunningServer

PATH = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
ENABLED = {"enabled": True}


@dataclass
class SlidingModel:
    """What a client knows that folds sliding sync answers; its newest answer has `pos`."""

    pos: str | None = None
    rooms: dict[str, RoomModel] = field(default_factory=dict)
    invited: set[str] = field(default_factory=set)
    count: int = 0

    def folded(self, answer: JsonObject) -> SlidingModel:
        after = deepcopy(self)
        after.pos = answer["pos"]
        after.count = answer["lists"]["all"]["count"]
        for room_id, room in answer["rooms"].items():
            if "invite_state" in room:
                after.rooms.pop(room_id, None)
                after.invited.add(room_id)
                continue
            after.invited.discard(room_id)
            if room.get("initial"):
                after.rooms[room_id] = RoomModel()
            elif room_id not in after.rooms:
                continue  # an invite was taken back
            after._fold(after.rooms[room_id], room)
        extensions = answer["extensions"]
        for kind in ("typing", "receipts"):
            for room_id, event in extensions.get(kind, {}).get("rooms", {}).items():
                if room_id in after.rooms:
                    after.rooms[room_id].fold_ephemeral(event)
        return after

    def _fold(self, room: RoomModel, answer: JsonObject) -> None:
        if answer["limited"]:
            room.timeline = []
        for event in answer["timeline"]:
            assert event["event_id"] not in room.timeline, "an event was told twice"
            room.timeline.append(event["event_id"])
        for event in answer["required_state"]:
            room.state[(event["type"], event["state_key"])] = event["event_id"]
        room.unread = {
            name: answer.get(name, room.unread.get(name))
            for name in ("notification_count", "highlight_count")
        }
        room.joined_count = answer.get("joined_count", room.joined_count)


@dataclass
class Slider:
    """A client with the two positions that it can go on from: the newest and the one before."""

    client: Client
    models: list[SlidingModel] = field(default_factory=lambda: [SlidingModel()])

    async def sync(self, *, wide: bool, lost: bool) -> SlidingModel:
        """One answer; `lost`: it never reached the client, which then asks again."""
        window = {
            "ranges": [[0, 99 if wide else 0]],
            "timeline_limit": 5 if wide else 2,
            "required_state": [["*", "*"]],
        }
        extensions = {"typing": ENABLED, "receipts": ENABLED, "account_data": ENABLED}
        body = {"lists": {"all": window}, "extensions": extensions}
        for _ in range(2 if lost else 1):
            answer = await self._ask(body)
        self.models.append(self.models[-1].folded(answer))
        return self.models[-1]

    async def _ask(self, body: JsonObject) -> JsonObject:
        pos = self.models[-1].pos
        try:
            answer: JsonObject = await self.client.post(PATH, body, **({"pos": pos} if pos else {}))
        except Refused as refused:
            assert refused.errcode == "M_UNKNOWN_POS"  # the server was restarted
            self.models.append(SlidingModel())
            answer = await self.client.post(PATH, body)
        return answer


async def judge(world: World, client: Client, model: SlidingModel) -> None:
    """All rooms were shown: the model must know all of them, and nothing wrong."""
    joined = set((await client.get("/joined_rooms"))["joined_rooms"])
    assert joined <= set(model.rooms)
    counts: Any = (await client.get("/sync")).get("rooms", {}).get("join", {})
    for room_id in joined & set(world.rooms):
        room = model.rooms[room_id]
        events = await world.events(room_id)
        assert room.timeline == events[len(events) - len(room.timeline) :]
        state: Any = await client.get(f"/rooms/{room_id}/state")
        assert room.state == {(e["type"], e["state_key"]): e["event_id"] for e in state}
        members = [e for e in state if e["type"] == "m.room.member"]
        assert room.joined_count == sum(e["content"]["membership"] == "join" for e in members)
        assert world.server.app is not None
        typing = world.server.app.stream.typing.typing_in(room_id)
        assert room.typing == sorted(typing)
        assert room.unread == counts[room_id]["unread_notifications"]


SYNCS = st.tuples(
    st.just("sync"), st.integers(0, 99), st.sampled_from((0, 1)), st.sampled_from((0, 0, 1))
)
FAULTS = st.tuples(
    st.sampled_from(("forget_memory", "forget_memory", "restart")),
    st.just(0),
    st.just(0),
    st.just(0),
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(st.one_of(ACTIONS, ACTIONS, SYNCS, SYNCS, FAULTS), min_size=10, max_size=50))
async def test_folded_sliding_answers_are_the_truth(
    server: RunningServer, steps: list[tuple[str, int, int, int]]
) -> None:
    world = await World.make(server)
    sliders = [Slider(device.client) for device in world.devices]
    for kind, who, where, what in steps:
        if kind == "sync":
            slider = sliders[who % len(sliders)]
            model = await slider.sync(wide=bool(where), lost=bool(what))
            if where:
                await judge(world, slider.client, model)
        elif kind in ("forget_memory", "restart"):
            await getattr(world, kind)()
        else:
            await world.act(kind, who, where, what)
    for slider in sliders:
        await judge(world, slider.client, await slider.sync(wide=True, lost=False))
