"""Where users want to be told of notifications, and up to where each such place was served."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.store.database import Connection

PusherKey = tuple[str, str, str]
"""App id, pushkey, user id."""


class PusherRow(Struct, frozen=True):
    """`data` is a JSON object, `pushkey_ts` milliseconds, `position` a stream position."""

    app_id: str
    pushkey: str
    user_id: str
    device_id: str | None
    kind: str
    app_display_name: str
    device_display_name: str
    profile_tag: str
    lang: str
    data: bytes
    enabled: bool
    pushkey_ts: int
    position: int

    @property
    def key(self) -> PusherKey:
        return (self.app_id, self.pushkey, self.user_id)


_COLUMNS = ", ".join(PusherRow.__struct_fields__)


async def all_pushers(connection: Connection) -> list[PusherRow]:
    records = await connection.fetch(f"SELECT {_COLUMNS} FROM pushers")  # noqa: S608 - constant
    return [PusherRow(*record) for record in records]


async def put(connection: Connection, row: PusherRow) -> None:
    """Make a pusher, or change all of it but its position."""
    await connection.execute(
        f"""
        INSERT INTO pushers ({_COLUMNS})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
        ON CONFLICT (app_id, pushkey, user_id) DO UPDATE
        SET device_id = excluded.device_id, kind = excluded.kind,
            app_display_name = excluded.app_display_name,
            device_display_name = excluded.device_display_name,
            profile_tag = excluded.profile_tag, lang = excluded.lang, data = excluded.data,
            enabled = excluded.enabled, pushkey_ts = excluded.pushkey_ts
        """,  # noqa: S608 - constant
        *(getattr(row, column) for column in PusherRow.__struct_fields__),
    )


async def delete(connection: Connection, keys: Sequence[PusherKey]) -> None:
    await connection.execute(
        """
        DELETE FROM pushers p USING unnest($1::text[], $2::text[], $3::text[])
            AS g (app_id, pushkey, user_id)
        WHERE p.app_id = g.app_id AND p.pushkey = g.pushkey AND p.user_id = g.user_id
        """,
        [key[0] for key in keys],
        [key[1] for key in keys],
        [key[2] for key in keys],
    )


async def move(connection: Connection, positions: Sequence[tuple[PusherKey, int]]) -> None:
    """Note up to where pushers have been served."""
    await connection.execute(
        """
        UPDATE pushers AS p SET position = m.position
        FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
            AS m (app_id, pushkey, user_id, position)
        WHERE p.app_id = m.app_id AND p.pushkey = m.pushkey AND p.user_id = m.user_id
        """,
        [key[0] for key, _ in positions],
        [key[1] for key, _ in positions],
        [key[2] for key, _ in positions],
        [position for _, position in positions],
    )
