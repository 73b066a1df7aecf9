"""Our users join, leave and knock on rooms of other servers, and invite users of other servers.

Rules of this file: several servers are tried in turn; a server's refusal ends it only if it is the
last one, or if no other server could answer otherwise.
server-server-api#joining-rooms, #leaving-rooms-rejecting-invites, #knocking-upon-a-room,
#inviting-to-a-room
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from msgspec import Raw, Struct
from msgspec.structs import replace

from homeserver.clock import Clock
from homeserver.errors import (
    BadGateway,
    Forbidden,
    MatrixError,
    NotFound,
    UnsupportedRoomVersion,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event, sign_pdu, with_signatures
from homeserver.protocol.identifiers import is_server_name, server_name_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.remote.errors import RemoteRefusal
from homeserver.store import profiles as profile_store
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.inbound import Inbound
from homeserver.stream.memberships import member_content
from homeserver.stream.outside_memberships import as_left
from homeserver.stream.short_offers import Offer
from homeserver.stream.stripped_state import stripped_from_pdus

V1 = "/_matrix/federation/v1"
V2 = "/_matrix/federation/v2"
MAX_SERVERS = 20
MAX_SERVERS_IN_ROOM = 10_000
"""Nobody can make us tell events to more servers by their word alone."""
JOIN = Terms(seconds=180.0, max_bytes=256 * 1024 * 1024, ignore_backoff=True)
STEP = Terms(seconds=30.0, ignore_backoff=True)

log = structlog.get_logger(__name__)


class _Handshake(Struct, frozen=True):
    """The first step's result: our signed member event and the server that helps."""

    server: str
    rules: RoomVersion
    event: Event


class _JoinAnswer(Struct):
    """What the second step of a join gives. server-server-api#put_matrixfederationv2send_join"""

    state: list[Raw]
    auth_chain: list[Raw]
    event: JsonObject | None = None
    members_omitted: bool | None = None
    servers_in_room: list[str] | None = None


class RemoteMembership:
    """The outgoing side of memberships across servers."""

    def __init__(
        self,
        database: Database,
        stream: StreamCore,
        inbound: Inbound,
        client: FederationClient,
        clock: Clock,
    ) -> None:
        self._database = database
        self._stream = stream
        self._inbound = inbound
        self._outside = inbound.outside
        self._entry = inbound.entry
        self._client = client
        self._clock = clock

    async def takes_part(self, room_id: str) -> bool:
        """Can this server act in the room by itself: is one of ours in it, or nobody at all?"""
        room = await self._stream.rooms.get(room_id)
        return room is not None and (bool(room.joined_local) or not room.joined_servers)

    async def lets_in(self, room_id: str) -> bool:
        """The same, and can it say who may join? Not while it lacks the room's members."""
        room = await self._stream.rooms.get(room_id)
        return room is not None and not room.is_partial and await self.takes_part(room_id)

    async def join(
        self, user_id: str, room_id: str, servers: Iterable[str], content: JsonObject
    ) -> None:
        """Join through one of the servers. Raises what the last one refused with, NotFound."""
        room = await self._stream.rooms.get(room_id)
        if room is not None and user_id in room.joined_local:
            return
        profile = await self._profile(user_id)
        ours = {**member_content("join", profile), **content}
        candidates = await self._candidates(user_id, room_id, servers)
        problem: MatrixError = NotFound("No server is known that is in this room")
        for server in candidates:
            try:
                await self._join_through(server, user_id, room_id, ours)
            except MatrixError as error:
                log.info("join failed", room_id=room_id, server=server, reason=error.message)
                problem = error
                if _is_final(error):
                    break
            else:
                return
        raise problem

    async def _join_through(
        self, server: str, user_id: str, room_id: str, content: JsonObject
    ) -> None:
        hand = await self._make(server, user_id, room_id, content)
        query = [("omit_members", "true")]
        path = path_to(f"{V2}/send_join", room_id, hand.event.event_id, query=query)
        answer = await self._client.put_as(server, path, hand.event.pdu, _JoinAnswer, JOIN)
        event = hand.event
        if answer.event is not None and "join_authorised_via_users_server" in event.content:
            event = with_more_signatures(event, answer.event)
        room = await self._stream.rooms.get(room_id)
        if room is None or not room.joined_local:
            servers = self._servers(server, answer) if answer.members_omitted else None
            offer = Offer(event, answer.state, answer.auth_chain, servers)
            del answer
            if await self._entry.enter(server, room_id, hand.rules, offer):
                return
        await self._inbound.incoming.accept(server, event)

    def _servers(self, server: str, answer: _JoinAnswer) -> tuple[str, ...]:
        """Those who can be asked for the members and are to be told of events."""
        ours = self._stream.sender.signer.server_name
        told = [name for name in answer.servers_in_room or () if is_server_name(name)]
        names = dict.fromkeys([server, *told[:MAX_SERVERS_IN_ROOM]])
        return tuple(name for name in names if name != ours)

    async def leave(self, user_id: str, room_id: str, content: JsonObject) -> bool:
        """Reject an invite or take back a knock in a room we aren't in; False if there is none.

        If no server helps, the user has left nonetheless, as far as we are concerned.
        """
        user = await self._stream.users.get(user_id)
        row = user.rooms.get(room_id)
        if row is None or row.membership not in ("invite", "knock"):
            return False
        full: JsonObject = {**content, "membership": "leave"}
        event: Event | None = None
        for server in await self._candidates(user_id, room_id, ()):
            try:
                hand = await self._make(server, user_id, room_id, full)
                path = path_to(f"{V2}/send_leave", room_id, hand.event.event_id)
                await self._client.put(server, path, hand.event.pdu, STEP)
            except MatrixError as error:
                log.info("leave failed", room_id=room_id, server=server, reason=error.message)
                continue
            event = hand.event
            break
        event = event or await self._left_by_itself(user_id, room_id, row.event_id, full)
        user = await self._stream.users.get(user_id)
        if user.rooms.get(room_id) != row:
            return True  # something else became of it meanwhile, which is newer
        left = replace(
            row,
            membership="leave",
            event_id=event.event_id,
            sender=user_id,
            stripped_state=as_left(event),
        )
        await self._outside.put(room_id, left)
        return True

    async def _left_by_itself(
        self, user_id: str, room_id: str, invite_id: str, content: JsonObject
    ) -> Event:
        """A leave that no other server takes: only the user's own clients ever see it."""
        async with self._database.connection() as connection:
            [room] = await room_store.by_ids(connection, [room_id])
        rules = ROOM_VERSIONS[room.version]
        cited: list[Any] = [[invite_id, {}] if rules.event_id_in_pdu else invite_id]
        template: JsonObject = {
            "type": MEMBER,
            "room_id": room_id,
            "sender": user_id,
            "state_key": user_id,
            "content": content,
            "depth": 1,
            "prev_events": cited,
            "auth_events": cited,
        }
        return self._sign(template, rules)

    async def knock(
        self, user_id: str, room_id: str, servers: Iterable[str], content: JsonObject
    ) -> None:
        """Knock through one of the servers. Raises what the last one refused with, NotFound."""
        full = {**content, **member_content("knock", await self._profile(user_id))}
        problem: MatrixError = NotFound("No server is known that is in this room")
        for server in await self._candidates(user_id, room_id, servers):
            try:
                hand = await self._make(server, user_id, room_id, full)
                path = path_to(f"{V1}/send_knock", room_id, hand.event.event_id)
                answer = await self._client.put(server, path, hand.event.pdu, STEP)
            except MatrixError as error:
                problem = error
                if _is_final(error):
                    break
                continue
            told = _list(answer, "knock_room_state")
            told = await self._outside.told_state(told, hand.rules, room_id)
            stripped = stripped_from_pdus([*told, hand.event.pdu])
            await self._outside.remember(room_id, hand.rules, hand.event, stripped)
            return
        raise problem

    async def invite(self, inviter: str, room_id: str, user_id: str, content: JsonObject) -> None:
        """Invite a user of another server into a room that we are in.

        "Once the event has been signed by both the inviting homeserver and the invited homeserver,
        it can be sent to all of the servers in the room". Raises Forbidden, Unreachable and what
        the other server refuses with.
        """
        room = await self._stream.whole_rooms.knowing(room_id, user_id)
        if room is None or room.membership_of(inviter) != "join":
            raise Forbidden("You are not in this room")
        if room.membership_of(user_id) == "join":
            raise Forbidden("This user is already in the room")
        full: JsonObject = {**content, "membership": "invite"}
        template = await self._stream.sender.template(
            room_id, Draft(inviter, MEMBER, full, user_id)
        )
        event = self._sign(template, room.rules)
        event = await self._inbound.invited_servers.signed(room, event)
        await self._inbound.incoming.accept(server_name_of(user_id), event)

    async def _make(
        self, server: str, user_id: str, room_id: str, content: JsonObject
    ) -> _Handshake:
        """The first step: a template from the server, checked, filled in and signed."""
        membership = content["membership"]
        query = [("ver", version) for version in ROOM_VERSIONS] if membership != "leave" else []
        path = path_to(f"{V1}/make_{membership}", room_id, user_id, query=query)
        answer = await self._client.get(server, path, STEP)
        version = answer.get("room_version", "1")
        if not isinstance(version, str) or version not in ROOM_VERSIONS:
            raise UnsupportedRoomVersion(f"The room has the version {version!r}")
        template = answer.get("event")
        _check_template(template, user_id, room_id, membership)
        assert isinstance(template, dict)
        told = template["content"]
        merged = {**content}
        if isinstance(told.get("join_authorised_via_users_server"), str):
            merged["join_authorised_via_users_server"] = told["join_authorised_via_users_server"]
        rules = ROOM_VERSIONS[version]
        return _Handshake(server, rules, self._sign({**template, "content": merged}, rules))

    def _sign(self, template: JsonObject, rules: RoomVersion) -> Event:
        """Our event of a template. Raises BadGateway if the template is no good."""
        signer = self._stream.sender.signer
        pdu = {**template, "origin": signer.server_name, "origin_server_ts": self._clock()}
        if rules.event_id_in_pdu:
            pdu["event_id"] = self._stream.sender.new_event_id()
        try:
            return sign_pdu(pdu, rules, signer)
        except (Rejected, CanonicalJsonError, KeyError, TypeError, AttributeError) as error:
            raise BadGateway(f"The template is not valid: {error}") from None

    async def _candidates(self, user_id: str, room_id: str, servers: Iterable[str]) -> list[str]:
        """Whom to ask: the named servers, the inviter's, those we know in the room, its own."""
        user = await self._stream.users.get(user_id)
        row = user.rooms.get(room_id)
        inviter = server_name_of(row.sender) if row is not None else ""
        room = await self._stream.rooms.get(room_id)
        known = [] if room is None else [name for name, _ in room.joined_servers.most_common(5)]
        ours = self._stream.sender.signer.server_name
        names = dict.fromkeys([*servers, inviter, *known, server_name_of(room_id)])
        return [name for name in names if name and name != ours][:MAX_SERVERS]

    async def _profile(self, user_id: str) -> JsonObject:
        async with self._database.connection() as connection:
            return await profile_store.get(connection, user_id)


def with_more_signatures(event: Event, pdu: JsonObject) -> Event:
    """The event with the signatures that another server's copy of it has in addition."""
    signatures = pdu.get("signatures")
    return with_signatures(event, signatures if isinstance(signatures, dict) else {})


def _check_template(template: Any, user_id: str, room_id: str, membership: str) -> None:
    """Raises BadGateway. "In case any of the above checks fail, the response MUST be treated as
    malformed and discarded. The caller MAY try to join through another server."
    """
    content = template.get("content") if isinstance(template, dict) else None
    if (
        not isinstance(template, dict)
        or not isinstance(content, dict)
        or template.get("type") != MEMBER
        or template.get("room_id") != room_id
        or template.get("sender") != user_id
        or template.get("state_key") != user_id
        or content.get("membership") != membership
    ):
        raise BadGateway("The other server's template is not what was asked for")


def _is_final(error: MatrixError) -> bool:
    """Would another server say the same?"""
    if not isinstance(error, RemoteRefusal):
        return isinstance(error, UnsupportedRoomVersion)
    return error.errcode in ("M_INCOMPATIBLE_ROOM_VERSION", "M_UNSUPPORTED_ROOM_VERSION")


def _list(answer: JsonObject, name: str) -> list[Any]:
    value = answer.get(name)
    return value if isinstance(value, list) else []
