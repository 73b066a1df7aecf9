"""The order of a space's children. client-server-api#ordering-of-children-within-a-space"""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.protocol.spaces import Child, in_order


def child(room_id: str, ts: int, **content: Any) -> Child:
    return Child(room_id, "@a:b", {"via": ["b"], **content}, ts)


def test_the_example_of_the_specification() -> None:
    children = [
        child("!d", 1640741000000),
        child("!c", 1640841000000, order="first"),
        child("!e", 1640641000000),
        child("!b", 1640341000000, order=" "),
        child("!a", 1640141000000, order="aaaa"),
    ]
    assert [c.room_id for c in in_order(children)] == ["!b", "!a", "!c", "!e", "!d"]


@pytest.mark.parametrize("order", ["", "x" * 51, "é", "a\n", 3, None, ["a"]])
def test_an_order_that_is_none_counts_as_absent(order: Any) -> None:
    children = [child("!a", 1, order=order), child("!b", 2, order="z"), child("!c", 0)]
    assert [c.room_id for c in in_order(children)] == ["!b", "!c", "!a"]


def test_equal_orders_go_by_time_and_then_by_room() -> None:
    children = [child("!c", 2, order="a"), child("!b", 1, order="a"), child("!a", 1, order="a")]
    assert [c.room_id for c in in_order(children)] == ["!a", "!b", "!c"]
