"""Filters: what a client wants to be sent, parsed and made ready for the hottest loops.

Rules of this file: the Structs are the specification's JSON, field by field; the matchers are
what is asked per event, and decide nothing twice. A filter that restricts nothing says so in one
attribute (`matches_all`), so that the loops can skip it altogether.
client-server-api#filtering
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Struct

from homeserver.json_types import BAD_JSON, JsonObject
from homeserver.protocol.event_fields import EventFields
from homeserver.protocol.globs import wildcard_pattern

UserId = Annotated[str, msgspec.Meta(pattern="^@")]
RoomId = Annotated[str, msgspec.Meta(pattern="^!")]
Limit = Annotated[int, msgspec.Meta(ge=0)]

_CACHED_TEXT = 4096


class FilterError(ValueError):
    """The filter isn't one; the text names the field and what was expected there."""


class EventFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """Filters presence and global account data."""

    limit: Limit | None = None
    types: tuple[str, ...] | None = None
    not_types: tuple[str, ...] | None = None
    senders: tuple[UserId, ...] | None = None
    not_senders: tuple[UserId, ...] | None = None


class RoomEventFilter(EventFilter, frozen=True, omit_defaults=True):
    """Filters what belongs to rooms; also the `filter` parameter of `/messages` and `/context`.

    `related_by_senders` and `related_by_rel_types` (MSC3440) let through only events that have a
    relation of such a type, or by such a sender: a question for the store, not answered here.
    """

    rooms: tuple[RoomId, ...] | None = None
    not_rooms: tuple[RoomId, ...] | None = None
    contains_url: bool | None = None
    lazy_load_members: bool | None = None
    include_redundant_members: bool | None = None
    unread_thread_notifications: bool | None = None
    related_by_senders: tuple[UserId, ...] | None = None
    related_by_rel_types: tuple[str, ...] | None = None


class RoomFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    rooms: tuple[RoomId, ...] | None = None
    not_rooms: tuple[RoomId, ...] | None = None
    include_leave: bool | None = None
    ephemeral: RoomEventFilter | None = None
    state: RoomEventFilter | None = None
    timeline: RoomEventFilter | None = None
    account_data: RoomEventFilter | None = None


class FilterDefinition(msgspec.Struct, frozen=True, omit_defaults=True):
    """The whole filter, as `POST /user/{userId}/filter` and `/sync` take it."""

    event_fields: tuple[str, ...] | None = None
    event_format: Literal["client", "federation"] | None = None
    presence: EventFilter | None = None
    account_data: EventFilter | None = None
    room: RoomFilter | None = None


class NameMatcher(Struct, frozen=True):
    """Allows a name that is included and not excluded.

    The `*` of types is any sequence of characters; ids have no wildcards and no `*` in them.
    """

    included: frozenset[str] | None
    included_pattern: re.Pattern[str] | None
    excluded: frozenset[str]
    excluded_pattern: re.Pattern[str] | None
    matches_all: bool

    def allows(self, name: str) -> bool:
        if self.matches_all:
            return True
        # "A matching type will be excluded even if it is listed in the `types` filter."
        if name in self.excluded:
            return False
        if self.excluded_pattern is not None and self.excluded_pattern.fullmatch(name):
            return False
        if self.included is None or name in self.included:
            return True
        return self.included_pattern is not None and bool(self.included_pattern.fullmatch(name))


class EventMatcher(Struct, frozen=True):
    """One compiled (Room)EventFilter. Ask `matches_all` before a loop, `event_allowed` in it.

    `matches_all`: no event of any room is held back (`limit` and member loading don't count).
    `definition` has the plain fields, for a query that narrows its rows by them.
    """

    definition: RoomEventFilter
    matches_all: bool
    matches_all_events: bool
    types: NameMatcher
    senders: NameMatcher
    rooms: NameMatcher
    contains_url: bool | None
    lazy_load_members: bool
    include_redundant_members: bool
    unread_thread_notifications: bool

    @property
    def asks_for_relations(self) -> bool:
        """Whether it lets through only events that others relate to: only the database knows."""
        definition = self.definition
        return (
            definition.related_by_senders is not None or definition.related_by_rel_types is not None
        )

    def event_allowed(
        self, event_type: str, sender: str, content: Callable[[], JsonObject]
    ) -> bool:
        """May this event be sent? `content` is only called where the filter asks for a `url`."""
        if self.matches_all_events:
            return True
        if not (self.types.allows(event_type) and self.senders.allows(sender)):
            return False
        # "If `true`, includes only events with a `url` key in their content. If `false`,
        # excludes those events. If omitted, `url` key is not considered for filtering."
        return self.contains_url is None or ("url" in content()) is self.contains_url

    def type_allowed(self, event_type: str) -> bool:
        """For what has a type and no sender: account data, ephemeral events."""
        return self.types.allows(event_type)

    def room_allowed(self, room_id: str) -> bool:
        return self.rooms.allows(room_id)

    def limit(self, default: int, maximum: int) -> int:
        """How many events at most, clamped to the server's `maximum`."""
        asked = self.definition.limit
        return min(default if asked is None else asked, maximum)


class Filter(Struct, frozen=True):
    """A compiled filter; `matches_all` if every event in every section is sent as a whole."""

    definition: FilterDefinition
    matches_all: bool
    rooms: NameMatcher
    include_leave: bool
    presence: EventMatcher
    account_data: EventMatcher
    ephemeral: EventMatcher
    state: EventMatcher
    timeline: EventMatcher
    room_account_data: EventMatcher
    event_fields: EventFields | None
    federation_format: bool

    def room_allowed(self, room_id: str) -> bool:
        """`room.rooms` and `room.not_rooms`, which stand before the filters of the sections."""
        return self.rooms.allows(room_id)


def parse_filter(source: str | bytes | JsonObject) -> Filter:
    """A filter from JSON text (remembered by its text) or from an already decoded body.

    Raises FilterError naming the field. client-server-api#post_matrixclientv3useruseridfilter
    """
    if isinstance(source, str | bytes):
        return _parse_text(source) if len(source) <= _CACHED_TEXT else _decode_filter(source)
    return compile_filter(_checked(lambda: msgspec.convert(source, FilterDefinition)))


def parse_room_event_filter(source: str | bytes | JsonObject) -> EventMatcher:
    """The RoomEventFilter of `/messages`, `/context` and `/search`. Raises FilterError."""
    if isinstance(source, str | bytes):
        if len(source) <= _CACHED_TEXT:
            return _parse_room_event_text(source)
        return _decode_room_event_filter(source)
    return compile_event_filter(_checked(lambda: msgspec.convert(source, RoomEventFilter)))


def compile_filter(definition: FilterDefinition) -> Filter:
    room = definition.room or RoomFilter()
    rooms = _ids(room.rooms, room.not_rooms)
    presence, account_data, ephemeral, state, timeline, room_account_data = sections = [
        compile_event_filter(section)
        for section in (
            definition.presence,
            definition.account_data,
            room.ephemeral,
            room.state,
            room.timeline,
            room.account_data,
        )
    ]
    event_fields = None if definition.event_fields is None else EventFields(definition.event_fields)
    federation_format = definition.event_format == "federation"
    untouched = event_fields is None and not federation_format
    return Filter(
        definition=definition,
        matches_all=untouched and rooms.matches_all and all(s.matches_all for s in sections),
        rooms=rooms,
        include_leave=bool(room.include_leave),
        presence=presence,
        account_data=account_data,
        ephemeral=ephemeral,
        state=state,
        timeline=timeline,
        room_account_data=room_account_data,
        event_fields=event_fields,
        federation_format=federation_format,
    )


def compile_event_filter(source: EventFilter | None) -> EventMatcher:
    definition = _as_room_event_filter(source)
    types = _types(definition.types, definition.not_types)
    senders = _ids(definition.senders, definition.not_senders)
    rooms = _ids(definition.rooms, definition.not_rooms)
    unrelated = definition.related_by_senders is None and definition.related_by_rel_types is None
    all_events = types.matches_all and senders.matches_all and definition.contains_url is None
    return EventMatcher(
        definition=definition,
        matches_all=all_events and rooms.matches_all and unrelated,
        matches_all_events=all_events,
        types=types,
        senders=senders,
        rooms=rooms,
        contains_url=definition.contains_url,
        lazy_load_members=bool(definition.lazy_load_members),
        include_redundant_members=bool(definition.include_redundant_members),
        unread_thread_notifications=bool(definition.unread_thread_notifications),
    )


def _as_room_event_filter(source: EventFilter | None) -> RoomEventFilter:
    if isinstance(source, RoomEventFilter):
        return source
    if source is None:
        return RoomEventFilter()
    return RoomEventFilter(**msgspec.structs.asdict(source))


def _ids(included: tuple[str, ...] | None, excluded: tuple[str, ...] | None) -> NameMatcher:
    return NameMatcher(
        included=None if included is None else frozenset(included),
        included_pattern=None,
        excluded=frozenset(excluded or ()),
        excluded_pattern=None,
        matches_all=included is None and not excluded,
    )


def _types(included: tuple[str, ...] | None, excluded: tuple[str, ...] | None) -> NameMatcher:
    if included is not None and any(not name.strip("*") and name for name in included):
        included = None  # a bare `*` includes everything
    return NameMatcher(
        included=None if included is None else frozenset(included),
        included_pattern=_wildcards(included or ()),
        excluded=frozenset(excluded or ()),
        excluded_pattern=_wildcards(excluded or ()),
        matches_all=included is None and not excluded,
    )


def _wildcards(names: tuple[str, ...]) -> re.Pattern[str] | None:
    globs = [name for name in names if "*" in name]
    return wildcard_pattern(globs) if globs else None


_Parsed = TypeVar("_Parsed")


def _checked(parse: Callable[[], _Parsed]) -> _Parsed:
    try:
        return parse()
    except msgspec.ValidationError as error:
        raise FilterError(str(error).replace("$.", "")) from error
    except BAD_JSON as error:
        raise FilterError("The filter is not valid JSON") from error


_definition_decoder = msgspec.json.Decoder(FilterDefinition)
_room_event_decoder = msgspec.json.Decoder(RoomEventFilter)


def _decode_filter(text: str | bytes) -> Filter:
    return compile_filter(_checked(lambda: _definition_decoder.decode(text)))


def _decode_room_event_filter(text: str | bytes) -> EventMatcher:
    return compile_event_filter(_checked(lambda: _room_event_decoder.decode(text)))


_parse_text = lru_cache(maxsize=1024)(_decode_filter)
_parse_room_event_text = lru_cache(maxsize=1024)(_decode_room_event_filter)

EVERYTHING = compile_filter(FilterDefinition())
EVERY_ROOM_EVENT = compile_event_filter(None)
