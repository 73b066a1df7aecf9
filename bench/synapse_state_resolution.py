"""Synapse's side of `bench.state_resolution`, run where `matrix-synapse` is installed."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synapse import event_auth
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.state import v2
from synapse.storage.databases.main.event_federation import StateDifference


def best_ms(function: Callable[[], object], times: int = 7) -> float:
    function()
    best = float("inf")
    for _ in range(times):
        gc.collect()
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best * 1000


class Clock:
    async def sleep(self, duration: Any) -> None:
        return None


class Store:
    """Events from memory, and an auth difference that costs nothing."""

    def __init__(self, events: dict[str, Any], difference: list[str]) -> None:
        self.events = events
        self.difference = difference

    async def get_events(self, event_ids: Any, allow_rejected: bool = False) -> dict[str, Any]:
        return {id_: self.events[id_] for id_ in event_ids if id_ in self.events}

    async def get_auth_chain_difference(self, *arguments: Any) -> StateDifference:
        return StateDifference(set(self.difference), set())


def resolve(question: dict[str, Any], case: dict[str, Any], events: dict[str, Any]) -> Any:
    states = [{(kind, key): id_ for kind, key, id_ in state} for state in case["states"]]
    version = KNOWN_ROOM_VERSIONS[question["version"]]
    store = Store(events, case["difference"])

    def run() -> Any:
        return asyncio.run(
            v2.resolve_events_with_store(Clock(), question["room_id"], version, states, None, store)
        )

    state = run()
    return {"ms": best_ms(run), "state": sorted([*key, state[key]] for key in state)}


def check(event: Any, auth: list[Any]) -> float:
    def run() -> None:
        for _ in range(1000):
            event_auth.auth_types_for_event(event.room_version, event)
            event_auth.check_state_dependent_auth_rules(event, auth)

    return best_ms(run)


def main() -> None:
    question = json.loads(Path(sys.argv[1]).read_text())
    version = KNOWN_ROOM_VERSIONS[question["version"]]
    if "checks" in question:
        answer: Any = {
            name: check(
                make_event_from_dict(case["event"], version),
                [make_event_from_dict(pdu, version) for pdu in case["auth"]],
            )
            for name, case in question["checks"].items()
        }
    else:
        made = [make_event_from_dict(pdu, version) for pdu in question["events"]]
        events = {event.event_id: event for event in made}
        answer = [resolve(question, case, events) for case in question["cases"]]
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
