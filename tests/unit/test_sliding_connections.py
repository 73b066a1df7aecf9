"""What sliding sync remembers of its connections."""

from __future__ import annotations

import pytest

from homeserver.stream.sliding.connections import (
    CONNECTIONS_PER_DEVICE,
    ConnectionKey,
    Connections,
    Told,
    UnknownPos,
)


def tell(connections: Connections, key: ConnectionKey) -> str:
    turn = connections.begin(key, None)
    told = Told(connections.next_number(key), 5)
    connections.tell(turn, told)
    return told.pos


def test_a_device_with_many_connections_crowds_out_its_own_only() -> None:
    connections = Connections(capacity=CONNECTIONS_PER_DEVICE + 5)
    bob: ConnectionKey = ("@bob:hs.test", "B", "")
    bobs = tell(connections, bob)
    keys: list[ConnectionKey] = [("@alice:hs.test", "A", str(number)) for number in range(100)]
    pos = {key: tell(connections, key) for key in keys}
    assert connections.begin(bob, bobs).told.position == 5
    for key in keys[-CONNECTIONS_PER_DEVICE:]:
        assert connections.begin(key, pos[key]).told.position == 5
    with pytest.raises(UnknownPos):
        connections.begin(keys[-CONNECTIONS_PER_DEVICE - 1], pos[keys[0]])


def test_a_newer_request_takes_the_place_of_those_before_it() -> None:
    connections = Connections(capacity=5)
    bob: ConnectionKey = ("@bob:hs.test", "B", "")
    pos = tell(connections, bob)
    older = connections.begin(bob, pos)
    newer = connections.begin(bob, pos)
    assert (connections.is_over(older), connections.is_over(newer)) == (True, False)
    connections.begin(bob, None)
    assert connections.is_over(newer)
