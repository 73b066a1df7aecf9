"""The accounts of this server: the table `accounts`."""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from homeserver.store.database import Connection


class Flag(Enum):
    """What an admin can set on an account; the values are columns."""

    ADMIN = "is_admin"
    SUSPENDED = "is_suspended"
    LOCKED = "is_locked"


class Account(Struct, frozen=True):
    """A local account. `password_hash` is None where nobody logs in with a password."""

    user_id: str
    created_at: int
    password_hash: str | None = None
    app_service: str | None = None
    is_guest: bool = False
    is_admin: bool = False
    is_suspended: bool = False
    is_locked: bool = False
    is_deactivated: bool = False
    erased_at: int | None = None


_COLUMNS = ", ".join(Account.__struct_fields__)
_FLAG_UPDATES = {
    flag: f"UPDATE accounts SET {flag.value} = $2 WHERE user_id = $1"  # noqa: S608 - fixed columns
    for flag in Flag
}


async def insert(connection: Connection, account: Account) -> bool:
    """Make the account; False if the user id is taken."""
    made = await connection.fetchval(
        """
        INSERT INTO accounts
            (user_id, created_at, password_hash, app_service, is_guest, is_admin)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT DO NOTHING RETURNING true
        """,
        account.user_id,
        account.created_at,
        account.password_hash,
        account.app_service,
        account.is_guest,
        account.is_admin,
    )
    return made is not None


async def upgrade_guest(connection: Connection, account: Account) -> bool:
    """Make a guest's account this one; False if there is no such guest."""
    made = await connection.fetchval(
        """
        UPDATE accounts SET is_guest = false, password_hash = $2, is_admin = $3
        WHERE user_id = $1 AND is_guest AND NOT is_deactivated RETURNING true
        """,
        account.user_id,
        account.password_hash,
        account.is_admin,
    )
    return made is not None


async def find(connection: Connection, user_id: str) -> Account | None:
    """The account, a deactivated one too."""
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM accounts WHERE user_id = $1",  # noqa: S608 - fixed columns
        user_id,
    )
    return Account(**row) if row is not None else None


async def existing(connection: Connection, user_ids: list[str]) -> set[str]:
    """Those of the user ids that are active accounts of this server."""
    rows = await connection.fetch(
        "SELECT user_id FROM accounts WHERE user_id = ANY($1) AND NOT is_deactivated", user_ids
    )
    return {row["user_id"] for row in rows}


async def has_people(connection: Connection) -> bool:
    """Is there any account that isn't a guest's or a bridge's?"""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM accounts WHERE NOT is_guest AND app_service IS NULL)"
    )
    return found


async def set_password_hash(
    connection: Connection, user_id: str, password_hash: str | None
) -> None:
    await connection.execute(
        "UPDATE accounts SET password_hash = $2 WHERE user_id = $1", user_id, password_hash
    )


async def set_flag(connection: Connection, user_id: str, flag: Flag, value: bool) -> None:
    await connection.execute(_FLAG_UPDATES[flag], user_id, value)


async def deactivate(connection: Connection, user_id: str) -> None:
    """End the account for ever; the row stays, so that the user id isn't given out again."""
    await connection.execute(
        """
        UPDATE accounts SET is_deactivated = true, password_hash = NULL WHERE user_id = $1
        """,
        user_id,
    )


async def deactivated_in_rooms(connection: Connection) -> list[str]:
    """The users whose accounts have ended and who are in rooms, invited or knocking still."""
    rows = await connection.fetch(
        """
        SELECT user_id FROM accounts
        WHERE is_deactivated AND EXISTS (
            SELECT FROM memberships m
            WHERE m.user_id = accounts.user_id AND m.membership IN ('join', 'invite', 'knock')
        )
        """
    )
    return [row[0] for row in rows]


async def erase(connection: Connection, user_id: str, position: int) -> None:
    """From this stream position on the user is erased."""
    await connection.execute(
        "UPDATE accounts SET erased_at = $2 WHERE user_id = $1", user_id, position
    )


async def erased(connection: Connection) -> dict[str, int]:
    """All users who are erased, and since which stream position."""
    rows = await connection.fetch(
        "SELECT user_id, erased_at FROM accounts WHERE erased_at IS NOT NULL"
    )
    return {row[0]: row[1] for row in rows}
