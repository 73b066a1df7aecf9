"""Which rooms are in a list, in which order, and which of them its windows show (MSC4186)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import TOMBSTONE
from homeserver.store.rooms import MembershipRow
from homeserver.stream.facts import ListedRoom
from homeserver.stream.invite_permission import Wanted
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sliding.request import Filters, ListRequest, RoomConfig

ENCRYPTION = "m.room.encryption"


class Candidate(Struct, frozen=True):
    """A room that can be in the user's lists. `bump`: the higher, the further up."""

    room_id: str
    row: MembershipRow
    listed: ListedRoom | None
    bump: int


class UserFacts(Struct, frozen=True):
    """What filters ask about a user. `children`: of the spaces that filters name."""

    direct: frozenset[str]
    tags: Mapping[str, frozenset[str]]
    children: Mapping[str, frozenset[str]]


class Window(Struct, frozen=True):
    """One range of a list and the rooms in it."""

    first: int
    last: int
    room_ids: tuple[str, ...]


class ListAnswer(Struct, frozen=True):
    count: int
    windows: tuple[Window, ...]


def candidates(user: LiveUser, listed: Mapping[int, ListedRoom], wanted: Wanted) -> list[Candidate]:
    """The rooms that the user is in, invited to or knocks on: the most recently active first.

    `wanted` says which of them they want to see.
    """
    found = []
    for room_id, row in user.rooms.items():
        if row.membership not in ("join", "invite", "knock") or not wanted.shows(row):
            continue
        found.append(candidate(room_id, row, listed.get(row.room_number)))
    found.sort(key=by_bump, reverse=True)
    return found


def candidate(room_id: str, row: MembershipRow, listed: ListedRoom | None) -> Candidate:
    """One room. An invite is as recent as its own arrival."""
    bump = row.position if row.membership != "join" or listed is None else listed.bump
    return Candidate(room_id, row, listed, bump)


def by_bump(room: Candidate) -> int:
    """The key to sort by."""
    return room.bump


def answer_list(request: ListRequest, rooms: Sequence[Candidate], user: UserFacts) -> ListAnswer:
    """The rooms that pass the list's filters, and those that its windows show."""
    tests = _tests(request.filters, user)
    for test in tests:
        rooms = [room for room in rooms if test(room)]
    kept = [room.room_id for room in rooms]
    windows = []
    for first, last in request.windows():
        if first <= last:
            windows.append(Window(first, last, tuple(kept[first : last + 1])))
    return ListAnswer(len(kept), tuple(windows))


Test = Callable[[Candidate], bool]


def _tests(filters: Filters, user: UserFacts) -> list[Test]:
    """What a room must pass; one test for each filter that is set."""
    tests: list[Test] = []
    if filters.is_dm is not None:
        tests.append(lambda room: (room.room_id in user.direct) is filters.is_dm)
    if filters.is_invite is not None:
        tests.append(lambda room: (room.row.membership == "invite") is filters.is_invite)
    if filters.is_encrypted is not None:
        tests.append(lambda room: _has(room, ENCRYPTION) is filters.is_encrypted)
    if filters.is_tombstoned is not None:
        tests.append(lambda room: _has(room, TOMBSTONE) is filters.is_tombstoned)
    tests.extend(_type_tests(filters))
    if filters.room_name_like:
        wanted = filters.room_name_like.casefold()
        tests.append(lambda room: wanted in (_name(room) or "").casefold())
    if filters.tags is not None:
        tags = frozenset(filters.tags)
        tests.append(lambda room: bool(tags & user.tags.get(room.room_id, frozenset())))
    if filters.not_tags is not None:
        not_tags = frozenset(filters.not_tags)
        tests.append(lambda room: not not_tags & user.tags.get(room.room_id, frozenset()))
    if filters.spaces is not None:
        inside: frozenset[str] = frozenset().union(
            *(user.children.get(space, frozenset()) for space in filters.spaces)
        )
        tests.append(lambda room: room.room_id in inside)
    return tests


def _type_tests(filters: Filters) -> Iterable[Test]:
    if filters.room_types is not None:
        room_types = frozenset(filters.room_types)
        yield lambda room: _room_type(room) in room_types
    if filters.not_room_types is not None:
        not_types = frozenset(filters.not_room_types)
        yield lambda room: _room_type(room) not in not_types


def _room_type(room: Candidate) -> str | None:
    if room.listed is not None:
        return room.listed.facts.room_type
    found = stripped_content(room.row, "m.room.create").get("type")
    return found if isinstance(found, str) else None


def _name(room: Candidate) -> str | None:
    if room.listed is not None:
        return room.listed.facts.name
    found = stripped_content(room.row, "m.room.name").get("name")
    return found if isinstance(found, str) else None


def _has(room: Candidate, event_type: str) -> bool:
    """Whether a room is encrypted, or closed by a tombstone."""
    if room.listed is None:
        return bool(stripped_content(room.row, event_type))
    facts = room.listed.facts
    value = facts.encryption if event_type == ENCRYPTION else facts.replacement_room
    return value is not None


def stripped_content(row: MembershipRow, event_type: str) -> JsonObject:
    """The content of a state event that came with an invite; {} if it didn't."""
    if row.stripped_state is None:
        return {}
    for event in msgspec.json.decode(row.stripped_state):
        if isinstance(event, dict) and event.get("type") == event_type:
            content = event.get("content")
            return content if isinstance(content, dict) else {}
    return {}


def direct_rooms(content: bytes | None) -> frozenset[str]:
    """The room ids in an `m.direct` account data."""
    decoded: Any = {} if content is None else msgspec.json.decode(content)
    lists = decoded.values() if isinstance(decoded, dict) else ()
    return frozenset(
        room_id
        for rooms in lists
        if isinstance(rooms, list)
        for room_id in rooms
        if isinstance(room_id, str)
    )


def tags_of(content: bytes) -> frozenset[str]:
    """The tags in an `m.tag` account data."""
    decoded: Any = msgspec.json.decode(content)
    tags = decoded.get("tags") if isinstance(decoded, dict) else None
    return frozenset(tags) if isinstance(tags, dict) else frozenset()


def shown_rooms(
    lists: Mapping[str, ListRequest],
    answers: Mapping[str, ListAnswer],
    subscriptions: Mapping[str, RoomConfig],
) -> dict[str, RoomConfig]:
    """Every room that is shown somewhere, with all that is asked for of it anywhere, in order."""
    shown: dict[str, RoomConfig] = {}
    for name, answer in answers.items():
        for window in answer.windows:
            for room_id in window.room_ids:
                shown[room_id] = _both(shown.get(room_id), lists[name])
    for room_id, config in subscriptions.items():
        shown[room_id] = _both(shown.get(room_id), config)
    return shown


def _both(known: RoomConfig | None, config: RoomConfig) -> RoomConfig:
    if known is None or known is config:
        return config
    return RoomConfig(
        required_state=tuple(dict.fromkeys((*known.required_state, *config.required_state))),
        timeline_limit=max(known.timeline_limit, config.timeline_limit),
    )
