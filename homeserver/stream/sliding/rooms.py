"""The rooms of a sliding sync answer: which of the shown ones have news, and what (MSC4186)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.filters import EVERY_ROOM_EVENT
from homeserver.store.rooms import MembershipRow
from homeserver.stream.facts import ListedRooms
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sections.cited_members import CitedMembers
from homeserver.stream.sections.room_state import Shown, StateHistory
from homeserver.stream.sections.timeline import Window, upto_order
from homeserver.stream.sections.windows import Windows
from homeserver.stream.sliding.connections import Told, ToldRoom
from homeserver.stream.sliding.lists import Candidate, stripped_content
from homeserver.stream.sliding.request import RoomConfig
from homeserver.stream.sliding.required_state import ANY, Required, StateWish, members_of
from homeserver.stream.sliding.room_parts import RoomPart, encode_invite, encode_room
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.sync_request import SyncRequest
from homeserver.stream.unread import Unread


class Asked(Struct, frozen=True):
    """The rooms that the client wants shown, and who asks."""

    request: SyncRequest
    user: LiveUser
    told: Told
    shown: Mapping[str, RoomConfig]
    candidates: Mapping[str, Candidate]
    direct: frozenset[str]
    upto: int
    wishes: dict[Required, StateWish] = field(default_factory=dict)
    """By what is required: one for all rooms of a list."""


class SlidingRooms:
    """Tells of rooms what a connection doesn't know yet."""

    def __init__(
        self, rooms: LiveRooms, listed: ListedRooms, windows: Windows, unread: Unread
    ) -> None:
        self._database = windows.database
        self._rooms = rooms
        self._listed = listed
        self._windows = windows
        self._unread = unread
        self._state = StateHistory(windows.database)
        self._cited = CitedMembers(windows.database, rooms)

    async def read(self, asked: Asked) -> tuple[dict[str, bytes], dict[str, ToldRoom]]:
        """The JSON of each room with news, and what the connection will know of it then."""
        told: dict[str, ToldRoom] = {}
        encoded = self._waiting(asked, told)
        wanted = self._with_news(asked)
        live = await self._rooms.get_many(wanted)
        parts = [await self._part(asked, room, wanted[room.room_id]) for room in live.values()]
        await self._windows.hide(asked.user.user_id, parts)
        await self._windows.bundle(asked.request, parts)
        await self._count(asked, parts)
        parts = [part for part in parts if await self._look(asked, part, told)]
        events = await self._load(parts)
        facts = await self._listed.get_many([part.room.number for part in parts])
        for part in parts:
            room_id = part.room.room_id
            assert part.next_told is not None
            told[room_id] = part.next_told
            encoded[room_id] = encode_room(
                asked.request, part, facts[part.room.number].facts, events
            )
        return encoded, told

    async def _count(self, asked: Asked, parts: list[RoomPart]) -> None:
        """What the user has not read of the rooms that they are in."""
        user_id = asked.user.user_id
        joined = [part for part in parts if part.room.membership_of(user_id) == "join"]
        await self._unread.prepare(user_id, [part.room for part in joined])
        for part in joined:
            part.unread = self._unread.of(user_id, part.room)

    def _waiting(self, asked: Asked, told: dict[str, ToldRoom]) -> dict[str, bytes]:
        """The invites and knocks that were not told yet."""
        encoded: dict[str, bytes] = {}
        for room_id, config in asked.shown.items():
            row = asked.user.rooms.get(room_id)
            if row is None or row.membership not in ("invite", "knock"):
                continue
            if room_id not in asked.candidates:
                continue  # an unwanted invite
            known = asked.told.rooms.get(room_id)
            if known is None or known.upto < row.position:
                told[room_id] = replace(_knows(row.position, config), from_outside=True)
                encoded[room_id] = encode_invite(
                    row, _invite_facts(row), is_direct=room_id in asked.direct
                )
        return encoded

    def _with_news(self, asked: Asked) -> dict[str, RoomConfig]:
        """The rooms to look at: changed, shown for the first time, asked for more of, or left."""
        wanted: dict[str, RoomConfig] = {}
        for room_id, config in asked.shown.items():
            row = asked.user.rooms.get(room_id)
            if row is None or row.membership != "join":
                continue
            known = asked.told.rooms.get(room_id)
            if (
                known is None
                or self._rooms.last_change(room_id) > known.upto
                or config.timeline_limit > known.timeline_limit
                or not config.required <= known.required_state
            ):
                wanted[room_id] = config
        if asked.user.last_membership > asked.told.position > 0:
            wanted |= self._left(asked)
        return wanted

    def _left(self, asked: Asked) -> dict[str, RoomConfig]:
        """Rooms that the connection knows and that the user has left since: how it came to that."""
        return {
            room_id: RoomConfig(tuple(known.required_state), max(1, known.timeline_limit))
            for room_id, row in asked.user.rooms.items()
            if row.membership in ("leave", "ban")
            and row.position > asked.told.position
            and (known := asked.told.rooms.get(room_id)) is not None
        }

    async def _part(self, asked: Asked, room: LiveRoom, config: RoomConfig) -> RoomPart:
        known = asked.told.rooms.get(room.room_id)
        row = asked.user.rooms.get(room.room_id)
        if known is not None and row is not None and (row.joined_from or 0) > known.upto:
            known = None  # joined (again) since: told like a new room
        if known is not None and _is_to_be_told(room, config, known):
            known = None  # all members are wanted, and have come; or not all was true
        left = row is not None and row.membership in ("leave", "ban")
        upto = row.position if left and row is not None else asked.upto
        more = not left and known is not None and config.timeline_limit > known.timeline_limit
        after = None if known is None or more else upto_order(known.upto)
        window = Window(room, after, upto_order(upto))
        shared = await self._windows.read(window, EVERY_ROOM_EVENT, config.timeline_limit)
        candidate = asked.candidates.get(room.room_id)
        wish = asked.wishes.get(config.required)
        if wish is None:
            wish = StateWish(config.required, asked.user.user_id)
            asked.wishes[config.required] = wish
        return RoomPart(
            room,
            shared,
            wish=wish,
            told=known,
            next_told=_knows(upto, config),
            expanded=more,
            bump=candidate.bump if candidate is not None else room.last_position,
            is_direct=room.room_id in asked.direct,
            live_after=asked.told.position or None,
        )

    async def _look(self, asked: Asked, part: RoomPart, told: dict[str, ToldRoom]) -> bool:
        """Whether the room has news; if it has none, it needn't be looked at again for that."""
        if await self._has_news(asked, part):
            return True
        if part.told is not None:
            told[part.room.room_id] = replace(part.told, upto=asked.upto)
        return False

    async def _has_news(self, asked: Asked, part: RoomPart) -> bool:
        """Find the state to show; whether there is anything to tell at all."""
        known = part.told
        wish = part.wish
        assert wish is not None and part.next_told is not None
        window = part.timeline.window
        if known is None:
            state = await self._state.at(part.room, window.upto + 1)
            part.required = wish.pick(state)
        else:
            part.changed = await self._changed(part, known)
            if known.from_outside:
                own = (MEMBER, asked.user.user_id)
                part.changed = {key: e for key, e in part.changed.items() if key == own}
            part.required = {key: e for key, e in part.changed.items() if wish.wants(key)}
            added = part.next_told.required_state - known.required_state
            if added:
                state = await self._state.at(part.room, window.upto + 1)
                part.required |= StateWish(added, asked.user.user_id).pick(state)
        if wish.lazy:
            await self._add_speakers(part, known)
        if known is not None and part.unread is not None and part.unread.changed_at > known.upto:
            return True
        if part.counts_changed:
            return True
        return bool(
            known is None or part.expanded or part.timeline.events or part.required or part.changed
        )

    async def _changed(self, part: RoomPart, known: ToldRoom) -> Shown:
        """The state that changed since the room was told of last."""
        timeline = part.timeline
        if timeline.window.after is None:
            window = Window(part.room, upto_order(known.upto), timeline.window.upto)
            shared = await self._windows.read(window, EVERY_ROOM_EVENT, 0)
            timeline = shared.timeline
        return await self._state.shown(timeline, after=True)

    async def _add_speakers(self, part: RoomPart, known: ToldRoom | None) -> None:
        """`$LAZY`: the member events of those who speak, unless the client has them."""
        assert part.next_told is not None
        sent = frozenset() if known is None else known.members
        speakers = part.window.senders - sent
        for key, event_id in part.changed.items():
            if key[0] == MEMBER and (key[1] in sent or key[1] in speakers):
                part.required[key] = event_id
        if speakers:
            state = await self._state.at(part.room, part.timeline.window.upto + 1)
            part.required |= members_of(state, speakers)
            part.required |= await self._cited.of(part.room, part.timeline.events, speakers)
        part.next_told = ToldRoom(
            part.next_told.upto,
            part.next_told.timeline_limit,
            part.next_told.required_state,
            sent | speakers,
        )

    async def _load(self, parts: list[RoomPart]) -> dict[str, StoredEvent]:
        wanted = {event_id for part in parts for event_id in part.required.values()}
        cache = self._rooms.events
        found = {e: stored for e in wanted if (stored := cache.peek(e)) is not None}
        missing = wanted - found.keys()
        if missing:
            async with self._database.connection() as connection:
                found |= await cache.get_many(connection, missing, self._rooms.rules_of)
        return found


def _is_to_be_told(room: LiveRoom, config: RoomConfig, known: ToldRoom) -> bool:
    """Whether a room is to be told anew, now that we have its whole state."""
    if room.is_partial or room.complete_from <= known.upto or known.from_outside:
        return False
    wish = StateWish(config.required, "")
    return room.corrected_from > 0 or wish.wants((MEMBER, ANY))


def _knows(upto: int, config: RoomConfig) -> ToldRoom:
    return ToldRoom(upto, config.timeline_limit, config.required)


def _invite_facts(row: MembershipRow) -> dict[str, Any]:
    name = stripped_content(row, "m.room.name").get("name")
    avatar = stripped_content(row, "m.room.avatar").get("url")
    facts = {"name": name, "avatar": avatar}
    return {key: value for key, value in facts.items() if isinstance(value, str)}
