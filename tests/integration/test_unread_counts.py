"""Unread counts in /sync: by examples, and random days of a room against an independent count."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.push_conditions import PushFacts, Reader, RoomFacts
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.store import account_data as account_data_store
from homeserver.store.account_data import AccountDataRow
from homeserver.stream.changes import AccountDataChange
from homeserver.stream.push_rules import PUSH_RULES
from tests.conftest import StartServer
from tests.support.client import Client
from tests.support.server import RunningServer
from tests.unit.test_push_evaluation import interpret

THREADED = json.dumps({"room": {"timeline": {"unread_thread_notifications": True}}})
Counts = tuple[int, int]


def unread(answer: JsonObject, room_id: str) -> Counts | None:
    """(notifications, highlights) as an answer of /sync tells them."""
    room = answer.get("rooms", {}).get("join", {}).get(room_id, {})
    counts = room.get("unread_notifications")
    return None if counts is None else (counts["notification_count"], counts["highlight_count"])


def by_thread(answer: JsonObject, room_id: str) -> dict[str, Counts] | None:
    """The counts of the main timeline and of each thread that has any."""
    main = unread(answer, room_id)
    if main is None:
        return None
    room = answer["rooms"]["join"][room_id]
    threads = room.get("unread_thread_notifications", {})
    found = {t: (c["notification_count"], c["highlight_count"]) for t, c in threads.items()}
    return found | ({"main": main} if main != (0, 0) else {})


async def read(
    client: Client, room_id: str, event_id: str, kind: str = "m.read", **body: str
) -> None:
    await client.post(f"/rooms/{quote(room_id)}/receipt/{kind}/{quote(event_id)}", body)


def in_thread(root: str, body: str) -> JsonObject:
    return {
        "msgtype": "m.text",
        "body": body,
        "m.relates_to": {"rel_type": "m.thread", "event_id": root},
    }


async def two_in_a_room(server: RunningServer) -> tuple[Client, Client, str]:
    alice, bob = await server.user("alice"), await server.user("bob")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    await bob.sync()
    return alice, bob, room_id


async def test_a_message_counts_until_it_is_read(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await alice.send(room_id, "1")
    last = await alice.send(room_id, "2")
    assert unread(await bob.sync(), room_id) == (2, 0)
    await read(bob, room_id, last)
    assert unread(await bob.sync(), room_id) == (0, 0)
    assert unread(await bob.sync(), room_id) is None


async def test_a_private_receipt_reads_too(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    first = await alice.send(room_id, "1")
    await alice.send(room_id, "2")
    await read(bob, room_id, first, "m.read.private")
    assert unread(await bob.sync(), room_id) == (1, 0)


async def test_a_mention_is_a_highlight(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    mention = {"msgtype": "m.text", "body": "hey", "m.mentions": {"user_ids": [bob.user_id]}}
    await alice.send(room_id, mention)
    assert unread(await bob.sync(), room_id) == (1, 1)


async def test_the_sender_has_nothing_to_read(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await bob.send(room_id, "1")
    await alice.sync()
    await alice.send(room_id, "2")
    assert unread(await alice.sync(), room_id) == (0, 0)


async def test_redacted_messages_do_not_count(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "oops")
    assert unread(await bob.sync(), room_id) == (1, 0)
    await alice.redact(room_id, event_id)
    assert unread(await bob.sync(), room_id) == (0, 0)


async def test_edits_and_reactions_do_not_count(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    event_id = await alice.send(room_id, "tpyo")
    edit = {"rel_type": "m.replace", "event_id": event_id}
    new = {"msgtype": "m.text", "body": "typo"}
    await alice.send(room_id, {**new, "m.new_content": new, "m.relates_to": edit})
    reaction = {"rel_type": "m.annotation", "event_id": event_id, "key": "x"}
    await alice.send(room_id, {"m.relates_to": reaction}, "m.reaction")
    assert unread(await bob.sync(), room_id) == (1, 0)


async def test_threads_are_counted_and_read_apart(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    root = await alice.send(room_id, "root")
    reply = await alice.send(room_id, in_thread(root, "reply"))
    assert by_thread(await bob.sync(filter=THREADED), room_id) == {"main": (1, 0), root: (1, 0)}
    await read(bob, room_id, root, thread_id="main")
    assert by_thread(await bob.sync(filter=THREADED), room_id) == {root: (1, 0)}
    await read(bob, room_id, reply, thread_id=root)
    assert by_thread(await bob.sync(filter=THREADED), room_id) == {}


async def test_without_the_filter_threads_are_in_the_room_s_count(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    root = await alice.send(room_id, "root")
    reply = await alice.send(room_id, in_thread(root, "reply"))
    answer = await bob.sync()
    assert unread(answer, room_id) == (2, 0)
    assert "unread_thread_notifications" not in answer["rooms"]["join"][room_id]
    await read(bob, room_id, reply)
    assert unread(await bob.sync(), room_id) == (0, 0)


async def test_an_own_message_reads_its_thread_only(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    root = await alice.send(room_id, "root")
    await alice.send(room_id, in_thread(root, "reply"))
    await bob.send(room_id, in_thread(root, "me too"))
    assert by_thread(await bob.sync(filter=THREADED), room_id) == {"main": (1, 0)}


async def test_who_comes_back_begins_anew(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await alice.send(room_id, "1")
    await bob.leave(room_id)
    await alice.send(room_id, "2")
    await bob.join(room_id)
    await alice.send(room_id, "3")
    assert unread(await bob.sync(), room_id) == (1, 0)


async def test_muting_counts_from_now_on_and_survives_a_restart(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await alice.send(room_id, "before")
    path = f"/pushrules/global/room/{quote(room_id)}"
    await bob.put(path, {"actions": []})
    await alice.send(room_id, "muted")
    await bob.delete(path)
    await alice.send(room_id, "after")
    assert unread(await bob.sync(), room_id) == (2, 0)
    await server.restart()
    bob = server.moved(bob)
    bob.next_batch = None
    assert unread(await bob.sync(), room_id) == (2, 0)


async def test_rules_that_a_lost_commit_may_have_changed_are_read_again(
    server: RunningServer,
) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    path = f"/pushrules/global/room/{quote(room_id)}"
    await bob.put(path, {"actions": []})
    assert server.app is not None
    stream = server.app.stream
    muted = (await stream.push_rules.get(bob.user_id)).stored
    await bob.delete(path)
    await alice.send(room_id, "heard")
    row = AccountDataRow(bob.user_id, "", PUSH_RULES, muted, stream.writer.allocate())
    async with server.app.database.connection() as connection:
        await account_data_store.put(connection, [row])
    for failing in (stream.push_rules, stream.push_evaluator):
        failing.fail([AccountDataChange(row.position, row)])
    await alice.send(room_id, "muted")
    assert unread(await bob.sync(), room_id) == (1, 0)


async def test_who_is_ignored_does_not_count(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await alice.send(room_id, "1")
    path = f"/user/{bob.user_id}/account_data/m.ignored_user_list"
    await bob.put(path, {"ignored_users": {alice.user_id: {}}})
    await alice.send(room_id, "2")
    assert unread(await bob.sync(), room_id) is None  # nothing that bob wants to hear of
    bob.next_batch = None
    assert unread(await bob.sync(), room_id) == (0, 0)


async def test_a_receipt_of_an_unknown_event_takes_nothing_back(server: RunningServer) -> None:
    alice, bob, room_id = await two_in_a_room(server)
    await read(bob, room_id, await alice.send(room_id, "1"))
    await read(bob, room_id, "$unknown")
    assert unread(await bob.sync(), room_id) == (0, 0)
    await server.restart()
    bob = server.moved(bob)
    bob.next_batch = None
    assert unread(await bob.sync(), room_id) == (0, 0)


async def test_counts_reach_further_back_than_memory(start_server: StartServer) -> None:
    server = await start_server(caches={"timeline_events": 20})
    alice, bob, room_id = await two_in_a_room(server)
    ids = [await alice.send(room_id, str(number)) for number in range(100)]
    assert unread(await bob.sync(), room_id) == (100, 0)
    await read(bob, room_id, ids[9])
    assert unread(await bob.sync(), room_id) == (90, 0)
    await alice.redact(room_id, ids[10])
    assert unread(await bob.sync(), room_id) == (89, 0)


@dataclass
class Said:
    """An event as the independent count sees it."""

    event_id: str
    sender: str
    thread: str
    outcomes: dict[str, tuple[bool, bool]]
    is_state: bool = False
    is_related: bool = False
    redacted: bool = False


@dataclass
class Day:
    """A room and its members, and what each of them should be told."""

    server: RunningServer
    chance: random.Random
    room_id: str
    members: list[Client]
    knows_subscriptions: bool = False
    said: list[Said] = field(default_factory=list)
    starts: dict[str, int] = field(default_factory=dict)
    reads: dict[tuple[str, str], int] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    told: dict[str, dict[str, Counts]] = field(default_factory=dict)
    ignored: dict[str, set[str]] = field(default_factory=dict)
    subscribed: set[tuple[str, str]] = field(default_factory=set)

    def expected(self, user_id: str) -> dict[str, Counts]:
        """Counted from the beginning, one event after another."""
        found: dict[str, Counts] = {}
        for place, said in enumerate(self.said):
            read_to = max(
                self.starts[user_id],
                self.reads.get((user_id, ""), -1),
                self.reads.get((user_id, said.thread), -1),
            )
            notify, highlight = said.outcomes.get(user_id, (False, False))
            if said.redacted or said.sender in self.ignored.get(user_id, ()):
                continue
            if notify and place > read_to:
                before = found.get(said.thread, (0, 0))
                found[said.thread] = (before[0] + 1, before[1] + highlight)
        return found

    async def step(self) -> None:
        actions = [self.say] * 6 + [self.read] * 3 + [self.redact, self.set_topic]
        actions += [self.change_rules, self.change_a_default, self.ignore, self.subscribe]
        actions += [self.come_or_go, self.look, self.look]
        await self.chance.choice(actions)()

    def anybody(self) -> Client:
        return self.chance.choice([c for c in self.members if c.user_id in self.joined])

    async def say(self) -> None:
        sender, thread = self.anybody(), "main"
        content: JsonObject = {
            "msgtype": self.chance.choice(["m.text", "m.text", "m.notice"]),
            "body": self.chance.choice(["cake", "hello ben", "x", "@room", "CAKE, cat?"]),
            "tags": self.chance.choice([[], ["a"], ["a", "b"]]),
            "n": self.chance.choice([1, True, "1"]),
        }
        event_type = self.chance.choice(TYPES)
        if self.chance.random() < 0.3:
            mentioned = [self.chance.choice(self.members).user_id]
            content["m.mentions"] = {"user_ids": mentioned, "room": self.chance.random() < 0.3}
        roots = [s for s in self.said if not (s.is_state or s.is_related)]
        if roots and self.chance.random() < 0.4:
            root = self.chance.choice(roots[-5:])
            thread = root.event_id
            content["m.relates_to"] = {"rel_type": "m.thread", "event_id": thread}
        elif self.said and self.chance.random() < 0.2:
            parent = self.chance.choice(self.said[-5:])
            thread = parent.thread
            event_type = self.chance.choice(["m.room.message", "m.reaction"])
            rel_type = self.chance.choice(["m.replace", "m.reference"])
            content["m.relates_to"] = {"rel_type": rel_type, "event_id": parent.event_id}
        outcomes = await self.outcomes(sender, content, event_type, thread)
        event_id = await sender.send(self.room_id, content, event_type)
        self.reads[sender.user_id, thread] = len(self.said)
        related = "m.relates_to" in content
        self.said.append(Said(event_id, sender.user_id, thread, outcomes, is_related=related))

    async def outcomes(
        self,
        sender: Client,
        content: JsonObject,
        event_type: str,
        thread: str = "main",
        state_key: str | None = None,
    ) -> dict[str, tuple[bool, bool]]:
        """By the rules that each member is served now, read as a client would."""
        event = Event(
            rules=ROOM_VERSIONS["11"],
            event_id="$x",
            room_id=self.room_id,
            type=event_type,
            sender=sender.user_id,
            content=content,
            state_key=state_key,
            origin_server_ts=0,
            redacts=None,
            prev_events=(),
            auth_events=(),
            depth=1,
            json=b"{}",
        )
        level = 100 if sender is self.members[0] else 0
        root = thread if self.knows_subscriptions and thread != "main" else None
        facts = PushFacts(event, RoomFacts(len(self.joined), level, {}), root)
        found = {}
        for client in self.members:
            if client.user_id in self.joined and client is not sender:
                served = (await client.get("/pushrules/"))["global"]
                name = client.user_id[1:].partition(":")[0]
                subscribed = (client.user_id, thread) in self.subscribed
                reader = Reader(client.user_id, name, subscribed)
                found[client.user_id] = interpret(served, facts, reader)
        return found

    async def read(self) -> None:
        reader = self.anybody()
        places = [place for place, said in enumerate(self.said) if not said.is_state]
        if not places:
            return
        place = self.chance.choice(places)
        said = self.said[place]
        thread = self.chance.choice(["", said.thread])
        kind = self.chance.choice(["m.read", "m.read.private"])
        body = {"thread_id": thread} if thread else {}
        await read(reader, self.room_id, said.event_id, kind, **body)
        key = (reader.user_id, thread)
        self.reads[key] = max(place, self.reads.get(key, -1))

    async def redact(self) -> None:
        open_ones = [s for s in self.said if not s.redacted and not s.is_state]
        if open_ones:
            said = self.chance.choice(open_ones)
            await self.members[0].redact(self.room_id, said.event_id)
            said.redacted = True
            # A redaction is an event of its own: who is told of all that happens, is told of it.
            content = {"redacts": said.event_id}
            outcomes = await self.outcomes(self.members[0], content, "m.room.redaction")
            user_id = self.members[0].user_id
            self.reads[user_id, "main"] = len(self.said)
            self.said.append(Said("$redaction", user_id, "main", outcomes, is_state=True))

    async def set_topic(self) -> None:
        """A state event: it may notify, and doesn't say that its sender has read."""
        content: JsonObject = {"topic": str(self.chance.random()), "body": "cake"}
        outcomes = await self.outcomes(
            self.members[0], content, "m.room.topic", thread="main", state_key=""
        )
        event_id = await self.members[0].set_state(self.room_id, "m.room.topic", content)
        user_id = self.members[0].user_id
        self.said.append(Said(event_id, user_id, "main", outcomes, is_state=True))

    async def change_rules(self) -> None:
        """Somebody puts, moves or deletes a rule of their own."""
        client, chance = self.anybody(), self.chance
        kind = chance.choice(["override", "content", "room", "sender", "underride"])
        own = [r for r in (await client.get("/pushrules/"))["global"][kind] if not r["default"]]
        if own and chance.random() < 0.3:
            await client.delete(self.rule_path(kind, chance.choice(own)["rule_id"]))
            return
        rule: JsonObject = {"actions": chance.choice(ACTIONS)}
        rule_id = chance.choice(["a", "b", "c"])
        if kind == "room":
            rule_id = chance.choice([self.room_id, self.room_id, "!other:room"])
        elif kind == "sender":
            rule_id = chance.choice(self.members).user_id
        elif kind == "content":
            rule["pattern"] = chance.choice(["cake", "hel*", "b?n", "x"])
        else:
            rule["conditions"] = chance.sample(CONDITIONS, chance.randint(0, 2))
        beside = [r["rule_id"] for r in own if r["rule_id"] != rule_id]
        where = {chance.choice(["before", "after"]): beside[0]} if beside else {}
        await client.put(self.rule_path(kind, rule_id), rule, **where)

    async def change_a_default(self) -> None:
        """Somebody switches a rule, theirs or the server's, on or off, or changes its actions."""
        client, chance = self.anybody(), self.chance
        served = (await client.get("/pushrules/"))["global"]
        kind = chance.choice([kind for kind in served if served[kind]])
        path = self.rule_path(kind, chance.choice(served[kind])["rule_id"])
        if chance.random() < 0.7:
            await client.put(f"{path}/enabled", {"enabled": chance.random() < 0.5})
        else:
            await client.put(f"{path}/actions", {"actions": chance.choice(ACTIONS)})

    def rule_path(self, kind: str, rule_id: str) -> str:
        return f"/pushrules/global/{kind}/{quote(rule_id)}"

    async def ignore(self) -> None:
        client = self.anybody()
        ignored = {c.user_id for c in self.members if self.chance.random() < 0.2}
        self.ignored[client.user_id] = ignored - {client.user_id}
        content: JsonObject = {
            "ignored_users": {user_id: {} for user_id in ignored - {client.user_id}}
        }
        await client.put(f"/user/{client.user_id}/account_data/m.ignored_user_list", content)
        # What clients do then: what they were told may not be so any more.
        client.next_batch = None
        self.told.pop(client.user_id, None)

    async def subscribe(self) -> None:
        """Somebody subscribes to a thread, or unsubscribes from it (MSC4306)."""
        client = self.anybody()
        threads = sorted({said.thread for said in self.said} - {"main"})
        if threads:
            root = self.chance.choice(threads[-3:])
            path = f"{MSC4306}/rooms/{quote(self.room_id)}/thread/{quote(root)}/subscription"
            if self.chance.random() < 0.7:
                await client.put(path, {})
                self.subscribed.add((client.user_id, root))
            else:
                await client.delete(path)
                self.subscribed.discard((client.user_id, root))

    async def come_or_go(self) -> None:
        client = self.chance.choice(self.members[1:])
        membership = "leave" if client.user_id in self.joined else "join"
        content: JsonObject = {"membership": membership}
        user_id = client.user_id
        outcomes = await self.outcomes(client, content, "m.room.member", "main", user_id)
        if membership == "leave":
            await client.leave(self.room_id)
            self.joined.discard(client.user_id)
            self.told.pop(client.user_id, None)
        else:
            await client.join(self.room_id)
            self.joined.add(client.user_id)
            self.starts[client.user_id] = len(self.said)
        self.said.append(Said("$member", client.user_id, "main", outcomes, is_state=True))

    async def look(self) -> None:
        client = self.anybody()
        told = by_thread(await client.sync(filter=THREADED), self.room_id)
        if told is not None:
            self.told[client.user_id] = told
        assert self.told.get(client.user_id, {}) == self.expected(client.user_id), client.user_id

    async def restart(self) -> None:
        await self.server.restart()
        for client in self.members:
            self.server.moved(client)


MSC4306 = "/_matrix/client/unstable/io.element.msc4306"
HIGHLIGHT: JsonObject = {"set_tweak": "highlight"}
ACTIONS: list[list[Any]] = [
    [],
    ["notify"],
    ["notify", HIGHLIGHT],
    ["notify", {**HIGHLIGHT, "value": False}],
    ["notify", {"set_tweak": "sound", "value": "default"}],
]
TYPES = ["m.room.message"] * 3 + ["m.room.encrypted", "m.sticker", "org.matrix.msc3381.poll.start"]
CONDITIONS: list[JsonObject] = [
    {"kind": "contains_display_name"},
    {"kind": "event_match", "key": "content.body", "pattern": "c*"},
    {"kind": "event_match", "key": "type", "pattern": "m.room.*"},
    {"kind": "event_match", "key": "room_id", "pattern": "!other:room"},
    {"kind": "event_match", "key": "state_key", "pattern": ""},
    {"kind": "event_property_is", "key": "content.n", "value": 1},
    {"kind": "event_property_is", "key": "content.msgtype", "value": "m.text"},
    {"kind": "event_property_contains", "key": "content.tags", "value": "a"},
    {"kind": "room_member_count", "is": "3"},
    {"kind": "sender_notification_permission", "key": "room"},
    {"kind": "io.element.msc4306.thread_subscription", "subscribed": True},
    {"kind": "unheard_of"},
]


@pytest.mark.parametrize("seed", range(int(os.environ.get("UNREAD_DAYS", "4"))))
async def test_sync_tells_what_an_independent_count_says(
    start_server: StartServer, seed: int
) -> None:
    push = {"thread_subscriptions": seed % 2 == 1, "legacy_mentions": seed % 4 > 1}
    server = await start_server(caches={"timeline_events": 20}, push=push)
    members = [await server.user(name) for name in ("ann", "ben", "cat")]
    room_id = await members[0].create_room(preset="public_chat")
    day = Day(server, random.Random(seed), room_id, members, push["thread_subscriptions"])
    for client in members:
        await client.join(room_id)
        day.joined.add(client.user_id)
        day.starts[client.user_id] = -1
    for number in range(120):
        if number % 50 == 49:
            await day.restart()
        await day.step()
    for client in [c for c in members if c.user_id in day.joined]:
        client.next_batch = None
        told: Any = by_thread(await client.sync(filter=THREADED), room_id)
        assert told == day.expected(client.user_id)
