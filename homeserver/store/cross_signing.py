"""Cross-signing keys of users, local and remote, and what local users sign of other users' keys:
the tables `cross_signing_keys` and `user_signatures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from homeserver.store.database import Connection


class CrossSigningRow(Struct, frozen=True):
    """`json` is canonical, with all signatures by the user and their devices.

    None takes the key away.
    """

    user_id: str
    usage: str
    json: bytes | None


class UserSignatureRow(Struct, frozen=True):
    """A local user's signature of another user's master key. Nobody else gets to see it."""

    signer: str
    user_id: str
    master_key: str
    key_id: str
    signature: str


async def put(connection: Connection, rows: Sequence[CrossSigningRow]) -> None:
    """Set or take away keys; the last of equal (user, usage) wins."""
    last = {(r.user_id, r.usage): r for r in rows}
    await connection.execute(
        """
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[]) AS g (user_id, usage, json)
        ), gone AS (
            DELETE FROM cross_signing_keys k USING given g
            WHERE k.user_id = g.user_id AND k.usage = g.usage AND g.json IS NULL
        )
        INSERT INTO cross_signing_keys (user_id, usage, json)
        SELECT user_id, usage, json FROM given WHERE json IS NOT NULL
        ON CONFLICT (user_id, usage) DO UPDATE SET json = excluded.json
        """,
        [r.user_id for r in last.values()],
        [r.usage for r in last.values()],
        [r.json for r in last.values()],
    )


async def of_users(connection: Connection, user_ids: Sequence[str]) -> list[CrossSigningRow]:
    """All cross-signing keys of these users."""
    records = await connection.fetch(
        "SELECT user_id, usage, json FROM cross_signing_keys WHERE user_id = ANY($1::text[])",
        user_ids,
    )
    return [CrossSigningRow(*record) for record in records]


async def is_public_key(connection: Connection, user_id: str, text: str) -> bool:
    """Whether one of the user's cross-signing keys has this public key."""
    found: bool = await connection.fetchval(
        """
        SELECT EXISTS (SELECT FROM cross_signing_keys
                       WHERE user_id = $1 AND position($2::bytea IN json) > 0)
        """,
        user_id,
        # As canonical JSON has it; a signature's key id isn't followed by itself.
        msgspec.json.encode({f"ed25519:{text}": text})[1:-1],
    )
    return found


async def sign(connection: Connection, rows: Sequence[UserSignatureRow]) -> None:
    """Add signatures."""
    last = {(r.signer, r.user_id, r.master_key, r.key_id): r for r in rows}
    await connection.execute(
        """
        INSERT INTO user_signatures (signer, user_id, master_key, key_id, signature)
        SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
        ON CONFLICT (signer, user_id, master_key, key_id) DO UPDATE
        SET signature = excluded.signature
        """,
        [r.signer for r in last.values()],
        [r.user_id for r in last.values()],
        [r.master_key for r in last.values()],
        [r.key_id for r in last.values()],
        [r.signature for r in last.values()],
    )


async def signatures_by(
    connection: Connection, signer: str, user_ids: Sequence[str]
) -> list[UserSignatureRow]:
    """What a local user has signed of these users' master keys."""
    records = await connection.fetch(
        """
        SELECT signer, user_id, master_key, key_id, signature FROM user_signatures
        WHERE signer = $1 AND user_id = ANY($2::text[])
        """,
        signer,
        user_ids,
    )
    return [UserSignatureRow(*record) for record in records]
