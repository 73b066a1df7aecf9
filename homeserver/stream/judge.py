"""The checks 4 to 6 on an event of another server, and the state before and after it.

Rules of this file: nothing is changed here, only found out. The caller holds the room's lock.
server-server-api#checks-performed-on-receipt-of-a-pdu
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import structlog
from msgspec import Struct

from homeserver.protocol.auth_rules import StateKey, check_auth_events, check_event
from homeserver.protocol.event_types import MEMBER, REDACTION
from homeserver.protocol.events import Event
from homeserver.protocol.policy_servers import POLICY, is_recommended, policy_server_of
from homeserver.protocol.power_levels import power_levels_of
from homeserver.protocol.rejection import Rejected
from homeserver.store.database import Connection
from homeserver.store.events import Flag
from homeserver.stream.changes import StateChange
from homeserver.stream.event_sources import (
    CREATE,
    POWER_LEVELS,
    EventSource,
    auth_state_ids,
    create_id_of,
)
from homeserver.stream.group_states import GroupState, GroupStates, group_after
from homeserver.stream.hidden_events import is_hidden
from homeserver.stream.live_room import LiveRoom, State, changed_state
from homeserver.stream.redactions import Effect, effect_of
from homeserver.stream.resolve import StateResolver
from homeserver.stream.stored_event import StoredEvent

LEFT_OUT = Flag.REJECTED | Flag.SOFT_FAILED
MAX_BEHIND = 200

log = structlog.get_logger(__name__)


class CannotJudge(Exception):
    """What an event refers to can't be had: it is left aside. The text says what is missing."""


class Moment(Struct, frozen=True):
    """A state of the room. `group` is None where no group holds it yet; it resembles `base`."""

    state: State
    group: int | None
    base: GroupState


class Judged(Struct, frozen=True):
    """An event and what was found about it.

    `flags` may say rejected or soft-failed. `after` is the state after it, `current` the room's
    over `extremities`, which are those that it leaves. `missing`: its prev_events that we lack.
    `effect`: what an accepted redaction does.
    """

    event: Event
    flags: int
    auth: tuple[int, ...]
    before: Moment
    after: State
    current: State
    extremities: tuple[str, ...]
    missing: tuple[str, ...]
    effect: Effect | None

    @property
    def is_accepted(self) -> bool:
        return not self.flags & LEFT_OUT

    @property
    def is_shown(self) -> bool:
        """Whether clients are told of it."""
        return self.is_accepted and not self.flags & Flag.HIDDEN


class Judge:
    """Judges events for one room. `told` are states after prev_events that we lack.

    `believes_cited`: memberships that a state lacks are taken from what the event cites, as in a
    room whose members we don't all know. It is judged again once we know them (`completion`).
    """

    def __init__(
        self,
        room: LiveRoom,
        source: EventSource,
        connection: Connection,
        resolver: StateResolver,
        group_states: GroupStates,
        told: Mapping[str, State],
    ) -> None:
        self._room = room
        self._source = source
        self._connection = connection
        self._resolver = resolver
        self._group_states = group_states
        self._told = told
        self.believes_cited = room.is_partial

    async def judge(self, event: Event) -> Judged:
        """What is to become of an event. Raises CannotJudge."""
        head = self._room.head
        auth = await self._auth_events(event)
        before = await self._before(event)
        flags = await self._flags(event, auth, before.state, head.state)
        after = before.state
        if event.is_state and not flags & Flag.REJECTED:
            own = StateChange(event.key, before.state.get(event.key), event.event_id)
            after = changed_state(before.state, (own,))
        current, extremities = head.state, head.forward_extremities
        effect = None if flags else await self._effect(event, before.state)
        if not flags:
            behind = await self._behind(event)
            left = [id_ for id_ in extremities if id_ not in behind]
            extremities = (*left, event.event_id)
            current = await self._current(left, event, after)
        return Judged(
            event=event,
            flags=flags | (Flag.HIDDEN if not flags and is_hidden(event, effect) else 0),
            auth=tuple(stored.number for stored in auth),
            before=before,
            after=after,
            current=current,
            extremities=extremities,
            missing=tuple(id_ for id_ in event.prev_events if self._is_missing(id_)),
            effect=effect,
        )

    async def flags(self, event: Event, before: State, current: State) -> int:
        """The outcome of the checks 4 to 6 by these states: `Flag.REJECTED`, `SOFT_FAILED`, or 0.

        Raises CannotJudge.
        """
        return await self._flags(event, await self._auth_events(event), before, current)

    async def _behind(self, event: Event) -> set[str]:
        """What the event comes right after: its prev_events, and the prev_events of those that
        are left out of the room (rejected, soft-failed) and so never were extremities.
        """
        found = set(event.prev_events)
        level = list(found)
        while level and len(found) < MAX_BEHIND:
            await self._source.load(level)
            events = [self._source.find(event_id) for event_id in level]
            aside = [e.event for e in events if e is not None and e.flags & LEFT_OUT]
            level = [id_ for e in aside for id_ in e.prev_events if id_ not in found]
            found.update(level)
        return found

    def _is_missing(self, event_id: str) -> bool:
        stored = self._source.find(event_id)
        return stored is None or bool(stored.flags & Flag.OUTLIER)

    async def _auth_events(self, event: Event) -> list[StoredEvent]:
        await self._source.load(event.auth_events)
        found = []
        for event_id in event.auth_events:
            stored = self._source.find(event_id)
            if stored is None:
                raise CannotJudge(f"its auth event {event_id} is missing")
            found.append(stored)
        return found

    async def _before(self, event: Event) -> Moment:
        """The state before an event: that after its prev_events, resolved."""
        head = self._room.head
        if not event.prev_events:
            raise CannotJudge("it has no prev_events")
        if set(event.prev_events) == set(head.forward_extremities):
            return Moment(head.state, head.state_group, self._head_group())
        groups: list[int] = []
        told: list[State] = []
        for event_id in event.prev_events:
            stored = self._source.find(event_id)
            group = None if stored is None else group_after(stored)
            if group is not None:
                groups.append(group)
            elif event_id in self._told:
                told.append(self._told[event_id])
            else:
                raise CannotJudge(f"its prev event {event_id} is missing")
        return await self._resolved(await self._states(groups), told)

    async def _resolved(self, known: list[GroupState], told: list[State]) -> Moment:
        states = [*(group.state for group in known), *told]
        state = await self._resolver.resolve(self._connection, self._room, states)
        for group in known:
            if group.state is state:
                return Moment(state, group.state_group, group)
        return Moment(state, None, known[0] if known else self._head_group())

    async def _states(self, groups: Iterable[int]) -> list[GroupState]:
        wanted = set(groups)
        found = []
        head_group = self._head_group()
        if head_group.state_group in wanted:
            wanted.discard(head_group.state_group)
            found.append(head_group)
        if wanted:
            loaded = await self._group_states.get_many(self._connection, wanted)
            found.extend(loaded.values())
        return found

    def _head_group(self) -> GroupState:
        head = self._room.head
        return GroupState(head.state_group, head.state, head.size)

    async def _current(self, left: list[str], event: Event, after: State) -> State:
        """The room's state over the extremities that are left and the new event."""
        if not left:
            return after
        await self._source.load(left)
        groups = []
        for event_id in left:
            stored = self._source.find(event_id)
            group = None if stored is None else group_after(stored)
            if group is not None:
                groups.append(group)
        states = [group.state for group in await self._states(groups)]
        return await self._resolver.resolve(
            self._connection, self._room, [*states, after], coming=event
        )

    async def _flags(
        self, event: Event, auth: list[StoredEvent], before: State, current: State
    ) -> int:
        ids = auth_state_ids(event, before)
        try:
            # "4. Passes authorisation rules based on the event's auth events, otherwise it is
            # rejected."
            check_auth_events(event.rules, event, [stored.event for stored in auth])
            by_key = {stored.event.key: stored.event for stored in auth}
            create = await self._create(event)
            check_event(event.rules, event, {**create, **by_key})
            # "5. Passes authorisation rules based on the state before the event, otherwise it is
            # rejected."
            if {k: v for k, v in ids.items() if k != CREATE} != {
                k: e.event_id for k, e in by_key.items() if k != CREATE
            }:
                state = await self._source.auth_state(event, before)
                check_event(event.rules, event, self._with_members(state, auth))
        except Rejected as rejected:
            log.info("rejected", event_id=event.event_id, reason=rejected.reason)
            return Flag.REJECTED
        # "6. Passes authorisation rules based on the current state of the room, otherwise it is
        # soft failed."
        if not await self._is_recommended(event, current):
            log.info("soft-failed", event_id=event.event_id, reason="no policy server's signature")
            return Flag.SOFT_FAILED
        if current is before or auth_state_ids(event, current) == ids:
            return 0
        state = await self._source.auth_state(event, current)
        try:
            check_event(event.rules, event, self._with_members(state, auth))
        except Rejected as rejected:
            log.info("soft-failed", event_id=event.event_id, reason=rejected.reason)
            return Flag.SOFT_FAILED
        return 0

    def _with_members(
        self, state: dict[StateKey, Event], auth: Iterable[StoredEvent]
    ) -> dict[StateKey, Event]:
        if not self.believes_cited:
            return state
        cited = {s.event.key: s.event for s in auth if s.type == MEMBER and s.state_key is not None}
        return {**cited, **state}

    async def _is_recommended(self, event: Event, current: State) -> bool:
        """What the room's policy server says, by its signature."""
        policy_id = current.get(POLICY)
        if policy_id is None:
            return True
        await self._source.load([policy_id])
        policy = self._source.find(policy_id)
        if policy is None:
            return True
        server = policy_server_of(policy.content, self._room.joined_servers)
        return server is None or is_recommended(event, server)

    async def _create(self, event: Event) -> dict[StateKey, Event]:
        """The create event that the room id stands for."""
        event_id = create_id_of(event.rules, event.room_id)
        if event_id is None:
            return {}
        await self._source.load([event_id])
        create = self._source.find(event_id)
        return {} if create is None else {CREATE: create.event}

    async def _effect(self, event: Event, state: State) -> Effect | None:
        """What a redaction does; None for other events."""
        if event.type != REDACTION or event.redacts is None:
            return None
        ids = [state[key] for key in (CREATE, POWER_LEVELS) if key in state]
        await self._source.load([event.redacts, *ids])
        target = self._source.find(event.redacts)
        found = {s.event.key: s.event for s in map(self._source.find, ids) if s is not None}
        power = power_levels_of(event.rules, found[CREATE], found.get(POWER_LEVELS))
        return effect_of(event, target, power)
