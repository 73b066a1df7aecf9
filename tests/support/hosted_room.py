"""A room of a peer's own: servers of ours join it through the peer, are invited, and leave."""

from __future__ import annotations

import itertools
import json
from urllib.parse import quote

from aiohttp import web

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.peer import Peer
from tests.support.remote_room import V1, V2, RemoteRoom

MEMBER = "m.room.member"
_numbers = itertools.count(1)


class HostedRoom(RemoteRoom):
    """Made by the peer's user bob; `unasked` are further PDUs that joiners get as state, which is
    told in the order in which it was made, or the other way round.
    """

    def __init__(self, peer: Peer, version: str = "11", join_rule: str = "public") -> None:
        room_id = f"!hosted{next(_numbers)}:{peer.server_name}"
        super().__init__(peer, room_id, f"@bob:{peer.server_name}")
        self.version = version
        self.unasked: list[JsonObject] = []
        self.newest_first = False
        levels = {"users": {self.user_id: 100}}
        self.put("m.room.create", {"room_version": version, "creator": self.user_id})
        self.put(MEMBER, {"membership": "join"}, self.user_id)
        self.put("m.room.power_levels", levels)
        self.put("m.room.join_rules", {"join_rule": join_rule})
        path = quote(self.room_id, "")
        peer.answer("GET", f"{V1}/make_join/{path}/", self.answer_make_join)
        peer.answer("PUT", f"{V2}/send_join/{path}/", self._send_join)

    async def _send_join(self, request: web.Request) -> web.StreamResponse:
        event = parse_event(json.loads(await request.read()), ROOM_VERSIONS[self.version])
        before = [self.events[event_id].pdu for event_id in self.state.values()]
        if self.newest_first:
            before.reverse()
        self.add(event)
        answer = {"state": [*before, *self.unasked], "auth_chain": before, "event": event.pdu}
        return web.json_response(answer)

    async def invite(self, user_id: str) -> Event:
        """The invite as the user's server signed it."""
        invite = self.make(MEMBER, {"membership": "invite"}, state_key=user_id)
        create = self.events[self.state["m.room.create", ""]]
        body = {
            "event": invite.pdu,
            "room_version": self.version,
            "invite_room_state": [create.pdu],
        }
        path = f"{V2}/invite/{quote(self.room_id, '')}/{quote(invite.event_id, '')}"
        status, answer = await self.peer.request("PUT", path, body)
        assert status == 200, answer
        event = parse_event(answer["event"], ROOM_VERSIONS[self.version])
        self.add(event)
        return event
