"""How a changed state becomes a state group: a delta, or a snapshot once deltas add up to one."""

from __future__ import annotations

from homeserver.store.state import GroupSize, StateGroupRow
from homeserver.stream.live_room import Head, State

EMPTY = GroupSize(0, 0)


def next_group(
    head: Head, room_number: int, event_number: int, state: State
) -> tuple[StateGroupRow, GroupSize]:
    """The group after a state event that changes one key of the head's state.

    It bears the event's number and is the room's current state from there on. `state` is the state
    with the change.
    """
    size = head.size
    if size.delta_size + 1 > size.snapshot_size:
        return snapshot(event_number, room_number, state, current_from=event_number)
    group = StateGroupRow(
        state_group=event_number,
        room_number=room_number,
        base=head.state_group,
        event_numbers=(event_number,),
        event_ids=(),
        snapshot_size=size.snapshot_size,
        delta_size=size.delta_size + 1,
        current_from=event_number,
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
