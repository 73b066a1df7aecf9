"""The loaded events of a resolution."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from homeserver.protocol.events import Event, StateKey
from homeserver.protocol.state_resolution.auth_graph import AuthGraph


class MissingEvents(LookupError):
    """Events of the room that were not given to a resolution but are needed: `event_ids`."""

    def __init__(self, event_ids: set[str]) -> None:
        super().__init__(f"{len(event_ids)} events are missing")
        self.event_ids = event_ids


class Source:
    """Loaded events by id, and the graph that knows which events exist."""

    __slots__ = ("_events", "graph")

    def __init__(self, graph: AuthGraph, events: Mapping[str, Event]) -> None:
        self.graph = graph
        self._events = events

    def require(self, event_ids: Iterable[str]) -> None:
        """Raises MissingEvents for all that are not loaded, at once."""
        missing = {event_id for event_id in event_ids if event_id not in self._events}
        if missing:
            raise MissingEvents(missing)

    def event(self, event_id: str) -> Event:
        """Raises MissingEvents if it is not loaded."""
        event = self._events.get(event_id)
        if event is None:
            raise MissingEvents({event_id})
        return event

    def auth_events(self, event: Event) -> Iterator[Event]:
        """The auth events of an event, those that exist."""
        for event_id in event.auth_events:
            if event_id in self.graph:
                yield self.event(event_id)

    def cited(self, event: Event, key: StateKey) -> Event | None:
        """The auth event with that key."""
        event_id = self.graph.cited(event.event_id, key)
        return None if event_id is None else self.event(event_id)

    def create(self, event: Event) -> Event | None:
        """The create event that an event refers to: by its room id in version 12."""
        if event.rules.room_id_is_create_event_id:
            event_id = "$" + event.room_id[1:]
            return self.event(event_id) if event_id in self.graph else None
        return self.cited(event, ("m.room.create", ""))
