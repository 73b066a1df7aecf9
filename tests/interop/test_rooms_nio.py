"""A matrix-nio bot walks through a space, its rooms, and what is said in them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.server import RunningServer

nio: Any = pytest.importorskip("nio")

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class Bot:
    """A nio client; every answer must be the one for success unless an error is expected."""

    def __init__(self, account: Client) -> None:
        self.account = account
        self.user_id = account.user_id
        self.nio = nio.AsyncClient(account.url, account.user_id)
        self.nio.restore_login(account.user_id, account.device_id, account.token)

    async def __call__(self, method: str, *args: Any, **more: Any) -> Any:
        answer = await getattr(self.nio, method)(*args, **more)
        assert not isinstance(answer, nio.ErrorResponse), f"{method}: {answer}"
        return answer

    async def refused(self, method: str, *args: Any) -> str:
        """The errcode of an answer that must be an error."""
        answer = await getattr(self.nio, method)(*args)
        assert isinstance(answer, nio.ErrorResponse), f"{method}: {answer}"
        return str(answer.status_code)

    async def say(self, room_id: str, body: str, relation: Any = None, **more: Any) -> str:
        content = {"msgtype": "m.text", "body": body, **more}
        if relation is not None:
            content["m.relates_to"] = relation
        return str((await self("room_send", room_id, "m.room.message", content)).event_id)

    async def sync(self) -> Any:
        return await self("sync", timeout=0)

    async def related(self, room_id: str, event_id: str, rel_type: Any) -> list[Any]:
        relations = self.nio.room_get_event_relations(room_id, event_id, rel_type)
        return [event async for event in relations]


@pytest.fixture
async def bots(server: RunningServer) -> AsyncIterator[tuple[Bot, Bot]]:
    pair = Bot(await server.user("alice")), Bot(await server.user("bob"))
    yield pair
    for bot in pair:
        await bot.nio.close()


async def make_space(alice: Bot) -> tuple[str, list[str]]:
    """A public space with a public, a restricted and a knocking room."""
    public = nio.RoomPreset.public_chat
    space = (await alice("room_create", name="Office", preset=public, space=True)).room_id
    await alice("room_put_alias", "#office:hs.test", space)
    rooms = []
    for name in ("lobby", "club", "workshop"):
        preset = public if name == "lobby" else nio.RoomPreset.private_chat
        # nio upgrades a room by copying its power levels, which has no creator from version 12 on.
        made = await alice("room_create", name=name, preset=preset, room_version="10")
        rooms.append(made.room_id)
        child = {"via": ["hs.test"], "order": name}
        await alice("room_put_state", space, "m.space.child", child, rooms[-1])
    allow = [{"type": "m.room_membership", "room_id": space}]
    restricted = {"join_rule": "restricted", "allow": allow}
    await alice("room_put_state", rooms[1], "m.room.join_rules", restricted)
    await alice("room_put_state", rooms[2], "m.room.join_rules", {"join_rule": "knock"})
    return space, rooms


async def walk_in(alice: Bot, bob: Bot, space: str, rooms: list[str]) -> None:
    lobby, club, workshop = rooms
    assert await bob.refused("join", club) == "M_FORBIDDEN"
    assert (await bob("room_resolve_alias", "#office:hs.test")).room_id == space
    await bob("join", "#office:hs.test")
    tree = await bob("space_get_hierarchy", space)
    assert [room["name"] for room in tree.rooms] == ["Office", "club", "lobby", "workshop"]
    await bob("join", lobby)
    await bob("join", club)
    await bob("room_knock", workshop, reason="May I?")
    knock = (await alice("room_get_state_event", workshop, "m.room.member", bob.user_id)).content
    assert (knock["membership"], knock["reason"]) == ("knock", "May I?")
    await alice("room_invite", workshop, bob.user_id)
    assert workshop in (await bob.sync()).rooms.invite
    await bob("join", workshop)
    assert set((await bob("joined_rooms")).rooms) == {space, *rooms}


async def talk(alice: Bot, bob: Bot, room_id: str) -> None:
    root = await alice.say(room_id, "Where is the cheese?")
    typo = await alice.say(room_id, "In the frigde")
    fixed = {"msgtype": "m.text", "body": "In the fridge"}
    edit = {"rel_type": "m.replace", "event_id": typo}
    await alice.say(room_id, "* In the fridge", edit, **{"m.new_content": fixed})
    annotation = {"rel_type": "m.annotation", "event_id": root, "key": "🧀"}
    reaction = await bob("room_send", room_id, "m.reaction", {"m.relates_to": annotation})
    for body in ("Behind the door", "我喜歡奶酪"):
        await bob.say(room_id, body, {"rel_type": "m.thread", "event_id": root})

    threads = [event async for event in bob.nio.room_get_threads(room_id)]
    assert [thread.event_id for thread in threads] == [root]
    kinds = nio.RelationshipType if hasattr(nio, "RelationshipType") else nio.api.RelationshipType
    replies = await alice.related(room_id, root, kinds.thread)
    assert {reply.body for reply in replies} == {"Behind the door", "我喜歡奶酪"}
    [liked] = await alice.related(room_id, root, kinds.annotation)
    assert liked.key == "🧀"
    await bob("room_redact", room_id, reaction.event_id, reason="No")
    assert await alice.related(room_id, root, kinds.annotation) == []
    redacted = (await alice("room_get_event", room_id, reaction.event_id)).event
    assert redacted.source["unsigned"]["redacted_because"]["content"]["reason"] == "No"
    history = (await bob("room_messages", room_id, "", limit=50)).chunk
    assert "Where is the cheese?" in {getattr(event, "body", None) for event in history}


async def find(bob: Bot, room_id: str, term: str) -> int:
    """How many results a search has; nio has no method for it."""
    asked = {"search_term": term, "filter": {"rooms": [room_id]}}
    body = {"search_categories": {"room_events": asked}}
    answer = await bob.account.post("/search", body)
    return int(answer["search_categories"]["room_events"]["count"])


async def test_a_walk_through_rooms_with_a_bot(bots: tuple[Bot, Bot]) -> None:
    alice, bob = bots
    space, rooms = await make_space(alice)
    await walk_in(alice, bob, space, rooms)
    lobby, club, workshop = rooms
    await talk(alice, bob, workshop)
    # The whole upgrade of a room as nio does it by itself, without /upgrade.
    await alice("sync", timeout=0)
    new = (await alice("room_upgrade", lobby, "11")).room_id
    created = (await bob("room_get_state_event", lobby, "m.room.tombstone", "")).content
    assert created["replacement_room"] == new
    await bob("join", new)
    create = (await bob("room_get_state_event", new, "m.room.create", "")).content
    assert create["predecessor"]["room_id"] == lobby
    for room_id in (new, club, workshop):
        await bob("room_leave", room_id)
        await bob("room_forget", room_id)
    assert set((await bob("joined_rooms")).rooms) == {space, lobby}
    assert await bob.refused("room_messages", club, "") == "M_FORBIDDEN"


async def test_a_bot_finds_what_was_said(bots: tuple[Bot, Bot]) -> None:
    alice, bob = bots
    room_id = (await alice("room_create", preset=nio.RoomPreset.public_chat)).room_id
    await bob("join", room_id)
    await alice.say(room_id, "The fridge is empty")
    await alice.say(room_id, "我喜歡奶酪")
    async with asyncio.timeout(20):  # the index follows a moment later
        while not (await find(bob, room_id, "fridge") and await find(bob, room_id, "奶酪")):
            await bob.nio.sync(timeout=100)
    assert await find(bob, room_id, "elephant") == 0
