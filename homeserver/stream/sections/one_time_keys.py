"""`device_one_time_keys_count` and `device_unused_fallback_key_types`.

client-server-api#e2e-extensions-to-sync
"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.stream.key_counts import KeyCounts
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sync import Section
from homeserver.stream.sync_request import Part, SyncRequest


def one_time_keys_section(key_counts: KeyCounts) -> Section:
    """What the device has left; always there, and no reason to end a long poll."""

    async def section(request: SyncRequest, user: LiveUser, upto: int) -> Sequence[Part]:
        if request.device_id is None:
            return ()
        left = await key_counts.of((request.user_id, request.device_id))
        unused = left.unused_fallback_types_json
        return (
            Part("device_one_time_keys_count", left.counts_json, news=False),
            Part("device_unused_fallback_key_types", unused, news=False),
        )

    return section
