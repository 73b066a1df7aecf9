"""Runs with the interpreter of an environment that has `matrix-synapse`, as a subprocess.

Reads a room per line from standard input, writes a line of verdicts per room to standard output:

    in:  {"version", "room_id", "events": {id: PDU}, "resolutions": [[state, ...], ...],
          "attempts": [[event id, state], ...], "odd_auth_events": [event id, ...],
          "odd_pdus": [PDU, ...]}
         where a state is [[type, state_key, event id], ...]
    out: {"event_ids": {id: Synapse's id}, "redacted": {id: ...}, "resolutions": [state, ...],
          "attempts": [null or the reason, ...], "odd_auth_events": [null or the reason, ...],
          "odd_redacted": [PDU, ...]}

Synapse's own functions do all the work: its event class computes ids from the PDUs, and every event
is handed over as "not yet persisted", so that it walks the auth chains itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from synapse import event_auth
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.events import make_event_from_dict
from synapse.state import v1, v2
from synapse.storage.databases.main.event_federation import StateDifference
from synapse.synapse_rust.events import redact_event_dict


class Clock:
    async def sleep(self, duration: Any) -> None:
        return None


class Store:
    """Nothing is persisted: for state resolution, all events are in the map of those in flight."""

    def __init__(self, events: dict[str, Any]) -> None:
        self.events = events

    async def get_events(self, event_ids: Any, **options: Any) -> dict[str, Any]:
        return {id_: self.events[id_] for id_ in event_ids if id_ in self.events}

    async def get_auth_chain_difference(self, *arguments: Any) -> StateDifference:
        return StateDifference(auth_difference=set(), conflicted_subgraph=set())


def resolve(room: Any, version: Any, events: dict[str, Any], states: list[Any]) -> Any:
    state_sets = [{(kind, key): event_id for kind, key, event_id in state} for state in states]
    if version.identifier == "1":

        async def fetch(event_ids: Any) -> dict[str, Any]:
            return {event_id: events[event_id] for event_id in event_ids}

        resolution = v1.resolve_events_with_store(
            room["room_id"], version, state_sets, dict(events), fetch
        )
    else:
        resolution = v2.resolve_events_with_store(
            Clock(), room["room_id"], version, state_sets, dict(events), Store({})
        )
    resolved = asyncio.run(resolution)
    return sorted([kind, key, resolved[kind, key]] for kind, key in resolved)


def judge(events: dict[str, Any], event_id: str, state: list[Any]) -> str | None:
    try:
        event_auth.check_state_dependent_auth_rules(
            events[event_id], [events[entry[2]] for entry in state]
        )
    except Exception as error:  # any failure of Synapse's means: not allowed
        return f"{type(error).__name__}: {error}"
    return None


def judge_auth_events(events: dict[str, Any], event_id: str) -> str | None:
    try:
        asyncio.run(event_auth.check_state_independent_auth_rules(Store(events), events[event_id]))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def answer(room: Any) -> dict[str, Any]:
    version = KNOWN_ROOM_VERSIONS[room["version"]]
    events = {id_: make_event_from_dict(pdu, version) for id_, pdu in room["events"].items()}
    known = {id_: event for id_, event in events.items() if id_ not in set(room["refused"])}
    return {
        "event_ids": {id_: event.event_id for id_, event in events.items()},
        "redacted": {id_: redact_event_dict(version, pdu) for id_, pdu in room["events"].items()},
        "attempts": [judge(events, id_, state) for id_, state in room["attempts"]],
        "odd_auth_events": [judge_auth_events(events, id_) for id_ in room["odd_auth_events"]],
        "odd_redacted": [redact_event_dict(version, pdu) for pdu in room["odd_pdus"]],
        "resolutions": [resolve(room, version, known, states) for states in room["resolutions"]],
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
