"""Access and refresh tokens, by their SHA-256: the tables `access_tokens`, `refresh_tokens`.

A device's tokens go with the device (`ON DELETE CASCADE`).
client-server-api#refreshing-access-tokens
"""

from __future__ import annotations

from msgspec import Struct

from homeserver.requester import Requester
from homeserver.store.database import Connection


class Session(Struct, frozen=True):
    """What an access token stands for. `replaces` is the refresh token that its first use ends."""

    requester: Requester
    expires_at: int | None
    replaces: bytes | None


class RefreshToken(Struct, frozen=True):
    user_id: str
    device_id: str
    replaces: bytes | None
    oauth_client: str | None
    oauth_family: bytes | None


class NewTokens(Struct, frozen=True):
    """The tokens that a device is given; the refresh token only if the client can use one.

    `oauth_client` is the client that got them by OAuth 2.0, `oauth_family` what they and all that
    they are exchanged for have in common.
    """

    user_id: str
    device_id: str
    access_token: bytes
    refresh_token: bytes | None
    expires_at: int | None
    replaces: bytes | None = None
    oauth_client: str | None = None
    oauth_family: bytes | None = None


async def find_session(connection: Connection, token_hash: bytes) -> Session | None:
    row = await connection.fetchrow(
        """
        SELECT t.user_id, t.device_id, t.expires_at, t.replaces, t.by_oauth,
               a.is_guest, a.is_admin, a.is_suspended, a.is_locked
        FROM access_tokens t JOIN accounts a USING (user_id)
        WHERE t.token_hash = $1 AND NOT a.is_deactivated
        """,
        token_hash,
    )
    if row is None:
        return None
    requester = Requester(
        user_id=row["user_id"],
        device_id=row["device_id"],
        is_guest=row["is_guest"],
        is_admin=row["is_admin"],
        is_suspended=row["is_suspended"],
        is_locked=row["is_locked"],
        token_hash=token_hash,
        by_oauth=row["by_oauth"],
    )
    return Session(requester, row["expires_at"], row["replaces"])


async def find_refresh_token(connection: Connection, token_hash: bytes) -> RefreshToken | None:
    """The refresh token, locked until the transaction ends."""
    row = await connection.fetchrow(
        """
        SELECT user_id, device_id, replaces, oauth_client, oauth_family FROM refresh_tokens
        WHERE token_hash = $1 FOR UPDATE
        """,
        token_hash,
    )
    return RefreshToken(**row) if row is not None else None


async def insert(connection: Connection, tokens: NewTokens, now: int) -> None:
    """Store an access token and, if there is one, its refresh token."""
    if tokens.refresh_token is not None:
        await connection.execute(
            """
            INSERT INTO refresh_tokens
                (token_hash, user_id, device_id, replaces, created_at, oauth_client, oauth_family)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            """,
            tokens.refresh_token,
            tokens.user_id,
            tokens.device_id,
            tokens.replaces,
            now,
            tokens.oauth_client,
            tokens.oauth_family,
        )
    await connection.execute(
        """
        INSERT INTO access_tokens
            (token_hash, user_id, device_id, expires_at, refresh_token, replaces, created_at,
             by_oauth)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        tokens.access_token,
        tokens.user_id,
        tokens.device_id,
        tokens.expires_at,
        tokens.refresh_token,
        tokens.replaces,
        now,
        tokens.oauth_client is not None,
    )


async def device_of_token(connection: Connection, token_hash: bytes) -> tuple[str, str] | None:
    """(user id, device id) of an access or refresh token, an expired one too."""
    row = await connection.fetchrow(
        """
        SELECT user_id, device_id FROM access_tokens WHERE token_hash = $1
        UNION SELECT user_id, device_id FROM refresh_tokens WHERE token_hash = $1
        """,
        token_hash,
    )
    return None if row is None else (row[0], row[1])


async def device_of_family(connection: Connection, family: bytes) -> tuple[str, str] | None:
    """(user id, device id) of the device whose present tokens are of this family."""
    row = await connection.fetchrow(
        "SELECT user_id, device_id FROM refresh_tokens WHERE oauth_family = $1 LIMIT 1", family
    )
    return None if row is None else (row[0], row[1])


async def delete_of_device(connection: Connection, user_id: str, device_id: str) -> list[bytes]:
    """End all tokens of a device; gives its access tokens."""
    rows = await connection.fetch(
        """
        WITH refresh AS (
            DELETE FROM refresh_tokens WHERE user_id = $1 AND device_id = $2
        )
        DELETE FROM access_tokens WHERE user_id = $1 AND device_id = $2 RETURNING token_hash
        """,
        user_id,
        device_id,
    )
    return [row["token_hash"] for row in rows]


async def confirm(connection: Connection, replaced: bytes) -> list[bytes]:
    """The successor of a refresh token was used: end it and its access tokens, which it gives.

    "The old refresh token remains valid until the new access token or refresh token is used, at
    which point the old refresh token is revoked."
    """
    rows = await connection.fetch(
        "DELETE FROM access_tokens WHERE refresh_token = $1 RETURNING token_hash", replaced
    )
    await connection.execute("DELETE FROM refresh_tokens WHERE token_hash = $1", replaced)
    await connection.execute(
        "UPDATE refresh_tokens SET replaces = NULL WHERE replaces = $1", replaced
    )
    await connection.execute(
        "UPDATE access_tokens SET replaces = NULL WHERE replaces = $1", replaced
    )
    return [row["token_hash"] for row in rows]


async def delete_successors(connection: Connection, replaced: bytes) -> list[bytes]:
    """End the tokens that a refresh token was exchanged for, since it is exchanged again; gives
    its access tokens.
    """
    rows = await connection.fetch(
        "DELETE FROM access_tokens WHERE replaces = $1 RETURNING token_hash", replaced
    )
    await connection.execute("DELETE FROM refresh_tokens WHERE replaces = $1", replaced)
    return [row["token_hash"] for row in rows]
