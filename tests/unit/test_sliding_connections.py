"""What sliding sync remembers of its connections."""

from __future__ import annotations

import pytest

from homeserver.stream.sliding.connections import (
    CONNECTIONS_PER_DEVICE,
    NOTHING,
    ConnectionKey,
    Connections,
    Told,
    UnknownPos,
)


def tell(connections: Connections, key: ConnectionKey) -> str:
    told = Told(connections.next_number(key), 5)
    connections.tell(key, NOTHING, told)
    return told.pos


def test_a_device_with_many_connections_crowds_out_its_own_only() -> None:
    connections = Connections(capacity=CONNECTIONS_PER_DEVICE + 5)
    bob: ConnectionKey = ("@bob:hs.test", "B", "")
    bobs = tell(connections, bob)
    keys: list[ConnectionKey] = [("@alice:hs.test", "A", str(number)) for number in range(100)]
    pos = {key: tell(connections, key) for key in keys}
    assert connections.told(bob, bobs).position == 5
    for key in keys[-CONNECTIONS_PER_DEVICE:]:
        assert connections.told(key, pos[key]).position == 5
    with pytest.raises(UnknownPos):
        connections.told(keys[-CONNECTIONS_PER_DEVICE - 1], pos[keys[0]])
