"""How a changed state becomes a state group: a delta, or a snapshot once deltas add up to one."""

from __future__ import annotations

from homeserver.store.state import GroupSize, StateGroupRow
from homeserver.stream.group_states import GroupState
from homeserver.stream.live_room import Head, State, state_difference


def next_group(
    head: Head, room_number: int, event_number: int, state: State
) -> tuple[StateGroupRow, GroupSize]:
    """The group after a state event that changes one key of the head's state.

    It bears the event's number and is the room's current state from there on. `state` is the state
    with the change.
    """
    base = GroupState(head.state_group, head.state, head.size)
    return group_of_event(base, room_number, event_number, state, current_from=event_number)


def group_of_event(
    base: GroupState,
    room_number: int,
    event_number: int,
    state: State,
    *,
    current_from: int | None,
) -> tuple[StateGroupRow, GroupSize]:
    """The group after a state event: `base` with one key changed, which makes it `state`."""
    size = base.size
    if size.delta_size + 1 > size.snapshot_size:
        return snapshot(event_number, room_number, state, current_from=current_from)
    group = StateGroupRow(
        state_group=event_number,
        room_number=room_number,
        base=base.state_group,
        event_numbers=(event_number,),
        event_ids=(),
        snapshot_size=size.snapshot_size,
        delta_size=size.delta_size + 1,
        current_from=current_from,
    )
    return group, GroupSize(size.snapshot_size, size.delta_size + 1)


def snapshot(
    state_group: int, room_number: int, state: State, *, current_from: int | None
) -> tuple[StateGroupRow, GroupSize]:
    """A group that stands on its own."""
    group = StateGroupRow(
        state_group=state_group,
        room_number=room_number,
        base=None,
        event_numbers=(),
        event_ids=tuple(state.values()),
        snapshot_size=len(state),
        delta_size=0,
        current_from=current_from,
    )
    return group, GroupSize(len(state), 0)


def alias(
    state_group: int, room_number: int, base: int, size: GroupSize, current_from: int
) -> StateGroupRow:
    """A group that is equal to another one, and is the room's current state from a position on."""
    return StateGroupRow(
        state_group=state_group,
        room_number=room_number,
        base=base,
        event_numbers=(),
        event_ids=(),
        snapshot_size=size.snapshot_size,
        delta_size=size.delta_size,
        current_from=current_from,
    )


def resolved_group(
    base: GroupState, room_number: int, state_group: int, state: State, *, current_from: int | None
) -> tuple[StateGroupRow, GroupSize]:
    """A group for a state that resembles another group's: a delta where that says it shorter."""
    changes = state_difference(base.state, state)
    added = tuple(change.new for change in changes if change.new is not None)
    delta_size = base.size.delta_size + len(added)
    if len(added) < len(changes) or delta_size > base.size.snapshot_size:
        return snapshot(state_group, room_number, state, current_from=current_from)
    group = StateGroupRow(
        state_group=state_group,
        room_number=room_number,
        base=base.state_group,
        event_numbers=(),
        event_ids=added,
        snapshot_size=base.size.snapshot_size,
        delta_size=delta_size,
        current_from=current_from,
    )
    return group, GroupSize(base.size.snapshot_size, delta_size)
