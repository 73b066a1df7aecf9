"""Invites, to whichever server they go: what several endpoints do in the same way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

from homeserver.errors import MatrixError
from homeserver.http.call import Call
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id, server_name_of

AT_ONCE = 10
"""So many other servers (or application services) are asked at the same time."""


async def invite(call: Call, room_id: str, user_id: str, content: JsonObject) -> None:
    """Invite a user of this server or another one. Raises what either refuses with."""
    if is_remote(call, user_id):
        remote = call.parts.federation.remote_membership
        await remote.invite(call.requester.user_id, room_id, user_id, content)
    else:
        await _make_user(call, user_id)
        await call.parts.membership.invite(call.requester, room_id, user_id, content)


async def invite_to_new_room(
    call: Call, room_id: str, user_ids: list[str], content: JsonObject
) -> None:
    """The invites that come with a new room. An unreachable server doesn't undo the room."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def try_to(work: Awaitable[None]) -> None:
        async with at_once:
            with suppress(MatrixError):
                await work

    ours = [user_id for user_id in user_ids if not is_remote(call, user_id)]
    others = [user_id for user_id in user_ids if is_remote(call, user_id)]
    await asyncio.gather(*(try_to(_make_user(call, user_id)) for user_id in ours))
    await call.parts.membership.invite_all(call.requester, room_id, ours, content)
    await asyncio.gather(*(try_to(invite(call, room_id, user_id, content)) for user_id in others))


async def _make_user(call: Call, user_id: str) -> None:
    """Whoever is invited before they exist, an application service may make now."""
    services = call.parts.app_services
    if services.registry.owner_of_user(user_id) is None:
        return
    if await call.parts.accounts.find(user_id) is None:
        await services.questions.make_user(user_id)


def is_remote(call: Call, user_id: str) -> bool:
    """Whether it is the id of a user of another server."""
    return is_user_id(user_id) and server_name_of(user_id) != call.parts.config.server_name
