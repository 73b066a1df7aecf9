"""Event types of which several parts of the server speak."""

from __future__ import annotations

from typing import Final

CANONICAL_ALIAS: Final = "m.room.canonical_alias"
MEMBER: Final = "m.room.member"
REDACTION: Final = "m.room.redaction"
TOMBSTONE: Final = "m.room.tombstone"
