"""Push rules and unread counts: what an event costs in a room of 1,000, in CPU time.

`python -m bench.push`
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from homeserver.protocol.events import Event
from homeserver.protocol.push_conditions import PushFacts, RoomFacts
from homeserver.protocol.push_defaults import default_rules
from homeserver.protocol.push_evaluation import (
    Outcome,
    RoomOutcome,
    RoomReaders,
    compiled_defaults,
    compiled_in_room,
)
from homeserver.protocol.push_outcomes import outcomes_of_room, push_outcomes
from homeserver.protocol.push_rules import NO_CHANGES, OwnRule, UserRules, encode_rules
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.store.events import ORDER_STEP, EventRow
from homeserver.stream.room_unread import UserUnread
from homeserver.stream.stored_event import StoredEvent
from homeserver.stream.unread import unread_members

DEFAULTS = default_rules()
ROOM = "!room:hs.test"
MEMBERS = [f"@user{number}:hs.test" for number in range(1000)]
SENDER = "@sender:hs.test"
BODY = "Shall we meet at the bakery at nine? Bring the big umbrella, it is going to rain."


def message(content: dict[str, object]) -> Event:
    return Event(
        rules=ROOM_VERSIONS["12"],
        event_id="$event",
        room_id=ROOM,
        type="m.room.message",
        sender=SENDER,
        state_key=None,
        content=content,
        depth=1,
        origin_server_ts=1,
        prev_events=(),
        auth_events=(),
        redacts=None,
        json=b"{}",
    )


def readers(own: int, mutes: int) -> RoomReaders:
    """1,000 members: `own` of them each on a rule set that nobody else has here, and `mutes` who
    muted some other room, which makes no difference here."""
    found = RoomReaders(compiled_defaults(DEFAULTS), lambda user_id: user_id[1:8])
    for number, user_id in enumerate(MEMBERS):
        rules = NO_CHANGES
        if number < own:
            rules = UserRules(content=(OwnRule("k", ["notify"], pattern=f"keyword{number}"),))
        elif number < own + mutes:
            rules = UserRules(room=(OwnRule(f"!muted{number}:hs.test", []),))
        found.put(user_id, compiled_in_room(encode_rules(rules), ROOM, DEFAULTS))
    return found


def microseconds(work: Callable[[], object]) -> float:
    """CPU time of one call, the best of seven series."""
    times = []
    repeats = 1
    while True:
        started = time.process_time()
        for _ in range(repeats):
            work()
        spent = time.process_time() - started
        if spent > 0.05:
            times.append(spent / repeats)
            if len(times) == 7:
                return min(times) * 1e6
        else:
            repeats *= 4


def show(what: str, cost: float) -> None:
    print(f"{what:<72}{cost:10.1f} us")


def evaluation() -> None:
    room = RoomFacts(member_count=1001, sender_power_level=0)
    event = message({"msgtype": "m.text", "body": BODY})
    mention = message({"msgtype": "m.text", "body": BODY, "m.mentions": {"user_ids": MEMBERS[:1]}})
    for own, mutes in ((0, 0), (50, 0), (0, 50)):
        found = readers(own, mutes)
        who = f"1,000 members, {own} on sets of their own, {mutes} muted other rooms"
        show(f"{who}: at once", microseconds(partial(at_once, found, event, room)))
        show(f"{who}: one by one", microseconds(partial(one_by_one, found, event, room)))
    found = readers(50, 0)
    show(
        "50 on sets of their own, one mentioned, with what is stored of it",
        microseconds(lambda: outcomes_of_room(at_once(found, mention, room), SENDER)),
    )


def at_once(found: RoomReaders, event: Event, room: RoomFacts) -> RoomOutcome:
    return found.evaluate_room(PushFacts(event, room))


def one_by_one(found: RoomReaders, event: Event, room: RoomFacts) -> list[Outcome]:
    facts = PushFacts(event, room)
    return [found.evaluate(facts, user_id) for user_id in MEMBERS]


def counting() -> None:
    row = EventRow(
        number=7,
        room_number=1,
        timeline_order=7 * ORDER_STEP,
        event_id="$event",
        type="m.room.message",
        state_key=None,
        sender=SENDER,
        origin_server_ts=1,
        state_group=1,
        replaces=None,
        auth_events=(),
        flags=0,
        redacted_by=None,
        json=b"{}",
        push=push_outcomes(1, None, None),
    )
    stored = StoredEvent(row, ROOM_VERSIONS["12"])
    unread = UserUnread(start=0, reads={}, floor=0, deep={}, upto=0)
    entries = [(7 * ORDER_STEP, stored)]

    def deliver() -> object:
        unread.take_in(entries, MEMBERS[0], frozenset(), lambda _: 0)
        return unread_members(unread, threaded=False)

    show("counting one event for one member and telling them (each /sync)", microseconds(deliver))


if __name__ == "__main__":
    evaluation()
    counting()
