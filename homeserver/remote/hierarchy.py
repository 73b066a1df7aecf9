"""Rooms in spaces that only other servers know.

Rules of this file: a server is believed about a room where the space (or whoever asks) names it as
one that is in the room; what it says of rooms beside counts nowhere else.
server-server-api#get_matrixfederationv1hierarchyroomid
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from homeserver.errors import MatrixError
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.identifiers import is_room_id, is_server_name
from homeserver.protocol.room_summaries import readable_summary
from homeserver.protocol.spaces import SPACE
from homeserver.remote.client import FederationClient, Terms, path_to

REMEMBERED = 1000
SECONDS = 300.0
MAX_SERVERS = 3
MAX_NAMED = 20
AT_ONCE = 10
TERMS = Terms(seconds=10.0, max_bytes=10 * 1024 * 1024)


class RemoteHierarchy:
    """Asks other servers about rooms; an answer is good for five minutes."""

    def __init__(
        self, client: FederationClient, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        # By room and the server that told of it.
        self._known: LruCache[tuple[str, str], tuple[float, JsonObject | None]] = LruCache(
            REMEMBERED
        )
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def rooms(self, wanted: Mapping[str, Sequence[str]]) -> dict[str, JsonObject]:
        """Summaries with `children_state` by room id, of those (room id -> servers) that are found.

        They are for this server: "The requesting server is responsible for filtering the results
        further down for the user's request."
        """
        answers = await asyncio.gather(*(self._room(r, via) for r, via in wanted.items()))
        found = zip(wanted, answers, strict=True)
        return {room_id: room for room_id, room in found if room is not None}

    async def _room(self, room_id: str, servers: Sequence[str]) -> JsonObject | None:
        named = [name for name in servers if is_server_name(name)][:MAX_NAMED]
        now = self._monotonic()
        for server in named:
            known = self._known.get((room_id, server))
            if known is not None and now - known[0] < SECONDS:
                return known[1]
        for server in named[:MAX_SERVERS]:
            room = await self._ask(server, room_id)
            if room is not None:
                self._known.put((room_id, server), (now, room))
                return room
        return None

    async def _ask(self, server: str, room_id: str) -> JsonObject | None:
        path = path_to("/_matrix/federation/v1/hierarchy", room_id)
        try:
            async with self._at_once:
                answer = await self._client.get(server, path, TERMS)
        except MatrixError:
            return None
        for child in map(readable_summary, _list(answer, "children")):
            if child is not None and child.get("room_type") != SPACE:
                # A room without children: this is all there is to know.
                known = {**child, "children_state": []}
                self._known.put((child["room_id"], server), (self._monotonic(), known))
        # "[...] consider these room IDs as not accessible from anywhere. They should not be
        # re-requested."
        for inaccessible in _list(answer, "inaccessible_children"):
            if is_room_id(inaccessible):
                self._known.put((inaccessible, server), (self._monotonic(), None))
        told = answer.get("room")
        room = readable_summary(told)
        if not isinstance(told, dict) or room is None or room["room_id"] != room_id:
            return None
        children = [event for event in _list(told, "children_state") if _is_child(event)]
        return {**room, "children_state": children}


def _list(answer: JsonObject, name: str) -> list[Any]:
    value = answer.get(name)
    return value if isinstance(value, list) else []


def _is_child(event: Any) -> bool:
    return (
        isinstance(event, dict)
        and event.get("type") == "m.space.child"
        and is_room_id(event.get("state_key"))
        and isinstance(event.get("sender"), str)
        and isinstance(event.get("content"), dict)
        and type(event.get("origin_server_ts")) is int
    )
