"""Relations: what counts as one, which edits are valid, the shapes of bundles."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.relations import (
    ANNOTATION,
    REPLACE,
    THREAD,
    Relation,
    ThreadSummary,
    bundle,
    is_valid_replacement,
    may_be_thread_root,
    relation_of,
)
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.strategies import json_objects, json_values

ROOT = "$" + "r" * 43
CHILD = "$" + "c" * 43


def related(rel_type: str, event_id: str, **more: Any) -> JsonObject:
    return {"m.relates_to": {"rel_type": rel_type, "event_id": event_id, **more}}


ORIGINAL = Event(
    rules=ROOM_VERSIONS["12"],
    event_id=ROOT,
    room_id="!room",
    type="m.room.message",
    sender="@alice:example.org",
    state_key=None,
    content={"body": "cake"},
    depth=1,
    origin_server_ts=100,
    prev_events=(),
    auth_events=(),
    redacts=None,
    json=b"{}",
)
EDIT = msgspec.structs.replace(
    ORIGINAL,
    event_id=CHILD,
    content={"body": "* pie", "m.new_content": {"body": "pie"}, **related(REPLACE, ROOT)},
    origin_server_ts=200,
)


def test_a_relation_of_each_kind() -> None:
    assert relation_of(related(REPLACE, ROOT)) == Relation(REPLACE, ROOT)
    assert relation_of(related(ANNOTATION, ROOT, key="👍")) == Relation(ANNOTATION, ROOT, "👍")
    threaded = related(THREAD, ROOT, is_falling_back=True, **{"m.in_reply_to": {"event_id": CHILD}})
    assert relation_of(threaded) == Relation(THREAD, ROOT, is_falling_back=True)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"m.relates_to": None},
        {"m.relates_to": []},
        {"m.relates_to": {"event_id": ROOT}},
        {"m.relates_to": {"rel_type": THREAD}},
        related(THREAD, "not an event id"),
        {"m.relates_to": {"rel_type": 1, "event_id": ROOT}},
        {"m.relates_to": {"rel_type": THREAD, "event_id": {"$": 1}}},
        related("", ROOT),
        related("x" * 256, ROOT),
        related(THREAD, "$" + "x" * 255),
        {"m.relates_to": {"m.in_reply_to": {"event_id": ROOT}}},
    ],
)
def test_what_does_not_match_the_schema_is_no_relation(content: JsonObject) -> None:
    assert relation_of(content) is None
    assert may_be_thread_root(content)


def test_odd_extras_of_a_relation_are_ignored() -> None:
    odd = related(ANNOTATION, ROOT, key=5, is_falling_back="yes")
    assert relation_of(odd) == Relation(ANNOTATION, ROOT)


@given(json_objects, json_values)
def test_no_content_breaks_the_reading(content: JsonObject, anything: Any) -> None:
    for source in (content, {"m.relates_to": anything}, {"m.relates_to": content}):
        relation_of(source)


def test_a_child_cannot_be_a_thread_root() -> None:
    assert not may_be_thread_root(related(ANNOTATION, ROOT))
    assert may_be_thread_root({"m.relates_to": {"m.in_reply_to": {"event_id": ROOT}}})


def test_a_valid_edit() -> None:
    assert is_valid_replacement(ORIGINAL, EDIT)


@pytest.mark.parametrize(
    ("original", "edit"),
    [
        ({}, {"sender": "@bob:example.org"}),
        ({}, {"type": "m.sticker"}),
        ({}, {"room_id": "!other"}),
        ({}, {"state_key": ""}),
        ({"state_key": ""}, {}),
        ({"content": related(REPLACE, CHILD)}, {}),
        ({}, {"content": related(REPLACE, ROOT)}),
        ({}, {"content": {"m.new_content": "pie", **related(REPLACE, ROOT)}}),
        ({}, {"content": {"m.new_content": {}, **related(THREAD, ROOT)}}),
        ({}, {"content": {"m.new_content": {}, **related(REPLACE, CHILD)}}),
        ({}, {"content": {"m.new_content": {}}}),
    ],
)
def test_an_edit_that_breaks_a_rule(original: dict[str, Any], edit: dict[str, Any]) -> None:
    assert not is_valid_replacement(
        msgspec.structs.replace(ORIGINAL, **original), msgspec.structs.replace(EDIT, **edit)
    )


def test_an_encrypted_edit_hides_its_new_content() -> None:
    original = msgspec.structs.replace(ORIGINAL, type="m.room.encrypted")
    edit = msgspec.structs.replace(
        EDIT, type="m.room.encrypted", content={"ciphertext": "…", **related(REPLACE, ROOT)}
    )
    assert is_valid_replacement(original, edit)
    assert not is_valid_replacement(ORIGINAL, edit)


def test_an_edit_of_a_threaded_message_is_valid() -> None:
    threaded = msgspec.structs.replace(ORIGINAL, content=related(THREAD, CHILD))
    assert is_valid_replacement(threaded, EDIT)


def test_nothing_related_is_no_bundle() -> None:
    assert bundle(None, [], None) is None


def test_a_bundle_of_everything() -> None:
    thread = ThreadSummary(b'{"event_id":"$l"}', 7, current_user_participated=True)
    bundled = bundle(b'{"event_id":"$e"}', ["$one", "$two"], thread)
    assert bundled is not None
    assert json.loads(bundled) == {
        "m.replace": {"event_id": "$e"},
        "m.reference": {"chunk": [{"event_id": "$one"}, {"event_id": "$two"}]},
        "m.thread": {
            "latest_event": {"event_id": "$l"},
            "count": 7,
            "current_user_participated": True,
        },
    }


def test_a_bundle_of_one_kind() -> None:
    thread = ThreadSummary(b"{}", 1, current_user_participated=False)
    assert json.loads(bundle(None, [], thread) or b"") == {
        "m.thread": {"latest_event": {}, "count": 1, "current_user_participated": False}
    }
