"""Previews of links, by the SHA-256 of the URL: the table `url_previews`."""

from __future__ import annotations

import hashlib

from homeserver.store.database import Connection


async def find(connection: Connection, url: str, now: int) -> bytes | None:
    """The answer (JSON), if it is not too old."""
    answer: bytes | None = await connection.fetchval(
        "SELECT answer FROM url_previews WHERE url_sha256 = $1 AND expires_at > $2",
        _key(url),
        now,
    )
    return answer


async def put(connection: Connection, url: str, answer: bytes, now: int, expires_at: int) -> None:
    await connection.execute(
        """
        INSERT INTO url_previews (url_sha256, url, answer, fetched_at, expires_at)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (url_sha256) DO UPDATE SET answer = $3, fetched_at = $4, expires_at = $5
        """,
        _key(url),
        url,
        answer,
        now,
        expires_at,
    )


async def delete_expired(connection: Connection, now: int) -> None:
    await connection.execute("DELETE FROM url_previews WHERE expires_at <= $1", now)


def _key(url: str) -> bytes:
    return hashlib.sha256(url.encode()).digest()
