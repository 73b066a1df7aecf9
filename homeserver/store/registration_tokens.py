"""Registration tokens: the table `registration_tokens`.

client-server-api#token-authenticated-registration
"""

from __future__ import annotations

from msgspec import Struct

from homeserver.store.database import Connection


class RegistrationToken(Struct, frozen=True):
    """Lets people make accounts: `uses_allowed` times (None: any), until `expires_at` (None: ever).

    The accounts made with it are server admins if `makes_admin`.
    """

    token: str
    created_at: int
    uses_allowed: int | None = None
    uses: int = 0
    expires_at: int | None = None
    makes_admin: bool = False


async def insert(connection: Connection, token: RegistrationToken) -> bool:
    """False if there is such a token."""
    made = await connection.fetchval(
        """
        INSERT INTO registration_tokens
            (token, created_at, uses_allowed, uses, expires_at, makes_admin)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true
        """,
        token.token,
        token.created_at,
        token.uses_allowed,
        token.uses,
        token.expires_at,
        token.makes_admin,
    )
    return made is not None


async def is_valid(connection: Connection, token: str, admins_only: bool, now: int) -> bool:
    """Whether an account can be made with it now; with `admins_only`, an admin's account."""
    valid: bool = await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM registration_tokens
            WHERE token = $1 AND (uses_allowed IS NULL OR uses < uses_allowed)
              AND (expires_at IS NULL OR expires_at > $2) AND (makes_admin OR NOT $3)
        )
        """,
        token,
        now,
        admins_only,
    )
    return valid


async def valid_admin_token(connection: Connection, now: int) -> str | None:
    """A token that makes an admin and can be used now, if there is any."""
    token: str | None = await connection.fetchval(
        """
        SELECT token FROM registration_tokens
        WHERE makes_admin AND (uses_allowed IS NULL OR uses < uses_allowed)
          AND (expires_at IS NULL OR expires_at > $1)
        ORDER BY created_at LIMIT 1
        """,
        now,
    )
    return token


async def use(connection: Connection, token: str, now: int) -> RegistrationToken | None:
    """Count an account as made with it; None if it isn't valid (any more)."""
    row = await connection.fetchrow(
        """
        UPDATE registration_tokens SET uses = uses + 1
        WHERE token = $1 AND (uses_allowed IS NULL OR uses < uses_allowed)
          AND (expires_at IS NULL OR expires_at > $2)
        RETURNING token, created_at, uses_allowed, uses, expires_at, makes_admin
        """,
        token,
        now,
    )
    return RegistrationToken(**row) if row is not None else None
