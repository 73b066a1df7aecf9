"""PDUs of other servers as events: the specification's checks 1 to 3.

server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from typing import Any

import msgspec
import structlog
from msgspec import Raw, Struct, field

from homeserver.json_types import BAD_JSON
from homeserver.protocol.events import Event, parse_event
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.signatures import has_valid_content_hash
from homeserver.remote.keyring import Keyring, Verifying

A_SLICE = 50
"""So many PDUs are parsed before others may go on."""
A_JOB = 500
"""The signatures of so many events are checked as one job."""

log = structlog.get_logger(__name__)


class Verified(Struct):
    """The good events, and by event id what is wrong with others, where the id is known.

    `places` are the places of the good events among what was given.
    """

    events: list[Event] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


class Verifier:
    """Turns PDUs into events that were signed by whom they say."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def verify(
        self,
        pdus: Sequence[Any],
        rules: RoomVersion,
        room_id: str | None,
        *,
        among: Container[str] | None = None,
        is_history: bool = False,
    ) -> Verified:
        """The events of one room (or of any) that pass the checks, in their order.

        A PDU may be given as its JSON (`Raw`). Of others than those `among` (event ids) nothing is
        known. `is_history`: they were backfilled.
        """
        verified = Verified()
        begun: list[tuple[list[Event], list[int], Verifying]] = []
        parsed: list[Event] = []
        places: list[int] = []
        for index, pdu in enumerate(pdus):
            if index % A_SLICE == A_SLICE - 1:
                await asyncio.sleep(0)
            event = parse(pdu, rules, is_history=is_history)
            if event is None or room_id not in (None, event.room_id):
                continue
            if among is None or event.event_id in among:
                parsed.append(event)
                places.append(index)
            if len(parsed) == A_JOB:
                # Its signatures are checked in a thread while the next PDUs are parsed here.
                begun.append((parsed, places, await self._keyring.begin_verifying(parsed)))
                parsed, places = [], []
        begun.append((parsed, places, await self._keyring.begin_verifying(parsed)))
        for events, places, verifying in begun:
            _note(verified, events, places, await verifying.problems())
        return verified

    async def check_signatures(self, events: Sequence[Event]) -> Verified:
        """Check 2 for events that `parse` gave."""
        verified = Verified()
        problems = await self._keyring.verify_events(events)
        _note(verified, events, range(len(events)), problems)
        return verified


def _note(
    verified: Verified,
    events: Sequence[Event],
    places: Sequence[int],
    problems: Sequence[str | None],
) -> None:
    for event, place, problem in zip(events, places, problems, strict=True):
        if problem is None:
            verified.events.append(event)
            verified.places.append(place)
        else:
            verified.problems[event.event_id] = problem
            log.info("dropped", event_id=event.event_id, reason=problem)


def parse(pdu: Any, rules: RoomVersion, *, is_history: bool = False) -> Event | None:
    """Checks 1 and 3: the event, redacted if its content hash is wrong, or None."""
    try:
        decoded = msgspec.json.decode(pdu) if type(pdu) is Raw else pdu
    except BAD_JSON:
        return None
    try:
        event = parse_event(decoded, rules, is_history=is_history)
    except Rejected as rejected:
        log.info("dropped", reason=rejected.reason)
        return None
    # Nothing that Postgres can't hold: such an event would spoil the whole batch it is in.
    if "\0" in event.type or "\0" in (event.state_key or ""):
        return None
    # "3. Passes hash checks, otherwise it is redacted before being processed further."
    if not has_valid_content_hash(decoded, rules):
        return event.redacted()
    return event
