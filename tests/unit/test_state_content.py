"""What clients may not put into well-known events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from homeserver.protocol.rejection import Rejected
from homeserver.protocol.state_content import check_content
from tests.support.strategies import json_objects

POWER_LEVELS = "m.room.power_levels"


@pytest.mark.parametrize(
    ("event_type", "content"),
    [
        ("m.room.name", {"name": 3}),
        ("m.room.topic", {"topic": []}),
        ("m.room.message", {"body": 3, "msgtype": "m.text"}),
        ("m.room.message", {"body": "hello"}),
        ("m.room.message", {"msgtype": "m.text", "body": None}),
        ("m.room.join_rules", {"join_rule": {}}),
        (POWER_LEVELS, {"ban": "50"}),
        (POWER_LEVELS, {"ban": True}),
        (POWER_LEVELS, {"ban": None}),
        (POWER_LEVELS, {"ban": 1.5}),
        (POWER_LEVELS, {"ban": 2**53}),
        (POWER_LEVELS, {"users": []}),
        (POWER_LEVELS, {"users": {"@a:b": "100"}}),
        (POWER_LEVELS, {"users": {"a": 100}}),
        (POWER_LEVELS, {"events": {"x": None}}),
        (POWER_LEVELS, {"notifications": {"room": "50"}}),
        ("m.room.server_acl", {"allow": "*"}),
        ("m.room.server_acl", {"deny": [3]}),
        ("m.room.server_acl", {"allow_ip_literals": "no"}),
    ],
)
def test_what_no_room_could_make_sense_of_is_refused(event_type: str, content: Any) -> None:
    with pytest.raises(Rejected):
        check_content(event_type, content)


@pytest.mark.parametrize(
    ("event_type", "content"),
    [
        ("m.room.name", {}),
        ("m.room.name", {"name": None}),
        ("m.room.message", {"body": "", "msgtype": "org.example.odd"}),
        ("org.example", {"name": 3}),
        (POWER_LEVELS, {"users": {"@a:b": -1}, "events": {}, "x": "y"}),
        ("m.room.server_acl", {"allow": ["*"]}),
    ],
)
def test_what_rooms_can_live_with_is_left_alone(event_type: str, content: Any) -> None:
    check_content(event_type, content)


@given(json_objects)
def test_power_levels_are_judged_and_nothing_else_happens(content: Any) -> None:
    try:
        check_content(POWER_LEVELS, content)
    except Rejected as rejected:
        assert rejected.reason
