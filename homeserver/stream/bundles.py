"""Bundled aggregations: what is related to events, as one reader sees it.

Rules of this file: a fixed number of queries for any number of events, none for events that are
known to have no children (`StoredEvent.has_children`); nobody sees a child here that they may not
see or whose sender they ignore. client-server-api#aggregations-of-child-events
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from homeserver.protocol.client_events import relations, with_unsigned
from homeserver.protocol.relations import (
    REFERENCE,
    REPLACE,
    THREAD,
    ThreadSummary,
    bundle,
    is_valid_replacement,
    may_be_thread_root,
)
from homeserver.store import relations as relation_store
from homeserver.store.database import Database
from homeserver.store.relations import Children, Eyes, Parent
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.stored_event import StoredEvent

Ranges = Sequence[tuple[int, int]]
"""Timeline orders, both ends included."""

Form = Callable[[StoredEvent], bytes]
"""The client form of a child for the reader."""

ByRoom = Mapping[int, Sequence[StoredEvent]]
"""Events by room number."""


class Viewer(Struct, frozen=True):
    """Somebody who reads rooms, and what they see of each (by room number)."""

    user_id: str
    visible: Mapping[int, Ranges]


class Bundles:
    """Gathers bundles."""

    def __init__(self, database: Database, rooms: LiveRooms, ignored: IgnoredUsers) -> None:
        self._database = database
        self._rooms = rooms
        self.ignored = ignored

    async def eyes(self, viewer: Viewer) -> Eyes:
        """What a viewer sees, in the form in which the store takes it."""
        spans = [
            (number, first, last)
            for number, ranges in viewer.visible.items()
            for first, last in ranges
        ]
        return Eyes(
            viewer.user_id,
            list(await self.ignored.of(viewer.user_id)),
            [span[0] for span in spans],
            [span[1] for span in spans],
            [span[2] for span in spans],
        )

    async def of(self, viewer: Viewer, events: ByRoom, form: Form) -> dict[str, bytes]:
        """The `m.relations` of those among the events that have any, by event id."""
        parents = await self._parents(events)
        if not parents:
            return {}
        eyes = await self.eyes(viewer)
        found, shown = await self._children(parents, eyes)
        by_id = {stored.event_id: (number, stored) for number, stored in parents}
        latest: dict[int, list[StoredEvent]] = {}
        for children in found:
            if children.rel_type == THREAD and children.event_ids[0] in shown:
                number = by_id[children.parent_id][0]
                latest.setdefault(number, []).append(shown[children.event_ids[0]])
        inner = await self._flat(latest, eyes, form)
        return {
            event_id: bundled
            for event_id, bundled in _joined(found, by_id, shown, inner, eyes, form)
            if bundled is not None
        }

    async def _flat(self, events: ByRoom, eyes: Eyes, form: Form) -> dict[str, bytes]:
        """The bundles of the newest events of threads, which are no threads themselves."""
        parents = await self._parents(events)
        if not parents:
            return {}
        found, shown = await self._children(parents, eyes)
        found = [children for children in found if children.rel_type != THREAD]
        by_id = {stored.event_id: (number, stored) for number, stored in parents}
        joined = _joined(found, by_id, shown, {}, eyes, form)
        return {event_id: bundled for event_id, bundled in joined if bundled is not None}

    async def _parents(self, events: ByRoom) -> list[tuple[int, StoredEvent]]:
        """Those of the events that have children; one query for those of which it isn't known."""
        candidates = [
            (number, stored)
            for number, of_room in events.items()
            for stored in of_room
            if stored.has_children is not False and stored.state_key is None
        ]
        unknown = {s.event_id: s for _, s in candidates if s.has_children is None}
        if unknown:
            async with self._database.connection() as connection:
                parents = await relation_store.with_children(connection, unknown)
            for event_id, stored in unknown.items():
                # A child that was published meanwhile has already left its mark.
                if stored.has_children is None:
                    stored.has_children = event_id in parents
        return [(number, stored) for number, stored in candidates if stored.has_children]

    async def _children(
        self, parents: Iterable[tuple[int, StoredEvent]], eyes: Eyes
    ) -> tuple[list[Children], dict[str, StoredEvent]]:
        """The children by parent and type, and the events of which the client form is needed."""
        async with self._database.connection() as connection:
            found = await relation_store.children(
                connection,
                [Parent(s.event_id, number, s.sender, s.type) for number, s in parents],
                eyes,
            )
            wanted = {e for c in found if c.rel_type != REFERENCE for e in c.event_ids}
            shown = await self._rooms.events.get_many(connection, wanted, self._rooms.rules_of)
        return found, shown


def _joined(
    found: Iterable[Children],
    parents: Mapping[str, tuple[int, StoredEvent]],
    shown: Mapping[str, StoredEvent],
    inner: Mapping[str, bytes],
    eyes: Eyes,
    form: Form,
) -> Iterable[tuple[str, bytes | None]]:
    by_parent: dict[str, dict[str, Children]] = {}
    for children in found:
        by_parent.setdefault(children.parent_id, {})[children.rel_type] = children
    for parent_id, of_parent in by_parent.items():
        parent = parents[parent_id][1]
        references = of_parent.get(REFERENCE)
        yield (
            parent_id,
            bundle(
                _replacement(parent, of_parent.get(REPLACE), shown, form),
                references.event_ids if references is not None else (),
                _thread(parent, of_parent.get(THREAD), shown, inner, eyes, form),
            ),
        )


def _replacement(
    parent: StoredEvent, edits: Children | None, shown: Mapping[str, StoredEvent], form: Form
) -> bytes | None:
    # "If the original event is redacted, any `m.replace` relationship should **not** be bundled"
    if edits is None or parent.redacted_by is not None:
        return None
    newest = shown.get(edits.event_ids[0])
    if newest is None or not is_valid_replacement(parent.event, newest.event):
        return None
    return form(newest)


def _thread(
    parent: StoredEvent,
    thread: Children | None,
    shown: Mapping[str, StoredEvent],
    inner: Mapping[str, bytes],
    eyes: Eyes,
    form: Form,
) -> ThreadSummary | None:
    if thread is None or not may_be_thread_root(parent.content):
        return None
    latest = shown.get(thread.event_ids[0])
    if latest is None:
        return None
    encoded = form(latest)
    bundled = inner.get(latest.event_id)
    if bundled is not None:
        encoded = with_unsigned(encoded, relations(bundled))
    participated = thread.by_user or parent.sender == eyes.user_id
    return ThreadSummary(encoded, thread.count, participated)
