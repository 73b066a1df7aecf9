"""What each room version means, as data: each is the one before with named properties changed.

Rules of this file: code elsewhere asks for a property (`rules.restricted_joins`), never for a
number.
https://spec.matrix.org/latest/rooms/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Final


class EventIdFormat(Enum):
    """Where an event's id comes from (rooms/v1, v3, v4 "Event IDs")."""

    CHOSEN = "$opaque_id:domain"
    REFERENCE_HASH = "$ and the reference hash in unpadded base64"
    URL_SAFE_REFERENCE_HASH = "$ and the reference hash in URL-safe unpadded base64"


class StateResolution(Enum):
    """The state resolution algorithm (rooms/v1, v2, v12 "State resolution")."""

    V1 = "1"
    V2 = "2"
    V2_1 = "2.1"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RoomVersion:
    """The properties in which room versions differ; the defaults are room version 1's.

    There is one object per version, compared by identity.
    """

    identifier: str
    event_id_format: EventIdFormat = EventIdFormat.CHOSEN
    state_resolution: StateResolution = StateResolution.V1
    max_depth: int = 2**63 - 1
    """The highest `depth`; a deeper event's is set to it."""
    strict_canonical_json: bool = False
    """Floats, numbers beyond 2^53 - 1 and the like are refused."""
    enforce_key_validity: bool = False
    """A signing key must be valid at the event's `origin_server_ts`."""
    aliases_rule: bool = True
    """Any member may send `m.room.aliases` with their own server as the `state_key`."""
    redaction_rule: bool = True
    """`m.room.redaction` is judged by the auth rules; later it is judged when it is applied."""
    redacts_in_content: bool = False
    """`redacts` of an `m.room.redaction` stands in `content`, not beside it."""
    redaction_keeps_aliases: bool = True
    redaction_keeps_allow: bool = False
    """Of `m.room.join_rules`, redaction keeps `allow`."""
    redaction_keeps_join_authorisation: bool = False
    """Of `m.room.member`, redaction keeps `join_authorised_via_users_server`."""
    updated_redaction: bool = False
    """Version 11's keep-list: all of `m.room.create`, `invite`, `signed`, `redacts`."""
    notifications_levels: bool = False
    """A change of `notifications` power levels is judged as one of `events` is."""
    knocking: bool = False
    restricted_joins: bool = False
    knock_restricted: bool = False
    integer_power_levels: bool = False
    """Power levels are JSON integers only, no strings."""
    implicit_creator: bool = False
    """The creator is the sender of `m.room.create`; `content.creator` is gone."""
    room_id_is_create_event_id: bool = False
    """The room id is the create event's id with `!`; the create event is no auth event."""
    privileged_creators: bool = False
    """Creators (`sender`, `additional_creators`) have infinite power."""

    @property
    def event_id_in_pdu(self) -> bool:
        """The PDU carries its `event_id`, and refers to others as `[id, {sha256}]` pairs."""
        return self.event_id_format is EventIdFormat.CHOSEN

    def __repr__(self) -> str:
        return f"RoomVersion({self.identifier!r})"

    def __reduce__(self) -> str | tuple[object, ...]:
        return (_version, (self.identifier,))


def _version(identifier: str) -> RoomVersion:
    return ROOM_VERSIONS[identifier]


_V1 = RoomVersion("1")
_V2 = replace(_V1, identifier="2", state_resolution=StateResolution.V2)
_V3 = replace(
    _V2, identifier="3", event_id_format=EventIdFormat.REFERENCE_HASH, redaction_rule=False
)
_V4 = replace(_V3, identifier="4", event_id_format=EventIdFormat.URL_SAFE_REFERENCE_HASH)
_V5 = replace(_V4, identifier="5", enforce_key_validity=True)
_V6 = replace(
    _V5,
    identifier="6",
    max_depth=2**53 - 1,
    strict_canonical_json=True,
    aliases_rule=False,
    redaction_keeps_aliases=False,
    notifications_levels=True,
)
_V7 = replace(_V6, identifier="7", knocking=True)
_V8 = replace(_V7, identifier="8", restricted_joins=True, redaction_keeps_allow=True)
_V9 = replace(_V8, identifier="9", redaction_keeps_join_authorisation=True)
_V10 = replace(_V9, identifier="10", knock_restricted=True, integer_power_levels=True)
_V11 = replace(
    _V10,
    identifier="11",
    implicit_creator=True,
    redacts_in_content=True,
    updated_redaction=True,
)
_V12 = replace(
    _V11,
    identifier="12",
    state_resolution=StateResolution.V2_1,
    room_id_is_create_event_id=True,
    privileged_creators=True,
)

ROOM_VERSIONS: Final[Mapping[str, RoomVersion]] = MappingProxyType(
    {
        rules.identifier: rules
        for rules in (_V1, _V2, _V3, _V4, _V5, _V6, _V7, _V8, _V9, _V10, _V11, _V12)
    }
)
DEFAULT_ROOM_VERSION: Final = "12"
