"""A peer's view of a room of ours: it joins, and makes events of any kind, good and bad."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import quote

from aiohttp import web
from msgspec.structs import replace

from homeserver.clock import now_ms
from homeserver.json_types import JsonObject
from homeserver.protocol.auth_rules import auth_event_keys
from homeserver.protocol.events import Event, Template, build_event, parse_event, sign_pdu
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.peer import Peer

V1 = "/_matrix/federation/v1"
V2 = "/_matrix/federation/v2"


class RemoteRoom:
    """`heads` and `state` are what the peer builds its next event on; tests may change them."""

    _txn_ids = itertools.count(1)

    def __init__(self, peer: Peer, room_id: str, user_id: str) -> None:
        self.peer = peer
        self.room_id = room_id
        self.user_id = user_id
        self.version = ""
        self.events: dict[str, Event] = {}
        self.state: dict[tuple[str, str], str] = {}
        self.heads: list[str] = []

    async def join(self) -> Event:
        """Joins over federation; fails the test if that isn't possible."""
        versions = "&".join(f"ver={version}" for version in ROOM_VERSIONS)
        path = f"{V1}/make_join/{quote(self.room_id, '')}/{quote(self.user_id, '')}?{versions}"
        status, offer = await self.peer.request("GET", path)
        assert status == 200, offer
        self.version = offer["room_version"]
        rules = ROOM_VERSIONS[self.version]
        template = {**offer["event"], "origin_server_ts": now_ms()}
        if rules.event_id_in_pdu:
            template["event_id"] = f"$join{next(self._txn_ids)}:{self.peer.server_name}"
        event = sign_pdu(template, rules, self.peer.signer)
        path = f"{V2}/send_join/{quote(self.room_id, '')}/{quote(event.event_id, '')}"
        status, answer = await self.peer.request("PUT", path, event.pdu)
        assert status == 200, answer
        for pdu in (*answer["auth_chain"], *answer["state"]):
            other = parse_event(pdu, rules)
            self.events[other.event_id] = other
        for pdu in answer["state"]:
            other = parse_event(pdu, rules)
            self.state[other.key] = other.event_id
        self.add(event)
        return event

    def add(self, event: Event) -> None:
        """Take an event into the peer's view."""
        self.events[event.event_id] = event
        self.heads = [h for h in self.heads if h not in event.prev_events] + [event.event_id]
        if event.is_state:
            self.state[event.key] = event.event_id

    def make(self, event_type: str, content: JsonObject, **more: Any) -> Event:
        """An event of the peer's user on its heads; `more` replaces fields of the template."""
        rules = ROOM_VERSIONS[self.version]
        state_key = more.get("state_key")
        sender = more.get("sender", self.user_id)
        keys = auth_event_keys(rules, event_type, sender, state_key, content)
        template = Template(
            room_id=self.room_id,
            type=event_type,
            sender=sender,
            content=content,
            origin_server_ts=now_ms(),
            depth=1 + max((self._depth(head) for head in self.heads), default=0),
            prev_events=list(self.heads),
            auth_events=[self.state[key] for key in keys if key in self.state],
        )
        template = replace(template, **more)
        if rules.event_id_in_pdu and "event_id" not in more:
            event_id = f"$event{next(self._txn_ids)}:{self.peer.server_name}"
            template = replace(template, event_id=event_id)
        return build_event(rules, template, self.peer.signer)

    def put(self, event_type: str, content: JsonObject, state_key: str = "") -> Event:
        """The peer's user sets a piece of state, in its own view."""
        event = self.make(event_type, content, state_key=state_key)
        self.add(event)
        return event

    def template(self, user_id: str, membership: str) -> JsonObject:
        """What make_join and make_leave answer."""
        content = {"membership": membership}
        pdu = self.make("m.room.member", content, sender=user_id, state_key=user_id).pdu
        for name in ("hashes", "signatures"):
            del pdu[name]
        return {"room_version": self.version, "event": pdu}

    async def answer_make_join(self, request: web.Request) -> web.StreamResponse:
        """For `peer.answer`."""
        return web.json_response(self.template(request.path.rpartition("/")[2], "join"))

    def _depth(self, event_id: str) -> int:
        return self.events[event_id].depth if event_id in self.events else 1

    def message(self, text: str, **more: Any) -> Event:
        """A message, not yet in the peer's view."""
        return self.make("m.room.message", {"msgtype": "m.text", "body": text}, **more)

    async def send(self, *events: Event | JsonObject) -> JsonObject:
        """Sends events (or raw PDUs) in a transaction: the answer's `pdus`."""
        status, answer = await self.try_send(*events)
        assert status == 200, answer
        results: JsonObject = answer["pdus"]
        return results

    async def try_send(self, *events: Event | JsonObject) -> tuple[int, JsonObject]:
        """The status and the whole answer."""
        pdus = [event.pdu if isinstance(event, Event) else event for event in events]
        body = {
            "origin": self.peer.server_name,
            "origin_server_ts": now_ms(),
            "pdus": pdus,
            "edus": [],
        }
        path = f"{V1}/send/txn{next(self._txn_ids)}"
        return await self.peer.request("PUT", path, body)

    async def say(self, text: str) -> Event:
        """Sends a message and takes it into the peer's view."""
        event = self.message(text)
        self.add(event)
        assert await self.send(event) == {event.event_id: {}}
        return event
