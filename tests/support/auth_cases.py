"""Cases of the authorisation rules: a rule, its versions, an event, and why it is rejected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from homeserver.protocol.auth_rules import check_event
from homeserver.protocol.events import Event
from homeserver.protocol.rejection import Rejected
from tests.support.room import Room

ALL = range(1, 13)
Make = Callable[[Room], Event]


@dataclass(frozen=True)
class Case:
    """How the event comes about in a fresh room (`options` are `Room`'s), and the reason that it is
    rejected with; None: it is allowed.
    """

    rule: str
    versions: range
    make: Make
    reason: str | None = None
    options: dict[str, Any] | None = None


def judge(case: Case, version: int) -> None:
    """The event of the case is allowed, or rejected for exactly its reason."""
    room = Room(str(version), **case.options or {})
    verdict(room, case.make(room), case.reason)


def verdict(room: Room, event: Event, reason: str | None) -> None:
    """The state of the room allows the event, or it is rejected for exactly that reason."""
    if reason is None:
        check_event(room.rules, event, room.state_events)
        return
    with pytest.raises(Rejected) as caught:
        check_event(room.rules, event, room.state_events)
    assert caught.value.reason == reason


def parameters(cases: Iterable[Case]) -> list[ParameterSet]:
    """Each case with each of its versions."""
    return [
        pytest.param(
            case, version, id=f"v{version} {case.rule} {case.reason or 'allowed'} {number}"
        )
        for number, case in enumerate(cases)
        for version in case.versions
    ]
