"""History visibility: the specification's rules one by one, and the intervals against the rules."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.history_visibility import (
    Change,
    Visibility,
    VisibleHistory,
    may_see,
    membership_of,
    server_may_see,
    visibility_of,
)

VISIBILITIES: tuple[Visibility, ...] = ("world_readable", "shared", "invited", "joined")
MEMBERSHIPS = ("join", "invite", "leave", "ban", "knock")


@pytest.mark.parametrize(
    ("visibility", "membership", "joined_later", "allowed"),
    [
        ("world_readable", "leave", False, True),
        ("world_readable", "ban", False, True),
        ("joined", "join", False, True),
        ("invited", "join", False, True),
        ("shared", "leave", True, True),
        ("shared", "leave", False, False),
        ("shared", "invite", False, False),
        ("shared", "invite", True, True),
        ("invited", "invite", False, True),
        ("invited", "leave", True, False),
        ("joined", "invite", True, False),
        ("joined", "knock", True, False),
    ],
)
def test_the_five_rules(
    visibility: Visibility, membership: str, joined_later: bool, allowed: bool
) -> None:
    assert may_see(visibility, membership, joined_later) is allowed


@pytest.mark.parametrize(
    "content",
    [None, {}, {"history_visibility": "other"}, {"history_visibility": ["joined"]}],
)
def test_an_unknown_visibility_is_shared(content: dict[str, Any] | None) -> None:
    assert visibility_of(content) == "shared"
    assert visibility_of({"history_visibility": "joined"}) == "joined"


def test_no_membership_is_leave() -> None:
    assert membership_of(None) == "leave"
    assert membership_of({"membership": 1}) == "leave"
    assert membership_of({"membership": "ban"}) == "ban"


@pytest.mark.parametrize(
    ("visibility", "memberships", "allowed"),
    [
        ("shared", [], True),
        ("world_readable", [], True),
        ("joined", [], False),
        ("joined", ["leave", "join"], True),
        ("joined", ["invite"], False),
        ("invited", ["invite"], True),
        ("invited", ["leave", "ban"], False),
    ],
)
def test_a_server_sees_what_one_of_its_users_could(
    visibility: Visibility, memberships: list[str], allowed: bool
) -> None:
    assert server_may_see(visibility, memberships) is allowed


def test_a_member_of_a_shared_room_sees_all() -> None:
    history = VisibleHistory([Change(1, membership="join"), Change(2, visibility="shared")])
    assert history.sees_all
    assert history.allows(-5)
    assert history.ranges() == [(-(2**63), 2**63 - 1)]


def test_a_stranger_sees_nothing_of_a_shared_room() -> None:
    assert VisibleHistory([Change(2, visibility="shared")]).sees_nothing


def test_a_member_who_left_sees_up_to_the_own_leave() -> None:
    history = VisibleHistory([Change(5, membership="join"), Change(9, membership="leave")])
    assert [history.allows(position) for position in (1, 5, 8, 9, 10)] == [
        True,
        True,
        True,
        True,
        False,
    ]


def test_someone_who_comes_back_sees_the_time_between_in_a_shared_room() -> None:
    away = [Change(5, membership="join"), Change(9, membership="leave")]
    assert VisibleHistory([*away, Change(20, membership="join")]).sees_all


def test_joined_visibility_begins_with_the_own_join() -> None:
    history = VisibleHistory(
        [Change(3, membership="invite"), Change(6, membership="join")], "joined"
    )
    assert history.ranges() == [(6, 2**63 - 1)]


def test_invited_visibility_begins_with_the_own_invite() -> None:
    history = VisibleHistory(
        [Change(3, membership="invite"), Change(6, membership="join")], "invited"
    )
    assert history.ranges() == [(3, 2**63 - 1)]


def test_a_change_from_world_readable_is_itself_visible_to_strangers() -> None:
    history = VisibleHistory(
        [Change(4, visibility="world_readable"), Change(8, visibility="joined")], "joined"
    )
    assert history.ranges() == [(4, 8)]


def test_two_deciding_events_side_by_side() -> None:
    history = VisibleHistory(
        [Change(4, visibility="world_readable"), Change(5, visibility="joined")], "joined"
    )
    assert history.ranges() == [(4, 5)]
    kicked = VisibleHistory([Change(4, membership="join"), Change(5, membership="leave")], "joined")
    assert kicked.ranges() == [(4, 5)]


def test_the_membership_at_an_event_includes_its_own_change() -> None:
    history = VisibleHistory(
        [
            Change(3, membership="invite"),
            Change(4, visibility="joined"),
            Change(6, membership="join"),
        ]
    )
    assert [history.membership_at(position) for position in (0, 3, 5, 6, 7)] == [
        "leave",
        "invite",
        "invite",
        "join",
        "join",
    ]


steps = st.one_of(
    st.tuples(st.just("visibility"), st.sampled_from(VISIBILITIES)),
    st.tuples(st.just("membership"), st.sampled_from(MEMBERSHIPS)),
    st.tuples(st.just("message"), st.just("")),
)


@given(st.lists(steps, max_size=30), st.sampled_from(VISIBILITIES), st.sampled_from(MEMBERSHIPS))
def test_the_intervals_equal_the_rules_applied_to_each_event(
    room: list[tuple[str, str]], visibility: Visibility, membership: str
) -> None:
    changes = [
        Change(position, **cast("Any", {kind: value}))
        for position, (kind, value) in enumerate(room)
        if kind != "message"
    ]
    history = VisibleHistory(changes, visibility, membership)
    for position, (kind, value) in enumerate(room):
        later = ("membership", "join") in room[position + 1 :]
        expected = may_see(visibility, membership, later)
        if kind == "visibility":
            visibility = cast("Visibility", value)
        elif kind == "membership":
            membership = value
        expected = expected or may_see(visibility, membership, later)
        assert history.allows(position) is expected
        assert any(low <= position <= high for low, high in history.ranges()) is expected
        assert history.membership_at(position) == membership
    assert all(first[1] + 1 < second[0] for first, second in pairwise(history.ranges()))
    assert history.sees_nothing == (history.ranges() == [])
