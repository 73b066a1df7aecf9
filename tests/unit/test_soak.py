"""What a soak compares: each kind of difference is noticed, and what may differ is not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, cast

import pytest

from homeserver.json_types import JsonObject
from soak import plan
from soak.compare import differences, soft_failed
from soak.servers import Server
from soak.town import Room
from soak.views import Stored, View


class Named:
    def __init__(self, name: str) -> None:
        self.name = name


def message(number: int) -> JsonObject:
    return {
        "event_id": f"$e{number}",
        "type": "m.room.message",
        "sender": "@a:one",
        "origin_server_ts": number,
        "content": {"body": f"text {number}"},
    }


def view(name: str) -> View:
    """Three messages in a row, as a server shows them."""
    forms = {f"$e{number}": message(number) for number in range(3)}
    stored = {
        f"$e{number}": Stored({**message(number), "prev_events": [f"$e{number - 1}"]}, frozenset())
        for number in range(3)
    }
    state = {("m.room.topic", ""): "$topic", ("m.room.member", "@a:one"): "$join"}
    return View(cast(Server, Named(name)), state, {"@a:one"}, list(forms), forms, stored)


def room() -> Room:
    return Room(0, "11", 0, None, sent={"text 1": "$e1"})


def misses_state(view: View) -> None:
    del view.state["m.room.topic", ""]


def has_other_state(view: View) -> None:
    view.state["m.room.topic", ""] = "$other"


def misses_a_member(view: View) -> None:
    view.members.clear()


def repeats_an_event(view: View) -> None:
    view.history.append("$e2")


def has_another_order(view: View) -> None:
    view.history.reverse()


def misses_an_event(view: View) -> None:
    view.history.remove("$e0")
    del view.forms["$e0"]


def lacks_a_redaction(view: View) -> None:
    view.forms["$e2"] = {**message(2), "content": {}}


def has_a_message_twice(view: View) -> None:
    view.forms["$e0"]["content"] = {"body": "text 2"}


@pytest.mark.parametrize(
    "alter",
    [
        misses_state,
        has_other_state,
        misses_a_member,
        repeats_an_event,
        has_another_order,
        misses_an_event,
        lacks_a_redaction,
        has_a_message_twice,
    ],
)
def test_a_difference_is_noticed(alter: Callable[[View], Any]) -> None:
    views = [view("one"), view("two"), view("synapse")]
    assert differences(room(), views) == []
    alter(views[1])
    assert differences(room(), views) != []


def test_a_message_that_is_nowhere_is_noticed() -> None:
    views = [view("one"), view("two")]
    for each in views:
        each.history.remove("$e1")
        del each.forms["$e1"]
    [difference] = differences(room(), views)
    assert difference.event_ids == ("$e1",)


def test_what_was_soft_failed_may_be_missing() -> None:
    views = [view("one"), view("two")]
    misses_an_event(views[1])
    views[1].stored["$e0"] = Stored(views[1].stored["$e0"].pdu, frozenset({"soft-failed"}))
    assert differences(room(), views) == []
    assert soft_failed(views) == {"two": 1}


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    for make in (plan.actions, plan.faults):
        assert list(islice(make(1), 50)) == list(islice(make(1), 50))
        assert list(islice(make(1), 50)) != list(islice(make(2), 50))
