"""Events that are to be sent later."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from homeserver.store.database import Connection


class DelayedEvent(Struct, frozen=True):
    """An event to be sent `delay` milliseconds after `running_since`."""

    delay_id: str
    user_id: str
    device_id: str
    transaction_id: str | None
    room_id: str
    type: str
    state_key: str | None
    redacts: str | None
    content: bytes
    delay: int
    running_since: int

    @property
    def due(self) -> int:
        """When it is to be sent, in milliseconds since the epoch."""
        return self.running_since + self.delay


_COLUMNS = (
    "delay_id, user_id, device_id, transaction_id, room_id, type, state_key, redacts, content, "
    "delay, running_since"
)


async def insert(connection: Connection, event: DelayedEvent) -> None:
    """Keep a new event."""
    await connection.execute(
        f"""
        INSERT INTO delayed_events ({_COLUMNS})
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
        """,  # noqa: S608 - constants
        event.delay_id,
        event.user_id,
        event.device_id,
        event.transaction_id,
        event.room_id,
        event.type,
        event.state_key,
        event.redacts,
        event.content,
        event.delay,
        event.running_since,
    )


async def restart(connection: Connection, delay_id: str, running_since: int) -> None:
    """Its time runs anew, if it hasn't been cancelled."""
    await connection.execute(
        "UPDATE delayed_events SET running_since = $2 WHERE delay_id = $1", delay_id, running_since
    )


async def delete(connection: Connection, delay_ids: Iterable[str]) -> None:
    """These were sent or cancelled."""
    await connection.execute(
        "DELETE FROM delayed_events WHERE delay_id = ANY($1::text[])", list(delay_ids)
    )


async def load(connection: Connection) -> list[DelayedEvent]:
    """All that are still to be sent."""
    records = await connection.fetch(f"SELECT {_COLUMNS} FROM delayed_events")  # noqa: S608
    return [DelayedEvent(*record) for record in records]
