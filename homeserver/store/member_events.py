"""Member events, in short: read only; the table belongs to `events`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from homeserver.store.database import Connection


class MemberContent(msgspec.Struct):
    """What a member event says, whatever type it has."""

    membership: Any = None
    displayname: Any = None
    avatar_url: Any = None


class MemberEvent(msgspec.Struct, frozen=True):
    """A member event, in short."""

    event_id: str
    user_id: str
    sender: str
    content: MemberContent


class _MemberPdu(msgspec.Struct):
    content: MemberContent


_decode_member = msgspec.json.Decoder(_MemberPdu).decode


async def member_events(connection: Connection, event_ids: Iterable[str]) -> list[MemberEvent]:
    """These member events."""
    records = await connection.fetch(
        "SELECT event_id, state_key, sender, json FROM events WHERE event_id = ANY($1::text[])",
        list(event_ids),
    )
    return [MemberEvent(r[0], r[1], r[2], _decode_member(r[3]).content) for r in records]
