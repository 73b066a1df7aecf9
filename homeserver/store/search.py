"""Which events hold which words.

Rules of this file: terms are made by `protocol.search_terms`; here they are only compared. The room
is one more term, so that the index narrows a search to the rooms it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from homeserver.store.database import Connection

SEARCHED_TYPES = ("m.room.message", "m.room.name", "m.room.topic")


class SearchRow(Struct, frozen=True):
    """An event that can be found."""

    number: int
    room_number: int
    key: str
    sender: str
    timeline_order: int
    origin_server_ts: int
    terms: frozenset[str]


class Place(Struct, frozen=True):
    """A hit's place in the order of what is found."""

    rank: float
    origin_server_ts: int
    number: int


class Search(Struct, frozen=True):
    """What is searched for, in what stretches (`first` to `last`) of which rooms; only what comes
    after `beyond`, if that is set."""

    terms: Mapping[str, bool]
    keys: list[str]
    rooms: list[int]
    firsts: list[int]
    lasts: list[int]
    senders: list[str] | None
    not_senders: list[str]
    recent_first: bool
    beyond: Place | None
    limit: int


class Hit(Struct, frozen=True):
    """An event that was found. `total`: how many there are."""

    event_id: str
    room_number: int
    sender: str
    place: Place
    total: int


async def put(connection: Connection, rows: Sequence[SearchRow]) -> None:
    """Set what these events are found by; they must not be there (`delete`)."""
    await connection.execute(
        """
        INSERT INTO searchable (number, room_number, key, sender, timeline_order, origin_server_ts,
                                terms)
        SELECT number, room_number, key, sender, timeline_order, origin_server_ts, terms::tsvector
        FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[],
                    $6::bigint[], $7::text[])
          AS t (number, room_number, key, sender, timeline_order, origin_server_ts, terms)
        """,
        [r.number for r in rows],
        [r.room_number for r in rows],
        [r.key for r in rows],
        [r.sender for r in rows],
        [r.timeline_order for r in rows],
        [r.origin_server_ts for r in rows],
        [_vector(r) for r in rows],
    )


def _vector(row: SearchRow) -> str:
    # Terms are letters and digits: nothing in them has to be escaped.
    return " ".join(f"'{term}'" for term in (*row.terms, f"!{row.room_number}"))


async def delete(connection: Connection, numbers: Iterable[int]) -> None:
    """These events can be found no more."""
    await connection.execute(
        "DELETE FROM searchable WHERE number = ANY($1::bigint[])", list(numbers)
    )


class NewEvent(Struct, frozen=True, gc=False):
    """What the index needs of an event: a part of its row. `position` is where the log has it."""

    position: int
    number: int
    room_number: int
    timeline_order: int | None
    event_id: str
    type: str
    sender: str
    origin_server_ts: int
    redacted_by: int | None
    json: bytes


_NEW = (
    "position, number, room_number, timeline_order, event_id, type, sender, origin_server_ts, "
    "redacted_by, json"
)


async def events(connection: Connection, event_ids: Iterable[str]) -> list[NewEvent]:
    """These events, as far as we have them."""
    records = await connection.fetch(
        f"SELECT number AS {_NEW} FROM events WHERE event_id = ANY($1::text[])",  # noqa: S608 - constant
        list(event_ids),
    )
    return [NewEvent(*record) for record in records]


async def news(connection: Connection, after: int, upto: int, limit: int) -> list[NewEvent]:
    """The next events of timelines, by position, that are searched or change what can be found."""
    records = await connection.fetch(
        f"""
        SELECT {_NEW} FROM event_log
        WHERE position > $1 AND position <= $2 AND timeline_order IS NOT NULL
          AND type = ANY($3::text[])
        ORDER BY position LIMIT $4
        """,  # noqa: S608 - constants
        after,
        upto,
        [*SEARCHED_TYPES, "m.room.redaction"],
        limit,
    )
    return [NewEvent(*record) for record in records]


async def search(connection: Connection, wanted: Search) -> list[Hit]:
    """A page of what is found."""
    order, last = "(rank, origin_server_ts, number)", "($12::real, $10::bigint, $11::bigint)"
    if wanted.recent_first:
        order, last = "(origin_server_ts, number, rank)", "($10::bigint, $11::bigint, $12::real)"
    beyond = wanted.beyond or Place(0.0, 0, 0)
    records = await connection.fetch(
        f"""
        SELECT (SELECT event_id FROM events e WHERE e.number = found.number), room_number, sender,
               rank, origin_server_ts, number, total
        FROM (
            SELECT s.*, ts_rank(s.terms, $1::tsquery, 1) AS rank, count(*) OVER () AS total
            FROM searchable s
            JOIN unnest($3::bigint[], $4::bigint[], $5::bigint[])
                AS seen (room_number, first, last)
              ON seen.room_number = s.room_number
             AND s.timeline_order BETWEEN seen.first AND seen.last
            WHERE s.terms @@ ($1::tsquery && $2::tsquery)
              AND s.key = ANY($6::text[])
              AND ($7::text[] IS NULL OR s.sender = ANY($7)) AND s.sender <> ALL($8::text[])
        ) AS found
        WHERE NOT $13::boolean OR {order} < {last}
        ORDER BY {order} DESC LIMIT $9
        """,  # noqa: S608 - constants
        " & ".join(f"'{term}'{':*' if begins else ''}" for term, begins in wanted.terms.items()),
        " | ".join(f"'!{number}'" for number in dict.fromkeys(wanted.rooms)),
        wanted.rooms,
        wanted.firsts,
        wanted.lasts,
        wanted.keys,
        wanted.senders,
        wanted.not_senders,
        wanted.limit,
        beyond.origin_server_ts,
        beyond.number,
        beyond.rank,
        wanted.beyond is not None,
    )
    return [Hit(r[0], r[1], r[2], Place(r[3], r[4], r[5]), r[6]) for r in records]
