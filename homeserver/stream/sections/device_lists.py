"""`device_lists`. client-server-api#e2e-extensions-to-sync"""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.stream.device_lists import DeviceLists
from homeserver.stream.live_users import LiveUser
from homeserver.stream.sync import Section
from homeserver.stream.sync_request import Part, SyncRequest, encode


def device_lists_section(device_lists: DeviceLists) -> Section:
    """Whose devices changed; "only present on an incremental sync"."""

    async def section(request: SyncRequest, user: LiveUser, upto: int) -> Sequence[Part]:
        if request.since is None:
            return ()
        found = await device_lists.differences(user, request.since, upto)
        if not found.changed and not found.left:
            return ()
        answer = {"changed": sorted(found.changed), "left": sorted(found.left)}
        return (Part("device_lists", encode(answer)),)

    return section
