"""People by the rooms they are in; only read, from memberships."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection


class Person(Struct, frozen=True):
    """A user as one of their rooms shows them."""

    user_id: str
    display_name: str | None
    avatar_url: str | None
    is_local: bool


async def search(
    connection: Connection, user_id: str, words: Sequence[str], limit: int
) -> list[Person]:
    """Users whose id or name holds all these words, as far as the searching user may see them.

    "users that share a room with the requesting user; users who are joined to rooms [...] that
    have a `public` join rule; [...] a `world_readable` history visibility". Best matches first.
    The searching user is in the list as others see them: not for a private room of their own.
    """
    records = await connection.fetch(
        """
        WITH visible AS (
            SELECT room_number, false AS is_public FROM memberships
            WHERE user_id = $1 AND membership = 'join'
            UNION ALL
            SELECT room_number, true FROM room_facts
            WHERE join_rule = 'public' OR history_visibility = 'world_readable'
        ), found AS (
            SELECT DISTINCT ON (m.user_id) m.user_id, m.display_name, m.avatar_url, m.is_local
            FROM memberships m JOIN visible USING (room_number)
            WHERE m.membership = 'join' AND (m.user_id <> $1 OR is_public)
              AND (m.user_id || ' ' || coalesce(m.display_name, '')) COLLATE "default"
                  ILIKE ALL ($2::text[])
            ORDER BY m.user_id, m.position DESC
        )
        SELECT * FROM found
        ORDER BY (lower(display_name) = $3 OR user_id LIKE $4) IS TRUE DESC,
                 (display_name ILIKE $5 OR user_id ILIKE $6) IS TRUE DESC,
                 display_name IS NOT NULL DESC, is_local DESC, user_id
        LIMIT $7
        """,
        user_id,
        [f"%{_literally(word)}%" for word in words],
        " ".join(words).lower(),
        f"@{_literally(words[0].lstrip('@').lower())}:%",
        f"{_literally(words[0])}%",
        f"@{_literally(words[0].lstrip('@'))}%",
        limit,
    )
    return [Person(*record) for record in records]


async def mutual_rooms(
    connection: Connection, user_id: str, other_id: str
) -> list[tuple[int, str]]:
    """The rooms (number, id) that both users are in, the oldest first."""
    records = await connection.fetch(
        """
        SELECT r.room_number, r.room_id
        FROM memberships a
        JOIN memberships b USING (room_number)
        JOIN rooms r USING (room_number)
        WHERE a.user_id = $1 AND a.membership = 'join'
          AND b.user_id = $2 AND b.membership = 'join'
        ORDER BY r.room_number
        """,
        user_id,
        other_id,
    )
    return [(record[0], record[1]) for record in records]


def _literally(text: str) -> str:
    """Without a special meaning in LIKE."""
    return text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
