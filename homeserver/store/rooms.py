"""Rooms and who is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.events import HeadRow
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.state import GroupSize


class RoomRow(Struct, frozen=True):
    room_number: int
    room_id: str
    version: str


class MembershipRow(Struct, frozen=True):
    """A user's newest membership of a room. Positions are stream positions."""

    room_number: int
    user_id: str
    membership: str
    event_id: str
    sender: str
    position: int
    joined_from: int | None
    is_local: bool
    forgotten: bool = False
    display_name: str | None = None
    avatar_url: str | None = None
    stripped_state: bytes | None = None

    @property
    def is_left(self) -> bool:
        """Left, kicked or banned."""
        return self.membership in ("leave", "ban")


async def insert(connection: Connection, rows: Sequence[RoomRow]) -> None:
    """Write new rooms."""
    await connection.execute(
        """
        INSERT INTO rooms (room_number, room_id, version)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
        ON CONFLICT (room_id) DO NOTHING
        """,
        [r.room_number for r in rows],
        [r.room_id for r in rows],
        [r.version for r in rows],
    )


async def by_ids(connection: Connection, room_ids: Iterable[str]) -> list[RoomRow]:
    """The rooms among `room_ids` that we know."""
    records = await connection.fetch(
        "SELECT room_number, room_id, version FROM rooms WHERE room_id = ANY($1::text[])",
        list(room_ids),
    )
    return [RoomRow(*record) for record in records]


class LoadedHead(Struct, frozen=True):
    """A room with what its next event builds on. `entry`: did we enter with a part of its state?"""

    room: RoomRow
    head: HeadRow
    size: GroupSize
    entry: PartialRow | None = None


async def heads_by_ids(connection: Connection, room_ids: Iterable[str]) -> list[LoadedHead]:
    """The rooms among `room_ids` whose state we have."""
    records = await connection.fetch(
        """
        SELECT r.room_number, r.room_id, r.version, h.forward_extremities, h.depth, h.state_group,
               h.last_position, g.snapshot_size, g.delta_size,
               p.join_event_id, p.state_group, p.servers, p.complete_from, p.corrected
        FROM rooms r
        JOIN room_heads h ON h.room_number = r.room_number
        JOIN state_groups g ON g.state_group = h.state_group
        LEFT JOIN partial_rooms p ON p.room_number = r.room_number
        WHERE r.room_id = ANY($1::text[])
        """,
        list(room_ids),
    )
    return [
        LoadedHead(
            RoomRow(r[0], r[1], r[2]),
            HeadRow(r[0], tuple(r[3]), r[4], r[5], r[6]),
            GroupSize(r[7], r[8]),
            None if r[9] is None else PartialRow(r[0], r[9], r[10], tuple(r[11]), r[12], r[13]),
        )
        for r in records
    ]


async def by_numbers(connection: Connection, room_numbers: Iterable[int]) -> list[RoomRow]:
    """The rooms with these numbers."""
    records = await connection.fetch(
        "SELECT room_number, room_id, version FROM rooms WHERE room_number = ANY($1::bigint[])",
        list(room_numbers),
    )
    return [RoomRow(*record) for record in records]


async def put_memberships(connection: Connection, rows: Sequence[MembershipRow]) -> None:
    """Set the memberships of (room, user) pairs, unless they have newer ones.

    Who forgets a room while an invite to it is on its way writes an older row than the invite's.
    """
    newest = {(r.room_number, r.user_id): r for r in sorted(rows, key=lambda row: row.position)}
    unique = list(newest.values())
    await connection.execute(
        """
        WITH steps AS (
            -- `joined_members` follows; what the statement itself writes is not seen here.
            SELECT new.room_number, sum((new.membership = 'join')::int)
                   - sum(coalesce((old.membership = 'join')::int, 0)) AS step
            FROM unnest($1::bigint[], $2::text[], $3::text[], $6::bigint[])
                 AS new (room_number, user_id, membership, position)
            LEFT JOIN memberships old USING (room_number, user_id)
            WHERE old.position IS NULL OR old.position <= new.position
            GROUP BY new.room_number
        ), counted AS (
            UPDATE rooms SET joined_members = joined_members + step
            FROM steps WHERE rooms.room_number = steps.room_number AND step <> 0
        )
        INSERT INTO memberships (room_number, user_id, membership, event_id, sender, position,
                                 joined_from, is_local, forgotten, display_name, avatar_url,
                                 stripped_state)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[],
                             $6::bigint[], $7::bigint[], $8::boolean[], $9::boolean[], $10::text[],
                             $11::text[], $12::bytea[])
        ON CONFLICT (room_number, user_id) DO UPDATE
        SET membership = excluded.membership, event_id = excluded.event_id,
            sender = excluded.sender, position = excluded.position,
            joined_from = excluded.joined_from, is_local = excluded.is_local,
            forgotten = excluded.forgotten, display_name = excluded.display_name,
            avatar_url = excluded.avatar_url, stripped_state = excluded.stripped_state
        WHERE memberships.position <= excluded.position
        """,
        [r.room_number for r in unique],
        [r.user_id for r in unique],
        [r.membership for r in unique],
        [r.event_id for r in unique],
        [r.sender for r in unique],
        [r.position for r in unique],
        [r.joined_from for r in unique],
        [r.is_local for r in unique],
        [r.forgotten for r in unique],
        [r.display_name for r in unique],
        [r.avatar_url for r in unique],
        [r.stripped_state for r in unique],
    )


_MEMBERSHIP_COLUMNS = (
    "room_number, user_id, membership, event_id, sender, position, joined_from, is_local, "
    "forgotten, display_name, avatar_url, stripped_state"
)


async def memberships_of_user(
    connection: Connection, user_id: str
) -> list[tuple[str, MembershipRow]]:
    """All rooms (ids) that a local user ever was in, invited to or knocked on."""
    records = await connection.fetch(
        f"""
        SELECT room_id, {_MEMBERSHIP_COLUMNS} FROM memberships JOIN rooms USING (room_number)
        WHERE user_id = $1 AND is_local
        """,  # noqa: S608
        user_id,
    )
    return [(record[0], MembershipRow(*record[1:])) for record in records]


async def memberships_of_rooms(
    connection: Connection, room_numbers: Sequence[int]
) -> list[MembershipRow]:
    """Everybody in these rooms, whatever their membership."""
    records = await connection.fetch(
        f"SELECT {_MEMBERSHIP_COLUMNS} FROM memberships WHERE room_number = ANY($1::bigint[])",  # noqa: S608
        list(room_numbers),
    )
    return [MembershipRow(*record) for record in records]


async def membership_of_user(
    connection: Connection, room_id: str, user_id: str
) -> tuple[RoomRow, MembershipRow] | None:
    """A user's membership of a room, whether or not we have its state."""
    record = await connection.fetchrow(
        f"""
        SELECT room_id, version, {_MEMBERSHIP_COLUMNS}
        FROM memberships JOIN rooms USING (room_number)
        WHERE room_id = $1 AND user_id = $2
        """,  # noqa: S608
        room_id,
        user_id,
    )
    if record is None:
        return None
    row = MembershipRow(*record[2:])
    return RoomRow(row.room_number, record[0], record[1]), row
