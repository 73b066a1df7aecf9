"""A room of a peer's that users of ours join: the peer answers as it is told to, with lies too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

from aiohttp import web

from homeserver.clock import now_ms
from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, Template, build_event, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.peer import Peer
from tests.support.remote_room import V1, V2, RemoteRoom

State = dict[tuple[str, str], str]


class PartialRoom(RemoteRoom):
    """`told` holds back what the peer says of the whole state before joins while it isn't set.

    `received` and `edus` were sent to the peer, unless it `is_deaf`; `before` are the states before
    events. If it `omits` them, joiners are not told the members, but for `heroes` (event ids).
    """

    def __init__(self, peer: Peer, version: str = "11") -> None:
        super().__init__(peer, "", f"@creator:{peer.server_name}")
        self.version = version
        self.told = asyncio.Event()
        self.told.set()
        self.servers = [peer.server_name]
        self.received: list[JsonObject] = []
        self.edus: list[JsonObject] = []
        self.is_deaf = False
        self.omits = True
        self.heroes: list[str] = []
        self.before: dict[str, State] = {}
        self.joins: set[str] = set()
        rules = ROOM_VERSIONS[version]
        self.room_id = "" if rules.room_id_is_create_event_id else f"!hosted:{peer.server_name}"
        content: JsonObject = {"room_version": version}
        if not rules.implicit_creator:
            content["creator"] = self.user_id
        create = Template(
            room_id=self.room_id,
            type="m.room.create",
            sender=self.user_id,
            content=content,
            origin_server_ts=now_ms(),
            depth=1,
            prev_events=[],
            auth_events=[],
            state_key="",
            event_id=f"$create:{peer.server_name}" if rules.event_id_in_pdu else None,
        )
        event = build_event(rules, create, peer.signer)
        self.room_id = event.room_id
        self.add(event)
        self.member("creator")
        users = {} if rules.privileged_creators else {self.user_id: 100}
        self.put("m.room.power_levels", {"users": users})
        self.put("m.room.join_rules", {"join_rule": "public"})
        self.put("m.room.history_visibility", {"history_visibility": "shared"})
        self.put("m.room.name", {"name": "far away"})

    def add(self, event: Event) -> None:
        self.before[event.event_id] = dict(self.state)
        super().add(event)

    def member(self, localpart: str, membership: str = "join") -> Event:
        """A user of the peer's joins or leaves, or is banned by the creator."""
        user_id = f"@{localpart}:{self.peer.server_name}"
        sender = self.user_id if membership == "ban" else user_id
        content = {"membership": membership, "displayname": localpart}
        event = self.make("m.room.member", content, state_key=user_id, sender=sender)
        self.add(event)
        return event

    def by(self, localpart: str, text: str, **more: object) -> Event:
        """A message of one of the peer's users, taken into its view."""
        event = self.message(text, sender=f"@{localpart}:{self.peer.server_name}", **more)
        self.add(event)
        return event

    def auth_chain(self, event_ids: Iterable[str]) -> list[str]:
        found: dict[str, None] = {}
        stack = [cited for e in event_ids for cited in self.events[e].auth_events]
        while stack:
            event_id = stack.pop()
            if event_id not in found:
                found[event_id] = None
                stack.extend(self.events[event_id].auth_events)
        return list(found)

    def serve(self, peer: Peer | None = None, lie: Callable[[State], State] = dict) -> None:
        """Have a peer answer for the room; `lie` is what it makes of the state before a join."""
        peer = peer or self.peer
        peer.answer("GET", f"{V1}/make_join/", self.answer_make_join)
        peer.answer("PUT", f"{V2}/send_join/", self._send_join)
        peer.answer("PUT", f"{V1}/send/", self._send)
        peer.answer("GET", f"{V1}/event/", self._event)
        peer.answer("GET", f"{V1}/event_auth/", self._event_auth)
        peer.answer("POST", f"{V1}/get_missing_events/", {"events": []})

        async def state_ids(request: web.Request) -> web.StreamResponse:
            if request.query["event_id"] in self.joins:
                await self.told.wait()
            ids = list(lie(self._state_before(request)).values())
            chain = self.auth_chain(ids)
            return web.json_response({"pdu_ids": ids, "auth_chain_ids": chain})

        async def state(request: web.Request) -> web.StreamResponse:
            ids = list(lie(self._state_before(request)).values())
            answer = {"pdus": self._pdus(ids), "auth_chain": self._pdus(self.auth_chain(ids))}
            return web.json_response(answer)

        peer.answer("GET", f"{V1}/state_ids/", state_ids)
        peer.answer("GET", f"{V1}/state/", state)

    def _state_before(self, request: web.Request) -> State:
        return self.before[request.query["event_id"]]

    def _pdus(self, event_ids: Iterable[str]) -> list[JsonObject]:
        return [self.events[event_id].pdu for event_id in event_ids]

    async def _send_join(self, request: web.Request) -> web.StreamResponse:
        join = parse_event(json.loads(await request.read()), ROOM_VERSIONS[self.version])
        omit = self.omits and request.query.get("omit_members") == "true"
        self.joins.add(join.event_id)
        ids = [e for key, e in self.state.items() if not (omit and key[0] == "m.room.member")]
        ids += self.heroes
        chain = self.auth_chain([*ids, *join.auth_events])
        chain += [e for e in join.auth_events if e not in chain]
        self.add(join)
        answer = {
            "state": self._pdus(ids),
            "auth_chain": self._pdus(chain),
            "event": join.pdu,
            "members_omitted": omit,
            "servers_in_room": self.servers,
        }
        return web.json_response(answer)

    async def until_received(self, text: str) -> None:
        """Wait until a message has arrived at the peer."""
        async with asyncio.timeout(10):
            while not any(pdu["content"].get("body") == text for pdu in self.received):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        if self.is_deaf:
            return web.json_response({"errcode": "M_UNKNOWN", "error": "?"}, status=500)
        transaction = json.loads(await request.read())
        pdus = transaction["pdus"]
        self.received += pdus
        self.edus += transaction.get("edus", [])
        for pdu in pdus:
            event = parse_event(pdu, ROOM_VERSIONS[self.version])
            if event.event_id not in self.events:
                self.add(event)
        return web.json_response({"pdus": {}})

    async def _event(self, request: web.Request) -> web.StreamResponse:
        event_id = request.path.rpartition("/")[2]
        if event_id not in self.events:
            return web.json_response({"errcode": "M_NOT_FOUND", "error": "?"}, status=404)
        return web.json_response({"pdus": self._pdus([event_id])})

    async def _event_auth(self, request: web.Request) -> web.StreamResponse:
        chain = self.auth_chain([request.path.rpartition("/")[2]])
        return web.json_response({"auth_chain": self._pdus(chain)})
