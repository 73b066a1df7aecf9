"""Plays random rooms and compares every verdict with Synapse's: `python -m tests.oracle.compare`.

Compared are event ids, redactions, the verdict on every attempted event, and every resolution. A
difference that the specification explains is counted under its explanation, any other is printed
with its seed and makes the run fail.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.support.random_room import History, StateIds, random_history

SYNAPSE_SIDE = Path(__file__).with_name("synapse_side.py")


class Oracle:
    """Synapse's answers, from a subprocess."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[str] = process.stdin
        self._stdout: IO[str] = process.stdout

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        self._stdin.write(json.dumps(question) + "\n")
        self._stdin.flush()
        answer: dict[str, Any] = json.loads(self._stdout.readline())
        return answer


@contextmanager
def oracle(python: str) -> Iterator[Oracle]:
    """Starts the interpreter of an environment that has `matrix-synapse`."""
    command = [python, str(SYNAPSE_SIDE)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        yield Oracle(process)


def entries(state: StateIds) -> list[list[str]]:
    return sorted([key[0], key[1], event_id] for key, event_id in state.items())


def question(history: History) -> dict[str, Any]:
    """The room as the subprocess reads it."""
    room = history.room
    events = dict(room.events)
    events.update((attempt.event.event_id, attempt.event) for attempt in history.attempts)
    return {
        "version": room.rules.identifier,
        "room_id": room.create.room_id,
        "events": {event_id: event.pdu for event_id, event in events.items()},
        "refused": [a.event.event_id for a in history.attempts if a.reason is not None],
        "attempts": [[a.event.event_id, entries(a.state)] for a in history.attempts],
        "resolutions": [[entries(state) for state in states] for states, _ in history.resolutions],
    }


class Comparison:
    """Counts of what was compared, and the differences."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.explained: Counter[str] = Counter()
        self.differences: list[str] = []

    def room(self, seed: int, history: History, synapse: Oracle) -> None:
        """Compares all about one room."""
        asked = question(history)
        answer = synapse.ask(asked)
        rules = history.room.rules
        where = f"version {rules.identifier}, seed {seed}"
        self.compared["rooms"] += 1
        for event_id, pdu in asked["events"].items():
            self.equal(f"{where}: id", event_id, answer["event_ids"][event_id])
            self.equal(f"{where}: redacted", redact(pdu, rules), answer["redacted"][event_id])
            self.compared["event ids and redactions"] += 1
        for attempt, reason in zip(history.attempts, answer["attempts"], strict=True):
            self.compared["auth verdicts"] += 1
            self.compared["allowed" if attempt.reason is None else "refused"] += 1
            self.equal(
                f"{where}: {attempt.event} ({attempt.reason} / {reason})",
                attempt.reason is None,
                reason is None,
            )
        for (states, ours), theirs in zip(history.resolutions, answer["resolutions"], strict=True):
            self.compared["resolutions"] += 1
            self.compared["resolutions of a conflict"] += any(s != states[0] for s in states)
            self.equal(f"{where}: resolution of {len(states)}", entries(ours), theirs)

    def equal(self, what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            self.differences.append(f"{what}\n  ours:      {ours}\n  Synapse's: {theirs}")


def compare(python: str, rooms: int, first_seed: int = 0, steps: int = 40) -> Comparison:
    """Plays so many rooms, the versions in turn."""
    comparison = Comparison()
    versions = list(ROOM_VERSIONS)
    with oracle(python) as synapse:
        for seed in range(first_seed, first_seed + rooms):
            history = random_history(seed, versions[seed % len(versions)], steps)
            comparison.room(seed, history, synapse)
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter that has matrix-synapse")
    parser.add_argument("--rooms", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    comparison = compare(options.python, options.rooms, options.seed, options.steps)
    for what, count in comparison.compared.items():
        print(f"{count:9,} {what}")
    print(f"{len(comparison.differences):9,} differences")
    print("\n".join(comparison.differences[:20]))
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    sys.exit(main())
