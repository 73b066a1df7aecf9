"""Whether a redaction takes effect (rooms/v3#handling-redactions)."""

from __future__ import annotations

import pytest

from homeserver.protocol.auth_rules import may_redact
from tests.support.room import ALICE, BOB, CAROL, DAVE, Room


@pytest.mark.parametrize("version", [str(version) for version in range(3, 13)])
def test_a_redaction_needs_the_level_or_the_same_server(version: str) -> None:
    room = Room(version)
    for user_id in (BOB, CAROL, DAVE):
        room.join(user_id)
    message = room.send("m.room.message", CAROL, {"body": "x"})
    verdicts = {
        user_id: may_redact(
            room.send("m.room.redaction", user_id, {}, redacts=message.event_id),
            message,
            room.power_levels,
        )
        for user_id in (ALICE, BOB, CAROL, DAVE)
    }
    # ALICE has the redact level; DAVE is of CAROL's server.
    assert verdicts == {ALICE: True, BOB: False, CAROL: True, DAVE: True}


@pytest.mark.parametrize("version", ["1", "2"])
def test_the_auth_rules_have_decided_already_in_versions_1_and_2(version: str) -> None:
    room = Room(version)
    message = room.send("m.room.message", ALICE, {"body": "x"})
    redaction = room.send("m.room.redaction", ALICE, {}, redacts=message.event_id)
    assert may_redact(redaction, message, room.power_levels)


def test_a_redaction_concerns_just_the_event_that_it_names() -> None:
    room = Room("11")
    message = room.send("m.room.message", ALICE, {"body": "x"})
    other = room.send("m.room.message", ALICE, {"body": "y"})
    redaction = room.send("m.room.redaction", ALICE, {}, redacts=message.event_id)
    assert not may_redact(redaction, other, room.power_levels)
