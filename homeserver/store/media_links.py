"""Which events carry which media: the tables `media_links` and `media_links_position`."""

from __future__ import annotations

from msgspec import Struct

from homeserver.protocol.mxc import Mxc
from homeserver.store.database import Connection

_SCHEME = b"mxc://"


class Seen(Struct, frozen=True):
    """An event that may carry media, or a redaction. `json` is the PDU."""

    position: int
    event_id: str
    type: str
    sender: str
    is_redacted: bool
    json: bytes


class Link(Struct, frozen=True):
    """`sender` is that of the event."""

    event_id: str
    mxc: Mxc
    sender: str


async def position(connection: Connection) -> int:
    """Up to where events were looked through."""
    found: int = await connection.fetchval("SELECT position FROM media_links_position")
    return found


async def move(connection: Connection, to: int) -> None:
    await connection.execute("UPDATE media_links_position SET position = $1", to)


async def events_between(connection: Connection, after: int, upto: int, limit: int) -> list[Seen]:
    """Events with a content URI somewhere, and redactions, in the order of their arrival."""
    rows = await connection.fetch(
        """
        SELECT position, event_id, type, sender, redacted_by IS NOT NULL AS is_redacted, json
        FROM event_log
        WHERE position > $1 AND position <= $2 AND timeline_order IS NOT NULL
          AND (type = 'm.room.redaction' OR position($3::bytea IN json) > 0)
        ORDER BY position LIMIT $4
        """,
        after,
        upto,
        _SCHEME,
        limit,
    )
    return [Seen(**row) for row in rows]


async def redacted_among(connection: Connection, event_ids: list[str]) -> list[str]:
    """Those of the events whose redaction took effect."""
    rows = await connection.fetch(
        "SELECT event_id FROM events WHERE event_id = ANY($1) AND redacted_by IS NOT NULL",
        event_ids,
    )
    return [row["event_id"] for row in rows]


async def insert(connection: Connection, links: list[Link]) -> None:
    await connection.execute(
        """
        INSERT INTO media_links (event_id, server_name, media_id, sender)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
        ON CONFLICT DO NOTHING
        """,
        [link.event_id for link in links],
        [link.mxc.server_name for link in links],
        [link.mxc.media_id for link in links],
        [link.sender for link in links],
    )


async def delete(connection: Connection, event_ids: list[str]) -> list[Link]:
    """Forget the links of redacted events; gives them."""
    rows = await connection.fetch(
        """
        DELETE FROM media_links WHERE event_id = ANY($1)
        RETURNING event_id, server_name, media_id, sender
        """,
        event_ids,
    )
    return [Link(row[0], Mxc(row[1], row[2]), row[3]) for row in rows]


async def of_room(connection: Connection, room_id: str) -> list[Mxc]:
    """The media of a room's (unencrypted) events."""
    rows = await connection.fetch(
        """
        SELECT DISTINCT l.server_name, l.media_id
        FROM rooms r JOIN events e USING (room_number) JOIN media_links l USING (event_id)
        WHERE r.room_id = $1
        """,
        room_id,
    )
    return [Mxc(**row) for row in rows]


async def deletable(connection: Connection, links: list[Link], ours: str) -> list[Mxc]:
    """Of media whose links are gone, those that may go too.

    No other event carries them; they are copies of another server's, or uploads of the redacted
    event's own sender (so nobody deletes what is somebody else's by redacting a mention of it)
    who doesn't use them as avatar.
    """
    rows = await connection.fetch(
        """
        SELECT DISTINCT m.server_name, m.media_id
        FROM unnest($1::text[], $2::text[], $3::text[]) AS l (server_name, media_id, sender)
        JOIN media m USING (server_name, media_id)
        JOIN media_files f USING (sha256)
        WHERE f.quarantined_by IS NULL AND NOT f.is_protected
          AND (m.server_name <> $4 OR m.user_id = l.sender)
          AND NOT EXISTS (SELECT 1 FROM media_links o
                          WHERE o.server_name = m.server_name AND o.media_id = m.media_id)
          AND NOT EXISTS (SELECT 1 FROM profiles p
                          WHERE p.user_id = m.user_id AND p.key = 'avatar_url'
                            AND p.value = convert_to(
                                '"mxc://' || m.server_name || '/' || m.media_id || '"', 'UTF8'))
        """,
        [link.mxc.server_name for link in links],
        [link.mxc.media_id for link in links],
        [link.sender for link in links],
        ours,
    )
    return [Mxc(**row) for row in rows]
