"""What happens, as chance has it: the same for the same seed, whatever comes of it.

A plan names people, rooms and servers by number, and leaves what isn't known beforehand (which
message is redacted, who is kicked) to a random number, `what`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

VERSIONS = ("12", "11", "10", "9", "8", "7", "6", "12")
VISITORS = {2: 0, 5: 1, 7: 2}
"""Room -> the server that has nobody in it who stays: it leaves the room and comes back."""
SERVERS = 3
PEOPLE = 4
"""On each server. The first of each server is its anchor: it may do everything and never leaves."""

WEIGHTS = {
    "message": 40,
    "burst": 4,
    "topic": 6,
    "custom_state": 6,
    "rename": 1,
    "redact": 5,
    "join": 9,
    "leave": 4,
    "invite": 3,
    "kick": 2,
    "ban": 2,
    "unban": 2,
    "power": 3,
    "join_rule": 2,
    "typing": 4,
    "receipt": 6,
    "to_device": 10,
}
FAULTS = {
    "restart": 3,
    "crash": 3,
    "outage": 3,
    "crash_outage": 2,
    "isolation": 4,
    "split": 4,
    "deafness": 2,
}


@dataclass(frozen=True, slots=True)
class Action:
    """A person (by number, over all servers) does something in a room."""

    kind: str
    who: int
    room: int
    what: int


@dataclass(frozen=True, slots=True)
class Fault:
    """After `pause` seconds something breaks at a server for `seconds`; `other` is another one."""

    kind: str
    pause: float
    seconds: float
    server: int
    other: int


def actions(seed: int) -> Iterator[Action]:
    """Without end."""
    chance = Random(f"actions {seed}")
    kinds, weights = list(WEIGHTS), list(WEIGHTS.values())
    while True:
        [kind] = chance.choices(kinds, weights)
        who = chance.randrange(SERVERS * PEOPLE)
        yield Action(kind, who, chance.randrange(len(VERSIONS)), chance.randrange(10**6))


def faults(seed: int) -> Iterator[Fault]:
    """Without end."""
    chance = Random(f"faults {seed}")
    kinds, weights = list(FAULTS), list(FAULTS.values())
    while True:
        [kind] = chance.choices(kinds, weights)
        server = chance.randrange(SERVERS)
        other = (server + chance.randrange(1, SERVERS)) % SERVERS
        yield Fault(kind, chance.uniform(5, 30), chance.uniform(3, 40), server, other)
