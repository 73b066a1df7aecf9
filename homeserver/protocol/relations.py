"""Relations between events: what `m.relates_to` says, which edits are valid, what is bundled.

Rules of this file: `m.relates_to` is anybody's writing; what doesn't match its schema is no
relation ("Relationships which don't match the schema, or which break the rules of a relationship,
are simply ignored"). Bundles are joined from ready-made client forms, as bytes.
client-server-api#forming-relationships-between-events
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import fits, is_event_id

REPLACE: Final = "m.replace"
THREAD: Final = "m.thread"
REFERENCE: Final = "m.reference"
ANNOTATION: Final = "m.annotation"

AGGREGATED: Final = frozenset({REPLACE, THREAD, REFERENCE})
"""The types that are bundled: "`m.annotation` relationships are *not* aggregated"."""

MAX_HOPS: Final = 3


class Relation(msgspec.Struct, frozen=True, gc=False):
    """A relation to a parent event.

    `key` is that of an annotation, `is_falling_back` that of a thread (its reply is only for
    clients that know no threads).
    """

    rel_type: str
    event_id: str
    key: str | None = None
    is_falling_back: bool = False


def relation_of(content: JsonObject) -> Relation | None:
    """The relation by `rel_type` that an event's content states, if it is one."""
    related = content.get("m.relates_to")
    if not isinstance(related, dict):
        return None
    rel_type, event_id = related.get("rel_type"), related.get("event_id")
    if not isinstance(rel_type, str) or not rel_type or not fits(rel_type):
        return None
    if not is_event_id(event_id):
        return None
    key = related.get("key")
    return Relation(
        rel_type,
        event_id,
        key if isinstance(key, str) else None,
        related.get("is_falling_back") is True,
    )


def may_be_thread_root(content: JsonObject) -> bool:
    """May a thread start at an event with this content? Otherwise sending answers 400 M_UNKNOWN.

    "It is not possible to create a thread from an event which itself is the child of an event
    relationship (i.e., one with an `m.relates_to` property with a `rel_type` property)."
    """
    return relation_of(content) is None


def is_valid_replacement(original: Event, replacement: Event) -> bool:
    """May this edit be bundled with the original (neither of them redacted)?

    client-server-api#validity-of-replacement-events
    """
    relation = relation_of(replacement.content)
    if relation is None or (relation.rel_type, relation.event_id) != (REPLACE, original.event_id):
        return False
    # The original and the replacement "must have the same" room, sender and type.
    if _identity(original) != _identity(replacement):
        return False
    # "The replacement and original events must not have a `state_key` property"
    if original.is_state or replacement.is_state:
        return False
    # "The original event must not, itself, have a `rel_type` of `m.replace`"
    above = relation_of(original.content)
    if above is not None and above.rel_type == REPLACE:
        return False
    # The replacement "(once decrypted, if appropriate) must have an `m.new_content` property".
    encrypted = replacement.type == "m.room.encrypted"
    return encrypted or isinstance(replacement.content.get("m.new_content"), dict)


def _identity(event: Event) -> tuple[str, str, str]:
    return (event.room_id, event.sender, event.type)


class ThreadSummary(msgspec.Struct, frozen=True, gc=False):
    """A thread as one reader sees it. `latest_event` is a client form with its own bundle."""

    latest_event: bytes
    count: int
    current_user_participated: bool


def bundle(
    replacement: bytes | None, references: Sequence[str], thread: ThreadSummary | None
) -> bytes | None:
    """The `m.relations` object of an event, None if nothing is related to it.

    `replacement` is the client form of the newest valid edit (None if the original is redacted),
    `references` the ids of the events that refer to it by `m.reference`, in order.
    client-server-api#aggregations-of-child-events
    """
    members = []
    if references:
        chunk = msgspec.json.encode([{"event_id": event_id} for event_id in references])
        members.append(b'"m.reference":{"chunk":%b}' % chunk)
    if replacement is not None:
        members.append(b'"m.replace":' + replacement)
    if thread is not None:
        members.append(_thread_member(thread))
    return b"{%b}" % b",".join(members) if members else None


def _thread_member(thread: ThreadSummary) -> bytes:
    return b'"m.thread":{"latest_event":%b,"count":%d,"current_user_participated":%b}' % (
        thread.latest_event,
        thread.count,
        b"true" if thread.current_user_participated else b"false",
    )
