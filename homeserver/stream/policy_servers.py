"""Asking a room's policy server to recommend events: ours before they are sent, others' too.

server-server-api#asking-for-a-policy-server-signature-on-an-event
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from homeserver.errors import Forbidden, MatrixError, TooLarge
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.events import Event, with_signature_by
from homeserver.protocol.policy_servers import (
    KEY_ID,
    POLICY,
    PolicyServer,
    is_recommended,
    policy_server_of,
)
from homeserver.protocol.rejection import Rejected
from homeserver.remote.client import FederationClient, Terms
from homeserver.remote.errors import RemoteRefusal, Unreachable
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms

SIGN = "/_matrix/policy/v1/sign"
TERMS = Terms(seconds=10.0, max_bytes=65_536, ignore_backoff=True)
"""It needn't be a whole homeserver: whether it takes our transactions says nothing."""
AT_ONCE = 6
SILENT_SECONDS = 30.0

log = structlog.get_logger(__name__)


class PolicyServers:
    """Asks. Rooms without a policy server cost one look at their state."""

    def __init__(self, rooms: LiveRooms, client: FederationClient, server_name: str) -> None:
        self._rooms = rooms
        self._client = client
        self._server_name = server_name
        self._silent_until: LruCache[str, float] = LruCache(1000)

    async def of(self, room: LiveRoom) -> PolicyServer | None:
        """The policy server that a room uses now."""
        event_id = room.head.state.get(POLICY)
        if event_id is None:
            return None
        stored = room.pending.get(event_id) or await self._rooms.event(event_id)
        if stored is None:
            return None
        return policy_server_of(stored.content, room.joined_servers)

    async def recommended(self, room: LiveRoom, event: Event) -> Event:
        """One of our events with the policy server's signature.

        Raises Forbidden, or what the policy server said: "that error SHOULD be provided to the
        client verbatim".
        """
        server = await self.of(room)
        if server is None or is_recommended(event, server):
            return event
        if server.server_name == self._server_name:
            raise Forbidden("This room names this server as its policy server, but it is none")
        try:
            signed = await self._ask(event, server)
        except RemoteRefusal as refusal:
            raise _verbatim(refusal) from None
        if not is_recommended(signed, server):
            raise Forbidden("The room's policy server signed with another key than the room names")
        return signed

    async def ask_for(self, server: PolicyServer, events: Sequence[Event]) -> list[Event]:
        """Events of others, with the signatures that they lacked as far as they are given."""
        if server.server_name == self._server_name:
            return list(events)
        at_once = asyncio.Semaphore(AT_ONCE)

        async def ask_if_missing(event: Event) -> Event:
            if is_recommended(event, server):
                return event
            try:
                async with at_once:
                    return await self._ask(event, server)
            except MatrixError as error:
                log.info("not recommended", event_id=event.event_id, reason=error.message)
                return event

        return await asyncio.gather(*(ask_if_missing(event) for event in events))

    async def _ask(self, event: Event, server: PolicyServer) -> Event:
        """The event, signed. Raises what the server says, Unreachable.

        One that doesn't answer at all is left alone for a while: it mustn't hold up the room.
        """
        now = asyncio.get_running_loop().time()
        if now < (self._silent_until.get(server.server_name) or 0.0):
            raise Unreachable(server.server_name, "it did not answer lately")
        try:
            answer = await self._client.post(server.server_name, SIGN, event.pdu, TERMS)
        except Unreachable:
            self._silent_until.put(server.server_name, now + TERMS.seconds + SILENT_SECONDS)
            raise
        of_server = answer.get(server.server_name)
        signature = of_server.get(KEY_ID) if isinstance(of_server, dict) else None
        if not isinstance(signature, str):
            raise Forbidden("The room's policy server gave no signature")
        # It may be the event's own server: those signatures stay beside this one.
        try:
            return with_signature_by(event, server.server_name, KEY_ID, signature)
        except Rejected as rejected:
            raise TooLarge(rejected.reason) from None


def _verbatim(refusal: RemoteRefusal) -> MatrixError:
    """What the policy server said, in its own words, as far as it may be told to a client."""
    sentence, errcode = refusal.remote_body.get("error"), refusal.remote_body.get("errcode")
    if refusal.status != refusal.remote_status or errcode != refusal.errcode:
        return refusal
    retry = refusal.remote_body.get("retry_after_ms")
    more: JsonObject = {"retry_after_ms": retry} if type(retry) is int else {}
    text = sentence if isinstance(sentence, str) else refusal.message
    return MatrixError(text, errcode=refusal.errcode, status=refusal.status, **more)
