"""Messages on their way from device to device: the inboxes of local devices, and what other
servers are to get. The tables `to_device_messages`, `outgoing_to_device`, `to_device_transactions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from homeserver.store.database import Connection

DeviceKey = tuple[str, str]
"""User id and device id."""


class ToDeviceRow(Struct, frozen=True):
    """A message for a local device; `json` is the event as /sync shows it."""

    user_id: str
    device_id: str
    position: int
    json: bytes


class OutgoingRow(Struct, frozen=True):
    """Messages for the devices of another server: the content of an `m.direct_to_device` EDU."""

    destination: str
    position: int
    json: bytes


class TransactionRow(Struct, frozen=True):
    """A device has sent something under this id; `sent_at` in milliseconds."""

    user_id: str
    device_id: str
    transaction_id: str
    sent_at: int


async def put(connection: Connection, rows: Sequence[ToDeviceRow]) -> None:
    """Put messages into inboxes; what is for devices that don't exist is dropped.

    No device is deleted meanwhile: who calls this is the only one who does that.
    """
    await connection.execute(
        """
        INSERT INTO to_device_messages (user_id, device_id, position, json)
        SELECT m.user_id, m.device_id, m.position, m.json
        FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])
            AS m (user_id, device_id, position, json)
        JOIN devices d ON d.user_id = m.user_id AND d.device_id = m.device_id
        """,
        [r.user_id for r in rows],
        [r.device_id for r in rows],
        [r.position for r in rows],
        [r.json for r in rows],
    )


async def waiting(
    connection: Connection, device: DeviceKey, after: int, limit: int
) -> list[tuple[int, bytes]]:
    """The oldest messages of an inbox above a position: (position, json)."""
    records = await connection.fetch(
        """
        SELECT position, json FROM to_device_messages
        WHERE user_id = $1 AND device_id = $2 AND position > $3 ORDER BY position LIMIT $4
        """,
        *device,
        after,
        limit,
    )
    return [(record[0], record[1]) for record in records]


async def delete(connection: Connection, delivered: Mapping[DeviceKey, int]) -> None:
    """Delete from each inbox the messages up to a position."""
    await connection.execute(
        """
        DELETE FROM to_device_messages m
        USING unnest($1::text[], $2::text[], $3::bigint[]) AS d (user_id, device_id, position)
        WHERE m.user_id = d.user_id AND m.device_id = d.device_id AND m.position <= d.position
        """,
        [user_id for user_id, _ in delivered],
        [device_id for _, device_id in delivered],
        list(delivered.values()),
    )


async def delete_inboxes(connection: Connection, devices: Sequence[DeviceKey]) -> None:
    """Delete all messages for devices that are no more."""
    await connection.execute(
        """
        DELETE FROM to_device_messages m
        USING unnest($1::text[], $2::text[]) AS d (user_id, device_id)
        WHERE m.user_id = d.user_id AND m.device_id = d.device_id
        """,
        [user_id for user_id, _ in devices],
        [device_id for _, device_id in devices],
    )


async def put_outgoing(connection: Connection, rows: Sequence[OutgoingRow]) -> None:
    await connection.execute(
        """
        INSERT INTO outgoing_to_device (destination, position, json)
        SELECT * FROM unnest($1::text[], $2::bigint[], $3::bytea[])
        """,
        [r.destination for r in rows],
        [r.position for r in rows],
        [r.json for r in rows],
    )


async def outgoing(connection: Connection, destination: str, limit: int) -> list[tuple[int, bytes]]:
    """The oldest EDU contents that a server has not taken yet: (position, content)."""
    records = await connection.fetch(
        """
        SELECT position, json FROM outgoing_to_device WHERE destination = $1
        ORDER BY position LIMIT $2
        """,
        destination,
        limit,
    )
    return [(record[0], record[1]) for record in records]


async def delete_outgoing(connection: Connection, destination: str, upto: int) -> None:
    """A server has taken the EDUs up to a position."""
    await connection.execute(
        "DELETE FROM outgoing_to_device WHERE destination = $1 AND position <= $2",
        destination,
        upto,
    )


async def delete_for_dead_servers(connection: Connection, since: int) -> None:
    """Delete what waits for servers that haven't answered since a time in milliseconds."""
    await connection.execute(
        """
        DELETE FROM outgoing_to_device WHERE destination IN (
            SELECT destination FROM server_outages WHERE failing_since < $1)
        """,
        since,
    )


async def put_transactions(connection: Connection, rows: Sequence[TransactionRow]) -> None:
    await connection.execute(
        """
        INSERT INTO to_device_transactions (user_id, device_id, transaction_id, sent_at)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        ON CONFLICT DO NOTHING
        """,
        [r.user_id for r in rows],
        [r.device_id for r in rows],
        [r.transaction_id for r in rows],
        [r.sent_at for r in rows],
    )


async def transactions_of_device(connection: Connection, device: DeviceKey) -> list[str]:
    """The transaction ids under which a device has sent, the newest last."""
    records = await connection.fetch(
        """
        SELECT transaction_id FROM to_device_transactions
        WHERE user_id = $1 AND device_id = $2 ORDER BY sent_at
        """,
        *device,
    )
    return [record[0] for record in records]


async def forget_transactions(connection: Connection, before: int) -> None:
    """Forget what was sent before a time in milliseconds."""
    await connection.execute("DELETE FROM to_device_transactions WHERE sent_at < $1", before)


async def destinations(connection: Connection) -> list[str]:
    """The servers for which something is kept."""
    records = await connection.fetch("SELECT DISTINCT destination FROM outgoing_to_device")
    return [record[0] for record in records]


async def delete_of_app_service(connection: Connection, service_id: str, upto: int) -> None:
    """Delete what an application service has got for its users, up to a position."""
    await connection.execute(
        """
        DELETE FROM to_device_messages m USING accounts a
        WHERE a.user_id = m.user_id AND a.app_service = $1 AND m.position <= $2
        """,
        service_id,
        upto,
    )
