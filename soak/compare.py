"""Are the rooms equal? What differs, with the ids of the events that it is about.

Allowed to differ: a server may have soft-failed what another one shows. The specification has it
judge an event by the state that it knows just then ("6. Passes authorisation rules based on the
current state of the room, otherwise it is soft failed"), and on the other side of a partition
that is another one. The current state has to be equal all the same. And what reached a server of
ours after an event that refers to it is news there all the same: it is shown when it comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from homeserver.json_types import JsonObject
from soak.town import Room
from soak.views import View

SHOWN = ("type", "sender", "state_key", "origin_server_ts")


@dataclass(frozen=True, slots=True)
class Difference:
    """Two servers don't say the same of a room."""

    room: Room
    text: str
    event_ids: tuple[str, ...] = ()


def differences(room: Room, views: Sequence[View]) -> list[Difference]:
    """All of a room, as its servers show it."""
    found = [*_state(room, views), *_members(room, views)]
    for view in views:
        found += [*_repetitions(room, view), *_order(room, view)]
    return [*found, *_events(room, views), *_forms(room, views), *_messages(room, views)]


def soft_failed(views: Sequence[View]) -> Counter[str]:
    """Server name -> how many events it soft-failed that another one shows."""
    shown = {event_id for view in views for event_id in view.history}
    return Counter(
        view.server.name
        for view in views
        for event_id in shown.difference(view.history)
        if _is_soft_failed(view, event_id)
    )


def _state(room: Room, views: Sequence[View]) -> Iterator[Difference]:
    for key in sorted({key for view in views for key in view.state}):
        by_server = {view.server.name: view.state.get(key) for view in views}
        if len(set(by_server.values())) > 1:
            event_ids = tuple(sorted({e for e in by_server.values() if e is not None}))
            yield Difference(room, f"current state {key}: {by_server}", event_ids)


def _members(room: Room, views: Sequence[View]) -> Iterator[Difference]:
    for user_id in sorted(set.union(*(view.members for view in views))):
        without = [view.server.name for view in views if user_id not in view.members]
        if without:
            yield Difference(room, f"{user_id} is joined, but not for {without}")


def _repetitions(room: Room, view: View) -> Iterator[Difference]:
    for event_id, count in Counter(view.history).items():
        if count > 1:
            text = f"{view.server.name} has an event {count} times in its history"
            yield Difference(room, text, (event_id,))


def _order(room: Room, view: View) -> Iterator[Difference]:
    """Nothing comes before what it refers to: so what is linear has one order everywhere."""
    for event_id, prev in _turned_round(view):
        if not view.stored[event_id].is_news or not view.stored[prev].is_news:
            text = f"{view.server.name} has an event before its prev_event"
            yield Difference(room, text, (event_id, prev))


def shown_late(views: Sequence[View]) -> int:
    """How many events came after one that refers to them."""
    return len({prev for view in views for _, prev in _turned_round(view)})


def _turned_round(view: View) -> Iterator[tuple[str, str]]:
    """Events that come before their prev_event, and that one."""
    places = {event_id: place for place, event_id in enumerate(view.history)}
    for event_id, place in places.items():
        for prev in view.stored[event_id].pdu["prev_events"]:
            if places.get(prev, -1) > place:
                yield event_id, prev


def _events(room: Room, views: Sequence[View]) -> Iterator[Difference]:
    for event_id in sorted({event_id for view in views for event_id in view.history}):
        without = [
            view.server.name
            for view in views
            if event_id not in view.forms and not _is_soft_failed(view, event_id)
        ]
        if without:
            yield Difference(room, f"an event is missing at {without}", (event_id,))


def _is_soft_failed(view: View, event_id: str) -> bool:
    stored = view.stored.get(event_id)
    return stored is not None and "soft-failed" in stored.marks


def _forms(room: Room, views: Sequence[View]) -> Iterator[Difference]:
    """Contents, and so redactions, are equal."""
    excused = _targets_of_soft_failed(views)
    for event_id in sorted({event_id for view in views for event_id in view.history}):
        forms = [_form(view.forms[event_id]) for view in views if event_id in view.forms]
        if any(form != forms[0] for form in forms) and event_id not in excused:
            shown = {v.server.name: v.forms[event_id] for v in views if event_id in v.forms}
            yield Difference(room, f"an event looks different: {shown}", (event_id,))


def _targets_of_soft_failed(views: Sequence[View]) -> set[str]:
    """What a redaction that somebody soft-failed was about."""
    found = set()
    for view in views:
        for stored in view.stored.values():
            if stored.pdu["type"] == "m.room.redaction" and "soft-failed" in stored.marks:
                pdu = stored.pdu
                found.add(pdu.get("redacts") or pdu["content"].get("redacts"))
    return found


def _form(event: JsonObject) -> JsonObject:
    # `redacts` is shown in both places, whatever the room version.
    content = {key: value for key, value in event["content"].items() if key != "redacts"}
    return {**{key: event.get(key) for key in SHOWN}, "content": content}


def _messages(room: Room, views: Sequence[View]) -> Iterator[Difference]:
    """Each message that was acknowledged is there, once."""
    for text, event_id in room.sent.items():
        if not any(event_id in view.forms for view in views):
            yield Difference(room, f"the message {text!r} is nowhere", (event_id,))
    for view in views:
        texts = Counter(event["content"].get("body") for event in view.forms.values())
        texts.pop(None, None)
        for text, count in texts.items():
            if count > 1:
                events = view.forms.values()
                ids = tuple(e["event_id"] for e in events if e["content"].get("body") == text)
                yield Difference(room, f"the message {text!r} is there {count} times", ids)
