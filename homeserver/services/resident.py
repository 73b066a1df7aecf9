"""We are in the room, and a user of another server wants to join, leave or knock.

server-server-api#joining-rooms, #leaving-rooms-rejecting-invites, #knocking-upon-a-room
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw, Struct

from homeserver.errors import (
    BadJson,
    Forbidden,
    IncompatibleRoomVersion,
    InvalidParam,
    NotFound,
    UnableToGrantJoin,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event, add_signature
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.signatures import Signer
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.inbound import Inbound
from homeserver.stream.live_room import LiveRoom, State
from homeserver.stream.restricted_joins import RestrictedJoins
from homeserver.stream.serve_pdus import auth_chain_ids, served_by_ids
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.stripped_state import STRIPPED_KEYS
from homeserver.stream.verify import parse

HEROES = 5


class SignedMembership(Struct, frozen=True):
    """What a server sends as the second step: a member event under its id."""

    origin: str
    room_id: str
    event_id: str
    membership: str
    pdu: JsonObject


class Resident:
    """Answers the two steps of joining, leaving and knocking."""

    def __init__(self, database: Database, stream: StreamCore, inbound: Inbound) -> None:
        self._database = database
        self._rooms = stream.rooms
        self._sender = stream.sender
        self._writer = stream.writer
        self._inbound = inbound
        self._restricted = RestrictedJoins(database, stream.rooms)

    @property
    def _signer(self) -> Signer:
        return self._sender.signer

    async def room_for(self, origin: str, room_id: str) -> LiveRoom:
        """A room that we are in and that lets the server take part. Raises NotFound, Forbidden."""
        room = await self._rooms.get(room_id)
        if room is None or not room.joined_local:
            raise NotFound("This server is not in the room")
        if not await self._inbound.incoming.is_allowed(room, origin):
            raise Forbidden("Your server is banned from this room")
        return room

    async def make(
        self,
        origin: str,
        room_id: str,
        user_id: str,
        membership: str,
        versions: Sequence[str] | None,
    ) -> JsonObject:
        """The template of a member event. `versions` are those that the other server knows.

        Raises Forbidden, NotFound, IncompatibleRoomVersion and what restricted rooms refuse with.
        """
        if server_name_of(user_id) != origin:
            raise Forbidden("The user is not of your server")
        room = await self.room_for(origin, room_id)
        if membership != "leave":
            _require_whole(room)
        version = room.rules.identifier
        if versions is not None and version not in versions:
            raise IncompatibleRoomVersion(
                f"The room has the version {version}, which your server doesn't know",
                room_version=version,
            )
        content: JsonObject = {"membership": membership}
        if membership == "join":
            authoriser = await self._restricted.authoriser(room, user_id, Forbidden)
            if authoriser is not None:
                content["join_authorised_via_users_server"] = authoriser
        draft = Draft(user_id, MEMBER, content, user_id)
        template = await self._sender.template(room_id, draft)
        await self._writer.settle()  # the events that it names can be asked for now
        return {"room_version": version, "event": template}

    async def send_join(self, signed: SignedMembership, omit_members: bool) -> JsonObject:
        """Take in a join; the answer has the state before it. Raises BadJson, InvalidParam,
        Forbidden."""
        room = await self.room_for(signed.origin, signed.room_id)
        _require_whole(room)
        event = _checked(signed, room)
        event = await self._with_our_signature(room, event)
        servers = sorted(room.joined_servers)
        stored = await self._receive(signed.origin, event)
        return await self._join_answer(room, stored, servers, omit_members)

    async def send_leave(self, signed: SignedMembership) -> JsonObject:
        """Take in a leave. Raises BadJson, InvalidParam, Forbidden."""
        room = await self.room_for(signed.origin, signed.room_id)
        await self._receive(signed.origin, _checked(signed, room))
        return {}

    async def send_knock(self, signed: SignedMembership) -> JsonObject:
        """Take in a knock; the answer says what the room looks like. Raises as `send_leave`."""
        room = await self.room_for(signed.origin, signed.room_id)
        _require_whole(room)
        if not room.rules.knocking:
            raise Forbidden("This room does not support knocking")
        await self._receive(signed.origin, _checked(signed, room))
        return {"knock_room_state": await self.stripped_pdus(room, room.state)}

    async def stripped_pdus(self, room: LiveRoom, state: State) -> list[Raw]:
        """What somebody outside is told of a room, as PDUs (since v1.16)."""
        ids = [event_id for event_id in map(state.get, STRIPPED_KEYS) if event_id is not None]
        async with self._database.connection() as connection:
            return await served_by_ids(connection, ids, room.rules)

    async def _with_our_signature(self, room: LiveRoom, event: Event) -> Event:
        """A restricted join that one of our users vouches for gets our signature."""
        authoriser = event.content.get("join_authorised_via_users_server")
        if not isinstance(authoriser, str) or not room.rules.restricted_joins:
            return event
        if server_name_of(authoriser) != self._signer.server_name:
            return event
        if await self._restricted.authoriser(room, event.sender, Forbidden) is None:
            return event
        return add_signature(event, self._signer)

    async def _receive(self, origin: str, event: Event) -> StoredEvent:
        verified = await self._inbound.verifier.check_signatures([event])
        if verified.problems:
            raise InvalidParam(f"The event: {verified.problems[event.event_id]}")
        with self._inbound.receiver.relaying(event.event_id):
            return await self._inbound.incoming.accept(origin, event)

    async def _join_answer(
        self, room: LiveRoom, stored: StoredEvent, servers: list[str], omit_members: bool
    ) -> JsonObject:
        assert stored.state_group is not None
        async with self._database.connection() as connection:
            states = await self._rooms.group_states.get_many(connection, [stored.state_group])
            state = states[stored.state_group].state
            ids = _state_ids(state, stored.event.sender) if omit_members else list(state.values())
            chain = set(await auth_chain_ids(connection, [*ids, stored.event_id]))
            if omit_members:
                chain -= set(ids)
            pdus = await served_by_ids(connection, ids, room.rules)
            chain_pdus = await served_by_ids(connection, chain, room.rules)
        answer: JsonObject = {
            "origin": self._signer.server_name,
            "state": pdus,
            "auth_chain": chain_pdus,
            "event": Raw(stored.json),
            "members_omitted": omit_members,
        }
        if omit_members:
            answer["servers_in_room"] = servers
        return answer


def _require_whole(room: LiveRoom) -> None:
    """Raises UnableToGrantJoin: "a different server should be attempted for the join"."""
    if room.is_partial:
        raise UnableToGrantJoin("This server has just joined the room itself: ask another one")


def _state_ids(state: State, joining: str) -> list[str]:
    """A state without its members, but for those by whom an unnamed room is called."""
    ids = [event_id for (event_type, _), event_id in state.items() if event_type != MEMBER]
    if ("m.room.name", "") not in state and ("m.room.canonical_alias", "") not in state:
        members = sorted(key for event_type, key in state if event_type == MEMBER)
        heroes = [user_id for user_id in members if user_id != joining][:HEROES]
        ids.extend(state[MEMBER, user_id] for user_id in heroes)
    return ids


def _checked(signed: SignedMembership, room: LiveRoom) -> Event:
    """The event, if it is what the request says. Raises BadJson, InvalidParam."""
    event = parse(signed.pdu, room.rules)
    problem: str | None = None
    if event is None:
        raise BadJson("The event is not valid in this room version")
    if event.event_id != signed.event_id:
        problem = "the event id differs from the path's"
    elif event.room_id != signed.room_id:
        problem = "the room id differs from the path's"
    elif event.type != MEMBER or event.membership != signed.membership:
        problem = f"it is no {MEMBER} event with the membership {signed.membership}"
    elif event.sender != event.state_key:
        problem = "`sender` and `state_key` differ"
    elif server_name_of(event.sender) != signed.origin:
        problem = "the sender is not of your server"
    if problem is not None:
        raise InvalidParam(f"The event can't be accepted: {problem}")
    return event
