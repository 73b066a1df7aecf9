"""`to_device`. client-server-api#extensions-to-sync"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.stream.inboxes import Inboxes
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sync import Section
from homeserver.stream.sync_request import Part, SyncRequest, events_object


def to_device_section(inboxes: Inboxes) -> Section:
    """The messages for the device that syncs."""

    async def section(request: SyncRequest, user: LiveUser, upto: int) -> Sequence[Part]:
        if request.device_id is None:
            return ()
        device = (request.user_id, request.device_id)
        waiting = await inboxes.read(device, request.to_device_since, upto)
        if not waiting.messages:
            return ()
        return (Part("to_device", events_object(waiting.messages), told_upto=waiting.upto),)

    return section
