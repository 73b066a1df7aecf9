"""Profiles: what users say of themselves, and how their rooms come to show it.

client-server-api#profiles
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import msgspec
import structlog

from homeserver.errors import BadJson, InvalidParam, MatrixError, NotFound, Unavailable
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.identifiers import localpart_of, server_name_of
from homeserver.store import accounts as account_store
from homeserver.store import profiles as profile_store
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft

log = structlog.get_logger(__name__)

KEY = re.compile(r"avatar_url|displayname|m\.tz|[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")
MAX_KEY_BYTES = 255
MAX_PROFILE_BYTES = 65_536
SHOWN_IN_ROOMS = ("displayname", "avatar_url")


class Profiles:
    """Reads and changes profiles of local users; their rooms follow in the background."""

    def __init__(self, database: Database, stream: StreamCore, server_name: str) -> None:
        self._database = database
        self._stream = stream
        self._server_name = server_name
        self._updates: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    async def get(self, user_id: str) -> JsonObject:
        """A local user's profile. Raises NotFound if there is no such user."""
        if server_name_of(user_id) != self._server_name:
            raise NotFound("The user's server is not this one")
        async with self._database.connection() as connection:
            profile = await profile_store.get(connection, user_id)
            if not profile and not await account_store.existing(connection, [user_id]):
                raise NotFound("There is no such user")
        return profile

    async def set(self, user_id: str, key: str, value: Any) -> None:
        """Set one field. Raises InvalidParam, BadJson, and the errors for sizes."""
        check_key(key)
        if key in SHOWN_IN_ROOMS and not isinstance(value, str):
            raise BadJson(f"`{key}` must be a string")
        encoded = msgspec.json.encode(value)
        async with self._database.transaction() as connection:
            profile = await profile_store.get(connection, user_id)
            if len(msgspec.json.encode({**profile, key: value})) > MAX_PROFILE_BYTES:
                raise BadJson(
                    "The profile would be larger than 64 KiB", errcode="M_PROFILE_TOO_LARGE"
                )
            if profile.get(key) == value and key in profile:
                return
            await profile_store.put(connection, user_id, key, encoded)
        if key in SHOWN_IN_ROOMS:
            self._update_rooms(user_id)

    async def delete(self, user_id: str, key: str) -> None:
        """Remove one field, if it is there. Raises InvalidParam."""
        check_key(key)
        async with self._database.connection() as connection:
            await profile_store.delete(connection, user_id, key)
        if key in SHOWN_IN_ROOMS:
            self._update_rooms(user_id)

    async def registered(self, user_id: str) -> None:
        """A new account is called by its localpart until it says otherwise."""
        async with self._database.connection() as connection:
            name = msgspec.json.encode(localpart_of(user_id))
            await profile_store.put(connection, user_id, "displayname", name)

    async def stop(self) -> None:
        """Let the rooms that are being updated finish."""
        await asyncio.gather(*self._updates.values(), return_exceptions=True)

    def _update_rooms(self, user_id: str) -> None:
        running = self._updates.get(user_id)
        if running is not None and not running.done():
            self._again.add(user_id)
            return
        task = asyncio.create_task(self._follow(user_id))
        self._updates[user_id] = task
        task.add_done_callback(lambda done: self._ended(user_id, done))

    def _ended(self, user_id: str, done: asyncio.Task[None]) -> None:
        if self._updates.get(user_id) is done:
            del self._updates[user_id]

    async def _follow(self, user_id: str) -> None:
        """Bring all rooms of a user to the profile as it is now, again if it changed meanwhile."""
        while True:
            self._again.discard(user_id)
            try:
                user = await self._stream.users.get(user_id)
                async with self._database.connection() as connection:
                    profile = await profile_store.get(connection, user_id)
            except Unavailable as error:
                log.warning("profile not shown", user_id=user_id, reason=error.message)
                return
            await self._show(user_id, user.joined_rooms(), profile)
            if user_id not in self._again:
                return

    async def _show(self, user_id: str, room_ids: Sequence[str], profile: JsonObject) -> None:
        for room_id in room_ids:
            try:
                await self._show_in_room(user_id, room_id, profile)
            except MatrixError as error:
                log.info("profile not shown", room_id=room_id, reason=error.message)

    async def _show_in_room(self, user_id: str, room_id: str, profile: JsonObject) -> None:
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(user_id) != "join":
            return
        async with self._database.connection() as connection:
            found = await self._stream.rooms.events.get_many(
                connection, [room.members[user_id].event_id], self._stream.rooms.rules_of
            )
        member = found.get(room.members[user_id].event_id)
        kept = {} if member is None else member.content
        content = {key: value for key, value in kept.items() if key not in SHOWN_IN_ROOMS}
        # Who let the user in counts for the join, not for a new name.
        content.pop("join_authorised_via_users_server", None)
        content.pop("reason", None)
        content |= {key: profile[key] for key in SHOWN_IN_ROOMS if key in profile}
        content["membership"] = "join"
        await self._stream.sender.send(room_id, Draft(user_id, MEMBER, content, user_id))


def check_key(key: str) -> None:
    """Raises InvalidParam (M_KEY_TOO_LARGE) if this can't be the name of a profile field."""
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidParam("The key is longer than 255 bytes", errcode="M_KEY_TOO_LARGE")
    if not KEY.fullmatch(key):
        raise InvalidParam(
            "A profile field is `displayname`, `avatar_url`, `m.tz` or a namespaced identifier"
        )
