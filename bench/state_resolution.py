"""State resolution and authorisation of a big room, beside Synapse's in the same run.

    python -m bench.state_resolution [--synapse-python .venv-synapse/bin/python]

The room: 10,000 members, 30,000 state events (10,000 joins, a profile change of each, 10,000 other
entries), power levels changed 50 times. The forks: each changes the same 50 keys (power levels,
join rule, topic, 7 bans, 40 others) in its own way. Synapse gets its events from memory and the
auth difference for nothing (its database does that); ours includes it. All times are CPU times.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import immutables

from homeserver.protocol.auth_rules import auth_event_keys, check_event
from homeserver.protocol.events import StateKey
from homeserver.protocol.state_resolution import (
    AuthGraph,
    find_conflict,
    find_conflict_in_deltas,
    needed_events,
    resolve,
    resolve_conflict,
)
from tests.support.room import ALICE, Branch, Room

MEMBERS, OTHERS, CONFLICTED, BANS, POWER_CHANGES = 10_000, 10_000, 50, 7, 50
FORKS = (2, 5, 20)
SYNAPSE_SIDE = Path(__file__).with_name("synapse_state_resolution.py")


def best_ms(function: Callable[[], object], times: int = 7) -> float:
    """The CPU time of the shortest of some runs, in milliseconds."""
    function()
    best = float("inf")
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best * 1000


def member(number: int) -> str:
    return f"@user{number}:h{number % 100}.org"


def big_room(version: str) -> Room:
    """The room that is described above."""
    room = Room(version)
    moderators = {member(n): 50 for n in range(20)}
    for number in range(MEMBERS):
        room.member(member(number), member(number), "join", allowed=False)
        if number % (MEMBERS // POWER_CHANGES) == 0:
            room.power(ALICE, {**moderators, member(number): 10})
    for number in range(MEMBERS):
        name = f"user {number}"
        room.member(member(number), member(number), "join", allowed=False, displayname=name)
    for number in range(OTHERS):
        room.send("org.example.entry", ALICE, {"n": number}, str(number), allowed=False)
    return room


def forks_of(room: Room, count: int) -> list[Branch]:
    """Forks that differ in 50 keys."""
    forks = [room.fork() for _ in range(count)]
    for number, fork in enumerate(forks):
        moderators = {member(n): 50 for n in range(20)}
        fork.power(ALICE, {**moderators, member(30): number + 1})
        fork.join_rule(ALICE, "public", number=number)
        fork.topic(member(number % 20), f"topic {number}")
        for n in range(BANS):
            fork.ban(member(number % 20), member(MEMBERS - 1 - n))
        for n in range(CONFLICTED - BANS - 3):
            fork.send("org.example.entry", ALICE, {"fork": number}, str(n))
    return forks


def deltas_of(room: Room, forks: list[Branch]) -> list[dict[StateKey, str | None]]:
    return [
        {key: id_ for key, id_ in fork.state.items() if room.state.get(key) != id_}
        for fork in forks
    ]


def resolutions(room: Room, synapse: Synapse | None) -> None:
    """Prints a row for each number of forks."""
    version = room.rules.identifier
    forks = {count: forks_of(room, count) for count in FORKS}
    graph = AuthGraph(room.events.values())
    theirs = synapse.resolutions(room, forks) if synapse else {}
    for count in FORKS:
        states = [dict(fork.state) for fork in forks[count]]
        maps = [immutables.Map(state) for state in states]
        deltas = deltas_of(room, forks[count])
        ours = resolve(room.rules, states, graph, room.events)
        conflict = find_conflict(room.rules, states)
        if count in theirs:
            assert theirs[count]["state"] == sorted([*key, id_] for key, id_ in ours.items())

        def from_deltas() -> object:
            conflict = find_conflict_in_deltas(room.rules, room.state, deltas)  # noqa: B023
            return conflict.changes(resolve_conflict(room.rules, conflict, graph, room.events))

        def from_maps() -> object:
            conflict = find_conflict(room.rules, maps)  # noqa: B023
            return conflict.changes(resolve_conflict(room.rules, conflict, graph, room.events))

        row = [
            best_ms(lambda: resolve(room.rules, states, graph, room.events)),  # noqa: B023
            best_ms(from_maps),
            best_ms(from_deltas),
        ]
        needed = len(needed_events(room.rules, conflict, graph))
        times = " | ".join(f"{ms:.1f} ms" for ms in row)
        other = theirs.get(count, {}).get("ms")
        print(
            f"| v{version}: {count} forks, {len(conflict.conflicted)} conflicted keys of "
            f"{len(room.state):,}, {needed:,} events loaded | {times} | "
            + (f"{other:.1f} ms | {other / max(row):.1f} |" if other else "- | - |")
        )


def auth_difference() -> None:
    """A room of 100,000 state events, without their contents: the graph alone."""
    rules = Room("11").rules
    graph = AuthGraph()
    state: dict[StateKey, str] = {}

    def add(event_id: str, key: StateKey, *cited: StateKey) -> None:
        graph.add(event_id, key, [state[k] for k in cited if k in state])
        state[key] = event_id

    create, power, rule = (
        ("m.room.create", ""),
        ("m.room.power_levels", ""),
        ("m.room.join_rules", ""),
    )
    add("$create", create)
    for number in range(100_000):
        key = ("m.room.member", member(number % 20_000))
        if number % 1000 == 0:
            add(f"$power{number}", power, create, power, ("m.room.member", member(0)))
        if number % 10_000 == 0:
            add(f"$rule{number}", rule, create, power, ("m.room.member", member(0)))
        add(f"$member{number}", key, create, power, rule, key)
    base, deltas = dict(state), []
    for fork in range(2):
        state = dict(base)
        for number in range(25):
            key = ("m.room.member", member(number + fork * 10))
            add(f"$fork{fork}-{number}", key, create, power, rule, key)
        add(f"$fork{fork}-power", power, create, power, ("m.room.member", member(fork)))
        deltas.append({key: id_ for key, id_ in state.items() if base.get(key) != id_})

    def difference() -> set[str]:
        conflict = find_conflict_in_deltas(rules, base, deltas)
        return graph.full_conflicted_set(conflict, with_subgraph=False)

    def by_walking() -> int:
        chains = [graph.auth_chain({**base, **delta}.values()) for delta in deltas]
        return len(set().union(*chains) - chains[0].intersection(*chains[1:]))

    ours, walked = best_ms(difference), best_ms(by_walking, 3)
    print(
        f"| auth difference in {len(graph):,} state events ({len(difference())} events found) | "
        f"{ours:.2f} ms | walking both whole chains: {walked:.0f} ms |"
    )


def one_event(room: Room, synapse: Synapse | None) -> None:
    """Authorisation of a single event in the big room."""
    events = {
        "message": room.make("m.room.message", member(5), {"body": "x"}),
        "join": room.make("m.room.member", "@new:h.org", {"membership": "join"}, "@new:h.org"),
        "power levels": room.make(
            "m.room.power_levels",
            ALICE,
            dict(room.get("m.room.power_levels").content) | {"ban": 60},
            "",
        ),
    }
    state = room.state_events
    theirs = synapse.auth(room, events) if synapse else {}
    for name, event in events.items():

        def check(event: Any = event) -> None:
            for _ in range(1000):
                keys = auth_event_keys(
                    room.rules, event.type, event.sender, event.state_key, event.content
                )
                check_event(room.rules, event, {k: state[k] for k in keys if k in state})

        other = f"{theirs[name]:.1f} us" if name in theirs else "-"
        print(f"| auth of one event: {name} | {best_ms(check):.1f} us | {other} |")


class Synapse:
    """The other side, run once per question in its own environment."""

    def __init__(self, python: str) -> None:
        self.python = python

    def ask(self, question: dict[str, Any]) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "question.json")
            path.write_text(json.dumps(question))
            done = subprocess.run(
                [self.python, SYNAPSE_SIDE, path], capture_output=True, text=True, check=True
            )
            return json.loads(done.stdout)

    def resolutions(self, room: Room, forks: dict[int, list[Branch]]) -> dict[int, Any]:
        graph = AuthGraph(room.events.values())
        cases = []
        for branches in forks.values():
            states = [branch.state for branch in branches]
            conflict = find_conflict(room.rules, states)
            full = graph.full_conflicted_set(
                conflict, with_subgraph=room.rules.room_id_is_create_event_id
            )
            entries = [[[*key, id_] for key, id_ in state.items()] for state in states]
            cases.append({"states": entries, "difference": sorted(full)})
        answers = self.ask(
            {
                "version": room.rules.identifier,
                "room_id": room.create.room_id,
                "events": [event.pdu for event in room.events.values()],
                "cases": cases,
            }
        )
        return dict(zip(forks, answers, strict=True))

    def auth(self, room: Room, events: dict[str, Any]) -> dict[str, float]:
        checks = {}
        for name, event in events.items():
            keys = auth_event_keys(
                room.rules, event.type, event.sender, event.state_key, event.content
            )
            auth = [room.events[room.state[key]].pdu for key in keys if key in room.state]
            checks[name] = {"event": event.pdu, "auth": auth}
        answer: dict[str, float] = self.ask({"version": room.rules.identifier, "checks": checks})
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synapse-python", help="interpreter that has matrix-synapse")
    options = parser.parse_args()
    synapse = Synapse(options.synapse_python) if options.synapse_python else None
    print(
        "| | ours: dicts to a dict | ours: immutables.Map to changes | ours: deltas to changes "
        "| synapse.state.v2 | Synapse's / our slowest |\n|---|---|---|---|---|---|"
    )
    rooms = [big_room("11"), big_room("12")]
    for room in rooms:
        resolutions(room, synapse)
    print("\n| | ours | otherwise |\n|---|---|---|")
    auth_difference()
    one_event(rooms[0], synapse)


if __name__ == "__main__":
    main()
