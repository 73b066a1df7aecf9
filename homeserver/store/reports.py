"""What users reported as inappropriate."""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection


class Report(Struct, frozen=True):
    """A report of a user, a room, or an event (with its room and sender)."""

    reported_at: int
    reporter: str
    room_id: str | None
    event_id: str | None
    user_id: str | None
    reason: str


async def add(connection: Connection, report: Report) -> int:
    """Keep a report; returns its number."""
    report_id: int = await connection.fetchval(
        """
        INSERT INTO reports (reported_at, reporter, room_id, event_id, user_id, reason)
        VALUES ($1, $2, $3, $4, $5, $6) RETURNING report_id
        """,
        report.reported_at,
        report.reporter,
        report.room_id,
        report.event_id,
        report.user_id,
        report.reason,
    )
    return report_id
