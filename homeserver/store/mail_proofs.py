"""The table `mail_proofs`: mail addresses that are to be confirmed, or were."""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection

_COLUMNS = "sid, purpose, address, client_secret, expires_at, send_attempt, next_link, validated_at"


class ProofRow(Struct, frozen=True):
    """`client_secret` is its SHA-256, `send_attempt` that of the newest letter (-1: none yet)."""

    sid: str
    purpose: str
    address: str
    client_secret: bytes
    expires_at: int
    send_attempt: int = -1
    next_link: str | None = None
    validated_at: int | None = None


async def put(connection: Connection, row: ProofRow, now: int) -> ProofRow:
    """The proof that is open for this purpose, address and secret: `row`, if there was none.

    Those that have ended go.
    """
    await connection.execute("DELETE FROM mail_proofs WHERE expires_at <= $1", now)
    record = await connection.fetchrow(
        f"""
        INSERT INTO mail_proofs ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        ON CONFLICT (purpose, address, client_secret) DO UPDATE SET sid = mail_proofs.sid
        RETURNING {_COLUMNS}
        """,  # noqa: S608 - constants
        row.sid,
        row.purpose,
        row.address,
        row.client_secret,
        row.expires_at,
        row.send_attempt,
        row.next_link,
        row.validated_at,
    )
    assert record is not None
    return ProofRow(*record)


async def find(connection: Connection, sid: str, now: int) -> ProofRow | None:
    """A proof that hasn't ended."""
    record = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM mail_proofs WHERE sid = $1 AND expires_at > $2",  # noqa: S608
        sid,
        now,
    )
    return None if record is None else ProofRow(*record)


async def note_letter(connection: Connection, sid: str, send_attempt: int) -> None:
    """A letter was sent."""
    await connection.execute(
        "UPDATE mail_proofs SET send_attempt = $2 WHERE sid = $1", sid, send_attempt
    )


async def note_validated(connection: Connection, sid: str, now: int) -> None:
    """The link was followed, for the first time or again."""
    await connection.execute(
        "UPDATE mail_proofs SET validated_at = coalesce(validated_at, $2) WHERE sid = $1", sid, now
    )


async def delete(connection: Connection, sid: str) -> bool:
    """It has served. False if it had before."""
    deleted = await connection.fetchval(
        "DELETE FROM mail_proofs WHERE sid = $1 RETURNING true", sid
    )
    return deleted is not None
