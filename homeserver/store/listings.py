"""Rooms as the directory and summaries show them; the table `published_rooms`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from homeserver.store.database import Connection
from homeserver.store.room_facts import COLUMNS, RoomFacts


class Listing(Struct, frozen=True):
    """A room that somebody on this server knows."""

    room_id: str
    version: str
    joined_members: int
    facts: RoomFacts


class Place(Struct, frozen=True):
    """A room's place in the directory: the most joined members first, then the newest room."""

    joined_members: int
    room_number: int


class Search(Struct, frozen=True):
    """What of the directory is wanted; None: whatever it is.

    `room_types` may hold None for rooms without a type. `only_federated`: for another server.
    `network` is '' for the server's own list.
    """

    term: str | None = None
    room_types: Sequence[str | None] | None = None
    only_federated: bool = False
    network: str | None = ""


_ROOM = f"r.room_id, r.version, r.joined_members, f.room_number, {COLUMNS}"
_MATCHES = """
    r.joined_members > 0
    AND ($1::text IS NULL OR f.name ILIKE $1 OR f.topic ILIKE $1 OR f.canonical_alias ILIKE $1)
    AND ($2::text[] IS NULL OR f.room_type = ANY($2) OR (f.room_type IS NULL AND $3))
    AND (f.is_federated OR NOT $4)
"""
_PUBLISHED = """
    (SELECT DISTINCT room_number FROM published_rooms WHERE $5::text IS NULL OR network = $5) p
    JOIN rooms r USING (room_number) JOIN room_facts f USING (room_number)
"""


async def publish(connection: Connection, room_numbers: Sequence[int], network: str = "") -> None:
    """List rooms in the directory, or in that of a network."""
    await connection.execute(
        """
        INSERT INTO published_rooms (room_number, network)
        SELECT number, $2 FROM unnest($1::bigint[]) AS n (number) ON CONFLICT DO NOTHING
        """,
        list(room_numbers),
        network,
    )


async def unpublish(connection: Connection, room_number: int, network: str = "") -> None:
    """Take a room out of the directory, or out of that of a network."""
    await connection.execute(
        "DELETE FROM published_rooms WHERE room_number = $1 AND network = $2",
        room_number,
        network,
    )


async def is_published(connection: Connection, room_number: int) -> bool:
    """Whether the directory lists the room."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM published_rooms WHERE room_number = $1 AND network = '')",
        room_number,
    )
    return found


async def page(
    connection: Connection, search: Search, after: Place | None, limit: int
) -> list[Listing]:
    """The published rooms that follow a place, in order."""
    records = await connection.fetch(
        f"""
        SELECT {_ROOM} FROM {_PUBLISHED}
        WHERE {_MATCHES}
          AND ($6::bigint IS NULL OR (r.joined_members, r.room_number) < ($6, $7::bigint))
        ORDER BY r.joined_members DESC, r.room_number DESC LIMIT $8
        """,  # noqa: S608 - constants
        *_arguments(search),
        *_place(after),
        limit,
    )
    return [_listing(record) for record in records]


async def page_before(
    connection: Connection, search: Search, before: Place, limit: int
) -> list[Listing]:
    """The published rooms that stand just before a place, the nearest first."""
    records = await connection.fetch(
        f"""
        SELECT {_ROOM} FROM {_PUBLISHED}
        WHERE {_MATCHES} AND (r.joined_members, r.room_number) > ($6::bigint, $7::bigint)
        ORDER BY r.joined_members, r.room_number LIMIT $8
        """,  # noqa: S608 - constants
        *_arguments(search),
        *_place(before),
        limit,
    )
    return [_listing(record) for record in records]


async def count(connection: Connection, search: Search) -> int:
    """How many published rooms there are for a search."""
    found: int = await connection.fetchval(
        f"SELECT count(*) FROM {_PUBLISHED} WHERE {_MATCHES}",  # noqa: S608 - constants
        *_arguments(search),
    )
    return found


async def by_ids(connection: Connection, room_ids: Iterable[str]) -> dict[str, Listing]:
    """Those of these rooms whose state we have, published or not."""
    records = await connection.fetch(
        f"""
        SELECT {_ROOM} FROM rooms r JOIN room_facts f USING (room_number)
        WHERE r.room_id = ANY($1::text[])
        """,  # noqa: S608 - constants
        list(room_ids),
    )
    return {record[0]: _listing(record) for record in records}


def _arguments(search: Search) -> tuple[object, ...]:
    types = search.room_types
    return (
        None if search.term is None else f"%{_literally(search.term)}%",
        None if types is None else [name for name in types if name is not None],
        types is not None and None in types,
        search.only_federated,
        search.network,
    )


def _literally(text: str) -> str:
    """Without a special meaning in LIKE."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")


def _place(place: Place | None) -> tuple[int | None, int | None]:
    return (None, None) if place is None else (place.joined_members, place.room_number)


def _listing(record: Iterable[Any]) -> Listing:
    room_id, version, joined, *facts = record
    return Listing(room_id, version, joined, RoomFacts(*facts))
