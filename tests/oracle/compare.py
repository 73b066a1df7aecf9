"""Plays random rooms and compares every verdict with Synapse's: `python -m tests.oracle.compare`.

Compared are event ids, redactions, the verdict on every event that anybody attempted (sane and odd
ones), on odd `auth_events`, and every resolution. A difference that the specification explains is
counted under its explanation, any other is printed with its seed and makes the run fail.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import ROOM_VERSIONS
from tests.oracle.explanations import explanation
from tests.oracle.odd_events import OddEvents
from tests.support.random_room import Attempt, StateIds, random_history

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


class Case:
    """A random room with all that is asked about it."""

    def __init__(self, seed: int, version: str, steps: int) -> None:
        self.history = random_history(seed, version, steps)
        self.rules = self.history.room.rules
        self.where = f"version {version}, seed {seed}"
        odd = OddEvents(random.Random(seed), self.history)
        branch = self.history.room.fork()
        if self.history.resolutions:
            branch.state = dict(self.history.resolutions[-1][1])
        odd.add_third_party_invite(branch)
        self.attempts = self.history.attempts + [odd.attempt(branch) for _ in range(20)]
        self.odd_auth_events = [odd.odd_auth_events(branch) for _ in range(5)]

        self.odd_pdus = [odd.pdu() for _ in range(10)]

    def question(self) -> dict[str, Any]:
        """The room as the subprocess reads it."""
        room = self.history.room
        made = [attempt.event for attempt in self.attempts]
        made += [event for event, _ in self.odd_auth_events]
        events = dict(room.events) | {event.event_id: event for event in made}
        resolutions = self.history.resolutions
        return {
            "version": self.rules.identifier,
            "room_id": room.create.room_id,
            "events": {event_id: event.pdu for event_id, event in events.items()},
            "refused": [event_id for event_id in events if event_id not in room.events],
            "attempts": [[a.event.event_id, entries(a.state)] for a in self.attempts],
            "odd_auth_events": [event.event_id for event, _ in self.odd_auth_events],
            "odd_pdus": self.odd_pdus,
            "resolutions": [[entries(state) for state in states] for states, _ in resolutions],
        }


class Comparison:
    """Counts of what was compared, and the differences."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.explained: Counter[str] = Counter()
        self.differences: list[str] = []

    def case(self, case: Case, synapse: Oracle) -> None:
        """Compares all about one room."""
        question = case.question()
        answer = synapse.ask(question)
        self.compared["rooms"] += 1
        self._events(case, question["events"], answer)
        self._verdicts(case, answer)
        self._resolutions(case, answer["resolutions"])

    def _events(self, case: Case, pdus: dict[str, Any], answer: dict[str, Any]) -> None:
        for event_id, pdu in pdus.items():
            redacted = redact(pdu, case.rules)
            self._equal(f"{case.where}: id", event_id, answer["event_ids"][event_id])
            self._equal(f"{case.where}: redacted", redacted, answer["redacted"][event_id])
            self.compared["event ids and redactions"] += 1

        for pdu, theirs in zip(case.odd_pdus, answer["odd_redacted"], strict=True):
            self.compared["redactions of odd PDUs"] += 1
            self._equal(f"{case.where}: {pdu} redacted", redact(pdu, case.rules), theirs)

    def _verdicts(self, case: Case, answer: dict[str, Any]) -> None:
        for attempt, theirs in zip(case.attempts, answer["attempts"], strict=True):
            self.compared["auth verdicts"] += 1
            self.compared["- allowed" if attempt.reason is None else "- refused"] += 1
            self._verdict(case, attempt, theirs)
        odd = zip(case.odd_auth_events, answer["odd_auth_events"], strict=True)
        for (event, ours), theirs in odd:
            self.compared["verdicts on auth_events"] += 1
            self.compared["- odd ones"] += ours is not None
            self._verdict(case, Attempt(event, {}, ours), theirs)

    def _verdict(self, case: Case, attempt: Attempt, theirs: str | None) -> None:
        if (attempt.reason is None) == (theirs is None):
            return
        why = explanation(case.history.room, attempt, theirs)
        if why is not None:
            self.explained[why] += 1
            return
        self.differences.append(
            f"{case.where}: {attempt.event} {attempt.event.content}\n"
            f"  ours:      {attempt.reason}\n  Synapse's: {theirs}"
        )

    def _resolutions(self, case: Case, theirs: list[Any]) -> None:
        for (states, ours), their in zip(case.history.resolutions, theirs, strict=True):
            self.compared["resolutions"] += 1
            self.compared["- of a conflict"] += any(s != states[0] for s in states)
            self._equal(f"{case.where}: resolution of {len(states)}", entries(ours), their)

    def _equal(self, what: str, ours: object, theirs: object) -> None:
        if ours != theirs:
            self.differences.append(f"{what}\n  ours:      {ours}\n  Synapse's: {theirs}")


def compare(python: str, rooms: int, first_seed: int = 0, steps: int = 40) -> Comparison:
    """Plays so many rooms, the versions in turn."""
    comparison = Comparison()
    versions = list(ROOM_VERSIONS)
    with oracle(python) as synapse:
        for seed in range(first_seed, first_seed + rooms):
            comparison.case(Case(seed, versions[seed % len(versions)], steps), synapse)
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
    for why, count in comparison.explained.items():
        print(f"{count:9,} explained: {why}")
    print(f"{len(comparison.differences):9,} differences")
    print("\n".join(comparison.differences[:20]))
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    sys.exit(main())
