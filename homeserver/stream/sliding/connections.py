"""What each connection of a device was told so far, and under which position.

Rules of this file:
- A told state is never changed: the next answer makes a new one, and maps share their structure.
- The two newest are kept: a client that lost an answer asks again with the older position.
- A newer request of a connection takes the place of those before it: a client that breaks off its
  long poll to ask for more never sees what that one would say, so it must leave no trace.
- All this lives in memory only. After a restart a position is unknown, and the client starts anew.
"""

from __future__ import annotations

import itertools
from collections import Counter, OrderedDict

from immutables import Map
from msgspec import Struct, field

from homeserver.errors import InvalidParam
from homeserver.stream.sliding.request import SlidingSyncBody

CONNECTIONS_PER_DEVICE = 20
"""Clients make up their names: one device must not crowd out the others."""

ConnectionKey = tuple[str, str | None, str]
"""User, device, `conn_id`."""


class UnknownPos(InvalidParam):
    errcode = "M_UNKNOWN_POS"


class ToldRoom(Struct, frozen=True):
    """What a connection knows of a room: everything up to the stream position `upto`.

    `members` are those whose member events were sent because of `$LAZY`. `from_outside`: it was
    told of an invite or a knock only.
    """

    upto: int
    timeline_limit: int
    required_state: frozenset[tuple[str, str]]
    members: frozenset[str] = frozenset()
    from_outside: bool = False


class Told(Struct, frozen=True):
    """What a connection was told with one answer. `position`: stream position of that answer."""

    number: int
    position: int
    rooms: Map[str, ToldRoom] = field(default_factory=Map)
    shown: frozenset[str] = frozenset()
    """The rooms that were in a window or subscribed to."""
    body: SlidingSyncBody | None = None
    """What was asked for."""
    holds_step: bool = False
    """It may have told of a step of a verification."""

    @property
    def pos(self) -> str:
        return f"{self.number}/{self.position}"


NOTHING = Told(0, 0)


class Turn(Struct, frozen=True):
    """One request of a connection, and what its client was `told` before it."""

    key: ConnectionKey
    number: int
    told: Told


class _Connection(Struct):
    told: dict[int, Told] = field(default_factory=dict)
    last: int = 0
    turn: int = 0


class Connections:
    """The connections of all devices, at most `capacity`, the least recently used go first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._connections: OrderedDict[ConnectionKey, _Connection] = OrderedDict()
        self._of_device: Counter[tuple[str, str | None]] = Counter()
        self._turns = itertools.count(1)

    def begin(self, key: ConnectionKey, pos: str | None) -> Turn:
        """A request of a client that has the answer with this `pos`. Raises UnknownPos.

        Everything that was told after that answer counts as lost, everything before it is
        forgotten.
        """
        connection, told = self._known(key, pos) if pos else (self._new(key), NOTHING)
        connection.told = {n: t for n, t in connection.told.items() if n >= told.number}
        connection.turn = next(self._turns)
        self._connections.move_to_end(key)
        return Turn(key, connection.turn, told)

    def is_over(self, turn: Turn) -> bool:
        """Whether a newer request has taken its place."""
        connection = self._connections.get(turn.key)
        return connection is not None and connection.turn != turn.number

    def next_number(self, key: ConnectionKey) -> int:
        """The number of the next answer: never the same twice."""
        connection = self._connections.get(key) or self._new(key)
        connection.last += 1
        return connection.last

    def tell(self, turn: Turn, told: Told) -> None:
        """This is being told now; if it gets lost, the client comes back with `turn.told`."""
        connection = self._connections.get(turn.key) or self._new(turn.key)
        before = turn.told
        kept = {before.number: before} if before.number else {}
        connection.told = {**kept, told.number: told}
        connection.last = max(connection.last, told.number)
        self._connections.move_to_end(turn.key)

    def _known(self, key: ConnectionKey, pos: str) -> tuple[_Connection, Told]:
        connection = self._connections.get(key)
        told = None if connection is None else connection.told.get(_number(pos))
        if connection is None or told is None or told.pos != pos:
            raise UnknownPos("This `pos` is unknown: start again without one")
        return connection, told

    def _new(self, key: ConnectionKey) -> _Connection:
        """In the place of the one of that name, if there is one."""
        if key in self._connections:
            self._drop(key)
        device = key[:2]
        if self._of_device[device] >= CONNECTIONS_PER_DEVICE:
            self._drop(next(other for other in self._connections if other[:2] == device))
        connection = self._connections[key] = _Connection()
        self._of_device[device] += 1
        if len(self._connections) > self._capacity:
            self._drop(next(iter(self._connections)))
        return connection

    def _drop(self, key: ConnectionKey) -> None:
        del self._connections[key]
        self._of_device[key[:2]] -= 1
        if not self._of_device[key[:2]]:
            del self._of_device[key[:2]]


def _number(pos: str) -> int:
    number = pos.partition("/")[0]
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise InvalidParam("`pos` is not one that this server gave you")
    return int(number)
