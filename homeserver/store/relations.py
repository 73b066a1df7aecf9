"""Which events are related to which, by `m.relates_to`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class RelationRow(Struct, frozen=True):
    """A child event that stands in a room's timeline, and its parent."""

    number: int
    event_id: str
    room_number: int
    parent_id: str
    rel_type: str
    type: str
    sender: str
    key: str | None
    timeline_order: int
    origin_server_ts: int


class Eyes(Struct, frozen=True):
    """What of rooms somebody sees: timeline orders `first` to `last`, and whom they ignore."""

    user_id: str
    ignored: Sequence[str]
    rooms: list[int]
    firsts: list[int]
    lasts: list[int]


class Parent(Struct, frozen=True):
    """An event whose children are asked for."""

    event_id: str
    room_number: int
    sender: str
    type: str


class Children(Struct, frozen=True):
    """The children of one parent by one type: all references, the last of a thread, the newest
    edit. `by_user`: some of them are the asking user's own."""

    parent_id: str
    rel_type: str
    count: int
    by_user: bool
    event_ids: list[str]


class Asked(Struct, frozen=True):
    """A page of the children of an event, `after < timeline_order < before`."""

    parent_id: str
    room_number: int
    rel_type: str | None
    type: str | None
    hops: int
    after: int
    before: int
    limit: int
    backwards: bool


async def insert(connection: Connection, rows: Sequence[RelationRow]) -> None:
    """Write new relations."""
    await connection.execute(
        """
        INSERT INTO relations (number, event_id, room_number, parent_id, rel_type, type, sender,
                               key, timeline_order, origin_server_ts)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                             $6::text[], $7::text[], $8::text[], $9::bigint[], $10::bigint[])
        ON CONFLICT (number) DO NOTHING
        """,
        [r.number for r in rows],
        [r.event_id for r in rows],
        [r.room_number for r in rows],
        [r.parent_id for r in rows],
        [r.rel_type for r in rows],
        [r.type for r in rows],
        [r.sender for r in rows],
        [r.key for r in rows],
        [r.timeline_order for r in rows],
        [r.origin_server_ts for r in rows],
    )


async def delete(connection: Connection, event_ids: Iterable[str]) -> None:
    """Forget what these events, being redacted, said: "the relationship is broken"."""
    await connection.execute(
        """
        DELETE FROM relations USING events
        WHERE events.event_id = ANY($1::text[]) AND relations.number = events.number
        """,
        list(event_ids),
    )


_SEEN = """
JOIN unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS seen (room_number, first, last)
  ON seen.room_number = r.room_number AND r.timeline_order BETWEEN seen.first AND seen.last
"""


async def children(connection: Connection, parents: Sequence[Parent], eyes: Eyes) -> list[Children]:
    """What is bundled with these events for somebody: references, threads, the newest edits."""
    records = await connection.fetch(
        f"""
        WITH r AS (
            SELECT r.*, p.sender AS parent_sender, p.type AS parent_type
            FROM unnest($5::text[], $6::bigint[], $7::text[], $8::text[])
                AS p (event_id, room_number, sender, type)
            JOIN relations r ON r.parent_id = p.event_id AND r.room_number = p.room_number
            {_SEEN}
            WHERE r.sender <> ALL($9::text[])
        )
        SELECT parent_id, rel_type, count(*), bool_or(sender = $1),
               array_agg(event_id ORDER BY timeline_order)
        FROM r WHERE rel_type = 'm.reference' GROUP BY parent_id, rel_type
        UNION ALL
        SELECT parent_id, rel_type, count(*), bool_or(sender = $1),
               (array_agg(event_id ORDER BY timeline_order DESC))[1:1]
        FROM r WHERE rel_type = 'm.thread' GROUP BY parent_id, rel_type
        UNION ALL
        SELECT parent_id, rel_type, count(*), bool_or(sender = $1),
               (array_agg(event_id ORDER BY origin_server_ts DESC, event_id DESC))[1:1]
        FROM r WHERE rel_type = 'm.replace' AND sender = parent_sender AND type = parent_type
        GROUP BY parent_id, rel_type
        """,  # noqa: S608 - constants
        eyes.user_id,
        eyes.rooms,
        eyes.firsts,
        eyes.lasts,
        [p.event_id for p in parents],
        [p.room_number for p in parents],
        [p.sender for p in parents],
        [p.type for p in parents],
        list(eyes.ignored),
    )
    return [Children(r[0], r[1], r[2], r[3], r[4]) for r in records]


async def with_children(connection: Connection, event_ids: Iterable[str]) -> set[str]:
    """Which of these events have any child that can be bundled."""
    records = await connection.fetch(
        """
        SELECT DISTINCT parent_id FROM relations
        WHERE parent_id = ANY($1::text[]) AND rel_type IN ('m.replace', 'm.thread', 'm.reference')
        """,
        list(event_ids),
    )
    return {record[0] for record in records}


async def related(
    connection: Connection,
    event_ids: Iterable[str],
    rel_types: Sequence[str] | None,
    senders: Sequence[str] | None,
) -> set[str]:
    """Which of these events have a child of one of these types by one of these senders.

    None stands for any. client-server-api#filtering (`related_by_rel_types`, `related_by_senders`)
    """
    records = await connection.fetch(
        """
        SELECT DISTINCT parent_id FROM relations
        WHERE parent_id = ANY($1::text[])
          AND ($2::text[] IS NULL OR rel_type = ANY($2))
          AND ($3::text[] IS NULL OR sender = ANY($3))
        """,
        list(event_ids),
        rel_types,
        senders,
    )
    return {record[0] for record in records}


async def page(connection: Connection, asked: Asked, eyes: Eyes) -> list[tuple[str, int]]:
    """The children (event id, timeline order) of an event, and theirs in turn for `hops` levels.

    A child that the filter holds back hides what is related only to it.
    """
    direction = "DESC" if asked.backwards else "ASC"
    records = await connection.fetch(
        f"""
        WITH RECURSIVE tree AS (
            SELECT r.event_id, r.timeline_order, 1 AS hop FROM relations r {_SEEN}
            WHERE r.parent_id = $5 AND r.room_number = $6
              AND ($7::text IS NULL OR r.rel_type = $7) AND ($8::text IS NULL OR r.type = $8)
              AND r.sender <> ALL($1::text[])
            UNION
            SELECT r.event_id, r.timeline_order, tree.hop + 1
            FROM tree JOIN relations r ON r.parent_id = tree.event_id {_SEEN}
            WHERE tree.hop < $9 AND r.room_number = $6
              AND ($7::text IS NULL OR r.rel_type = $7) AND ($8::text IS NULL OR r.type = $8)
              AND r.sender <> ALL($1::text[])
        )
        SELECT DISTINCT event_id, timeline_order FROM tree
        WHERE timeline_order > $10 AND timeline_order < $11
        ORDER BY timeline_order {direction} LIMIT $12
        """,  # noqa: S608 - constants
        list(eyes.ignored),
        eyes.rooms,
        eyes.firsts,
        eyes.lasts,
        asked.parent_id,
        asked.room_number,
        asked.rel_type,
        asked.type,
        asked.hops,
        asked.after,
        asked.before,
        asked.limit,
    )
    return [(r[0], r[1]) for r in records]


async def is_thread_root(connection: Connection, room_number: int, event_id: str) -> bool:
    """Whether an event of the room is in a thread that begins with this event."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM relations
                       WHERE parent_id = $2 AND rel_type = 'm.thread' AND room_number = $1)
        """,
        room_number,
        event_id,
    )
    return found


async def threads(
    connection: Connection, eyes: Eyes, *, participated: bool, before: int, limit: int
) -> list[tuple[str, int]]:
    """Thread roots (event ids) of one room with the order of their newest event, newest first."""
    records = await connection.fetch(
        f"""
        WITH threads AS (
            SELECT r.parent_id, max(r.timeline_order) AS latest, bool_or(r.sender = $1) AS by_user
            FROM relations r {_SEEN}
            WHERE r.room_number = $5 AND r.rel_type = 'm.thread' AND r.sender <> ALL($6::text[])
            GROUP BY r.parent_id
        )
        SELECT parent_id, latest FROM threads
        JOIN events root ON root.event_id = parent_id AND root.room_number = $5
        WHERE latest < $7 AND (NOT $8 OR by_user OR root.sender = $1)
        ORDER BY latest DESC LIMIT $9
        """,  # noqa: S608 - constants
        eyes.user_id,
        eyes.rooms,
        eyes.firsts,
        eyes.lasts,
        eyes.rooms[0] if eyes.rooms else 0,
        list(eyes.ignored),
        before,
        participated,
        limit,
    )
    return [(r[0], r[1]) for r in records]


async def has_annotated(
    connection: Connection, parent_id: str, sender: str, event_type: str, key: str
) -> bool:
    """Whether a user's annotation of this type and key already stands at an event."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM relations
            WHERE parent_id = $1 AND sender = $2 AND type = $3 AND key = $4
              AND rel_type = 'm.annotation'
        )
        """,
        parent_id,
        sender,
        event_type,
        key,
    )
    return found


async def newest_edits(connection: Connection, parents: Sequence[Parent]) -> dict[str, str]:
    """For each of these events that was edited by its sender, the newest edit (event ids)."""
    records = await connection.fetch(
        """
        SELECT DISTINCT ON (r.parent_id) r.parent_id, r.event_id
        FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[])
            AS p (event_id, room_number, sender, type)
        JOIN relations r ON r.parent_id = p.event_id AND r.room_number = p.room_number
         AND r.rel_type = 'm.replace' AND r.sender = p.sender AND r.type = p.type
        ORDER BY r.parent_id, r.origin_server_ts DESC, r.event_id DESC
        """,
        [p.event_id for p in parents],
        [p.room_number for p in parents],
        [p.sender for p in parents],
        [p.type for p in parents],
    )
    return {record[0]: record[1] for record in records}
