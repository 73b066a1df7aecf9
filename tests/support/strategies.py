"""Hypothesis strategies: JSON as strict as a test needs it, contents, events, forked rooms."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from homeserver.protocol.canonical_json import MAX_INTEGER, CanonicalJsonError, encode_pdu
from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion
from tests.support.random_room import History, random_history

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
_scalars = st.none() | st.booleans() | integers | texts
_loose_scalars = _scalars | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def _nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


json_values = _nested(_scalars)
"""Values that canonical JSON allows."""
json_objects = st.dictionaries(texts, json_values, max_size=6)
loose_json_values = _nested(_loose_scalars)
"""With floats and integers of any size, as in room versions 1 to 5."""
loose_json_objects = st.dictionaries(texts, loose_json_values, max_size=6)
room_versions: st.SearchStrategy[RoomVersion] = st.sampled_from(list(ROOM_VERSIONS.values()))

USERS = ["@alice:h.org", "@bob:h.org", "@carol:other.org", "@dave:other.org"]
user_ids = st.sampled_from(USERS)
"""The users of tests.support.room."""
_levels: st.SearchStrategy[Any] = st.sampled_from([0, 10, 49, 50, 51, 100, 2**53 - 1, -5])
_NO_LEVELS: list[Any] = ["50", " +7 ", "x", None, True, [], 1e30, 12.7, ""]
_loose_levels = _levels | st.sampled_from(_NO_LEVELS)
SCALAR_LEVELS = [
    "users_default", "events_default", "state_default", "ban", "redact", "kick", "invite",
]  # fmt: skip
EVENT_TYPES = [
    "m.room.create",
    "m.room.member",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.third_party_invite",
    "m.room.redaction",
    "m.room.aliases",
    "m.room.topic",
    "m.room.message",
]


def power_levels_contents(levels: st.SearchStrategy[Any] = _levels) -> st.SearchStrategy[Any]:
    """Contents of `m.room.power_levels` events."""
    return st.fixed_dictionaries(
        {},
        optional={
            "users": st.dictionaries(user_ids, levels, max_size=4),
            "events": st.dictionaries(st.sampled_from(EVENT_TYPES), levels, max_size=3),
            "notifications": st.dictionaries(st.just("room"), levels, max_size=1),
            **dict.fromkeys(SCALAR_LEVELS, levels),
        },
    )


_member_contents = st.fixed_dictionaries(
    {"membership": st.sampled_from(["join", "invite", "leave", "ban", "knock", "x", 1, None])},
    optional={
        "join_authorised_via_users_server": user_ids | loose_json_values,
        "third_party_invite": loose_json_values
        | st.fixed_dictionaries(
            {"signed": st.fixed_dictionaries(
                {"mxid": user_ids, "token": texts, "signatures": loose_json_values}
            )}
        ),
    },
)  # fmt: skip
arbitrary_contents: st.SearchStrategy[Any] = (
    loose_json_objects
    | _member_contents
    | power_levels_contents(_loose_levels)
    | st.fixed_dictionaries({"join_rule": st.sampled_from(["public", "knock", "restricted", 5])})
    | st.fixed_dictionaries(
        {"public_key": texts}, optional={"public_keys": st.lists(loose_json_values, max_size=3)}
    )
)
"""Contents as anybody may send them, near enough to the rules to reach deep into them."""

HASH = "$" + "a" * 43


@st.composite
def arbitrary_events(draw: st.DrawFn, rules: RoomVersion) -> Event:
    """An event that passed no check at all, of the room `!r:h.org`."""
    event_type = draw(st.sampled_from(EVENT_TYPES))
    content = draw(arbitrary_contents)
    pdu: dict[str, Any] = {"type": event_type, "content": content}
    if draw(st.booleans()):
        pdu["room_id"] = "!r:h.org"
    try:
        encoded = encode_pdu(pdu, rules)
    except CanonicalJsonError:
        encoded = b"{}"
    return Event(
        rules=rules,
        event_id=draw(st.sampled_from([HASH, "$x:h.org"])),
        room_id="!r:h.org",
        type=event_type,
        sender=draw(user_ids),
        state_key=draw(st.none() | st.just("") | user_ids | texts),
        content=content,
        depth=1,
        origin_server_ts=1,
        prev_events=draw(st.sampled_from([(), (HASH,)])),
        auth_events=(),
        redacts=draw(st.sampled_from([None, HASH, "$x:h.org"])),
        json=encoded,
        rejected=draw(st.booleans()),
    )


histories: st.SearchStrategy[History] = st.builds(
    random_history, st.integers(0, 2**32), st.sampled_from(list(ROOM_VERSIONS)), st.just(40)
)
"""Random rooms that fork and merge."""
