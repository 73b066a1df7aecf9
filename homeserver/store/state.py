"""State groups: a room's state at one moment as one row, a snapshot or a delta on another group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import text_array_literal

StateKey = tuple[str, str]


class StateGroupRow(Struct, frozen=True):
    """A new state group. `event_numbers` of a snapshot may be given as event ids instead."""

    state_group: int
    room_number: int
    base: int | None
    event_numbers: tuple[int, ...]
    event_ids: tuple[str, ...]
    snapshot_size: int
    delta_size: int
    current_from: int | None


class StateEntry(Struct, frozen=True):
    """One entry of a state: the event (by id and number) that stands at a key."""

    key: StateKey
    event_id: str
    number: int


class GroupSize(Struct, frozen=True):
    """How long the chain under a state group is."""

    snapshot_size: int
    delta_size: int


class CompletedGroup(Struct, frozen=True):
    """A snapshot that was written before all of its state was known: what it is to hold.

    `upon` are the groups that stand on it, itself among them.
    """

    state_group: int
    event_ids: tuple[str, ...]
    upon: tuple[int, ...]


async def insert(connection: Connection, rows: Sequence[StateGroupRow]) -> None:
    """Write new groups. Events that a snapshot names must already be in the transaction."""
    await connection.execute(
        """
        INSERT INTO state_groups (state_group, room_number, base, event_numbers, snapshot_size,
                                  delta_size, current_from)
        SELECT state_group, room_number, base,
               event_numbers::bigint[]
                   || ARRAY(SELECT number FROM events WHERE event_id = ANY(event_ids::text[])),
               snapshot_size, delta_size, current_from
        FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[],
                    $6::integer[], $7::integer[], $8::bigint[])
          AS t (state_group, room_number, base, event_numbers, event_ids, snapshot_size,
                delta_size, current_from)
        """,
        [r.state_group for r in rows],
        [r.room_number for r in rows],
        [r.base for r in rows],
        ["{" + ",".join(map(str, r.event_numbers)) + "}" for r in rows],
        [text_array_literal(r.event_ids) for r in rows],
        [r.snapshot_size for r in rows],
        [r.delta_size for r in rows],
        [r.current_from for r in rows],
    )


async def load(
    connection: Connection, state_groups: Iterable[int]
) -> dict[int, dict[StateKey, StateEntry]]:
    """The whole states of these groups, in one query."""
    wanted = list(set(state_groups))
    records = await connection.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT state_group AS wanted, base, event_numbers, 0 AS step
            FROM state_groups WHERE state_group = ANY($1::bigint[])
            UNION ALL
            SELECT chain.wanted, g.base, g.event_numbers, chain.step + 1
            FROM chain JOIN state_groups g ON g.state_group = chain.base
        ), entries AS (
            SELECT wanted, step, unnest(event_numbers) AS number FROM chain
        )
        SELECT entries.wanted, e.type, e.state_key, e.event_id, e.number
        FROM entries JOIN events e ON e.number = entries.number
        ORDER BY entries.step DESC
        """,
        wanted,
    )
    states: dict[int, dict[StateKey, StateEntry]] = {group: {} for group in wanted}
    for group, type_, state_key, event_id, number in records:
        key = (type_, state_key)
        states[group][key] = StateEntry(key, event_id, number)
    return states


async def current_at(
    connection: Connection, moments: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """The group that was current in each (room number, stream position), where there was one."""
    wanted = list(moments)
    records = await connection.fetch(
        """
        SELECT m.room_number, m.position, g.state_group
        FROM unnest($1::bigint[], $2::bigint[]) AS m (room_number, position)
        CROSS JOIN LATERAL (
            SELECT state_group FROM state_groups
            WHERE state_groups.room_number = m.room_number AND current_from <= m.position
            ORDER BY current_from DESC LIMIT 1
        ) AS g
        """,
        [room_number for room_number, _ in wanted],
        [position for _, position in wanted],
    )
    return {(r[0], r[1]): r[2] for r in records}


async def sizes(connection: Connection, state_groups: Iterable[int]) -> dict[int, GroupSize]:
    """How long the chains under these groups are."""
    records = await connection.fetch(
        """
        SELECT state_group, snapshot_size, delta_size FROM state_groups
        WHERE state_group = ANY($1::bigint[])
        """,
        list(state_groups),
    )
    return {record[0]: GroupSize(record[1], record[2]) for record in records}


async def of_room_from(
    connection: Connection, room_number: int, first: tuple[int, int]
) -> dict[int, int]:
    """A room's groups from a snapshot on, each with the snapshot under it.

    `first` are that snapshot and the group upon it. Groups that stand on an older one are left out.
    """
    records = await connection.fetch(
        """
        SELECT state_group, base FROM state_groups
        WHERE (state_group >= $2 OR state_group = $3) AND room_number = $1
        """,
        room_number,
        *first,
    )
    bases: dict[int, int | None] = {record[0]: record[1] for record in records}
    snapshots: dict[int, int] = {}
    for group in bases:
        bottom = group
        while (base := bases.get(bottom)) is not None:
            bottom = base
        if bottom in bases:
            snapshots[group] = bottom
    return snapshots


async def complete(connection: Connection, groups: Sequence[CompletedGroup]) -> None:
    """Put these snapshots right, and what the groups upon them say of their size."""
    for group in groups:
        await connection.execute(
            """
            UPDATE state_groups
            SET event_numbers = ARRAY(SELECT number FROM events WHERE event_id = ANY($2::text[]))
            WHERE state_group = $1
            """,
            group.state_group,
            list(group.event_ids),
        )
    sized = [(upon, len(group.event_ids)) for group in groups for upon in group.upon]
    await connection.execute(
        """
        UPDATE state_groups SET snapshot_size = t.size
        FROM unnest($1::bigint[], $2::integer[]) AS t (state_group, size)
        WHERE state_groups.state_group = t.state_group
        """,
        [state_group for state_group, _ in sized],
        [size for _, size in sized],
    )


async def take_back(connection: Connection, room_number: int, state_groups: Iterable[int]) -> None:
    """These groups of a room never were: the events that made them are judged anew."""
    await connection.execute(
        "DELETE FROM state_groups WHERE room_number = $1 AND state_group = ANY($2::bigint[])",
        room_number,
        list(state_groups),
    )
