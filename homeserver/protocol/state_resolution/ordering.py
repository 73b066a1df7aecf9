"""The two orders of state resolution v2 (rooms/v2#definitions)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping

from homeserver.protocol.auth_rules.selection import POWER_LEVELS
from homeserver.protocol.events import Event
from homeserver.protocol.power_levels import power_levels_of
from homeserver.protocol.room_versions import RoomVersion
from homeserver.protocol.state_resolution.auth_graph import AuthGraph
from homeserver.protocol.state_resolution.source import Source

_Order = tuple[int, int, str]


def reverse_topological_power_ordering(
    rules: RoomVersion, events: Mapping[str, Event], source: Source
) -> list[Event]:
    """ "The lexicographically smallest topological ordering based on the DAG formed by auth
    events", by Kahn's algorithm: at each step the smallest event whose auth events are all out.
    """
    waiting_for: dict[str, int] = {}
    cited_by: dict[str, list[str]] = {}
    ready: list[_Order] = []
    for event_id, event in events.items():
        cited = {auth_id for auth_id in event.auth_events if auth_id in events}
        waiting_for[event_id] = len(cited)
        for auth_id in cited:
            cited_by.setdefault(auth_id, []).append(event_id)
        if not cited:
            ready.append(_power_order(rules, event, source))
    heapq.heapify(ready)
    ordered = []
    while ready:
        event_id = heapq.heappop(ready)[2]
        ordered.append(events[event_id])
        for citing in cited_by.get(event_id, ()):
            waiting_for[citing] -= 1
            if not waiting_for[citing]:
                heapq.heappush(ready, _power_order(rules, events[citing], source))
    return ordered


def _power_order(rules: RoomVersion, event: Event, source: Source) -> _Order:
    """ "x < y if x's sender has greater power level than y's sender, when looking at their
    respective auth_events; or the senders have the same power level, but x's origin_server_ts is
    less than y's; or [...] x's event_id is less than y's."
    """
    create = source.create(event)
    power = 0
    if create is not None and event is not create:
        power_levels = source.cited(event, POWER_LEVELS)
        power = power_levels_of(rules, create, power_levels).user(event.sender)
    return (-power, event.origin_server_ts, event.event_id)


def mainline_ordering(
    power_levels: str | None, events: Iterable[Event], graph: AuthGraph
) -> list[Event]:
    """Sorts events by the mainline of a power levels event (None: there is no mainline).

    "x < y if the mainline position of x is greater than the mainline position of y; or the mainline
    positions are the same, but x's origin_server_ts is less; or [...] x's event_id is less."
    """
    # "Repeatedly fetch P_i+1, the m.room.power_levels event in the auth_events of P_i."
    positions: dict[str, float] = {}
    while power_levels is not None and power_levels not in positions:
        positions[power_levels] = len(positions)
        power_levels = graph.cited(power_levels, POWER_LEVELS)

    def order(event: Event) -> tuple[float, int, str]:
        position = _mainline_position(event, positions, graph)
        return (-position, event.origin_server_ts, event.event_id)

    return sorted(events, key=order)


def _mainline_position(event: Event, positions: dict[str, float], graph: AuthGraph) -> float:
    """ "Find the smallest index j >= 1 for which e_j belongs to the mainline of P. If such a j
    exists, then e_j = P_i for some unique index i. Otherwise set i = infinity."

    `positions` remembers the way, so that each power levels event is walked through once.
    """
    walked: list[str] = []
    ancestor = graph.cited(event.event_id, POWER_LEVELS)
    while ancestor is not None and ancestor not in positions and len(walked) <= len(graph):
        walked.append(ancestor)
        ancestor = graph.cited(ancestor, POWER_LEVELS)
    position = math.inf if ancestor is None else positions.get(ancestor, math.inf)
    positions.update(dict.fromkeys(walked, position))
    return position
