"""What the server itself tells its users, each in a room of their own with it.

client-server-api#server-notices
"""

from __future__ import annotations

import asyncio
from weakref import WeakValueDictionary

import msgspec

from homeserver.clock import Clock
from homeserver.config import Config
from homeserver.errors import CannotLeaveServerNoticeRoom, MatrixError, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.requester import Requester
from homeserver.store import account_data as account_data_store
from homeserver.store import accounts as account_store
from homeserver.store import server_notices as notice_store
from homeserver.store.account_data import AccountDataRow
from homeserver.store.accounts import Account
from homeserver.store.database import Database
from homeserver.stream.changes import AccountDataChange
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft, Transaction
from homeserver.stream.room_creation import CreateRoom, room_drafts
from homeserver.stream.stored_event import StoredEvent

TAG = "m.server_notice"
TAGS = "m.tag"
READ_ONLY: JsonObject = {"users_default": -10}


class ServerNotices:
    """Sends notices in the name of the user that the config names."""

    def __init__(self, config: Config, database: Database, stream: StreamCore, now: Clock) -> None:
        self._options = config.server_notices
        self._room_version = config.default_room_version
        self._database = database
        self._stream = stream
        self._now = now
        self._user_id = f"@{self._options.localpart}:{config.server_name}"
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def send(
        self, user_id: str, draft: JsonObject, transaction: Transaction | None = None
    ) -> StoredEvent:
        """Tell a user something: `draft` has `content`, and may have `type` and `state_key`.

        The user is invited, if they aren't in the room. Raises NotFound (no such user), or
        MatrixError if notices are switched off.
        """
        if self._options.localpart is None:
            raise MatrixError("Server notices are switched off in the config")
        lock = self._locks.setdefault(user_id, asyncio.Lock())
        async with lock:
            async with self._database.connection() as connection:
                if not await account_store.existing(connection, [user_id]):
                    raise NotFound(f"There is no user {user_id} on this server")
                room_id = await notice_store.room_of(connection, user_id)
            if room_id is None:
                room_id = await self._make_room(user_id)
            await self._invite(user_id, room_id)
        event = Draft(
            self._user_id,
            draft.get("type", "m.room.message"),
            draft["content"],
            draft.get("state_key"),
        )
        return await self._stream.sender.send(room_id, event, transaction)

    def transaction(self, requester: Requester, transaction_id: str) -> Transaction:
        """A send of an admin's device, which is one of the user that notices are from."""
        device = f"{requester.user_id}/{requester.device_id or ''}"
        return Transaction(self._user_id, device, transaction_id)

    async def require_may_leave(self, user_id: str, room_id: str) -> None:
        """Raises CannotLeaveServerNoticeRoom for the invite to the room of notices.

        "The client must not expect to be able to reject an invite to join the server notices room."
        """
        if self._options.localpart is None:
            return
        row = (await self._stream.users.get(user_id)).rooms.get(room_id)
        if row is not None and row.membership == "invite" and row.sender == self._user_id:
            raise CannotLeaveServerNoticeRoom("Only who has joined this room can leave it")

    async def _make_room(self, user_id: str) -> str:
        options = self._options
        async with self._database.connection() as connection:
            await account_store.insert(connection, Account(self._user_id, self._now()))
        request = CreateRoom(
            name=options.room_name,
            preset="private_chat",
            power_level_content_override=READ_ONLY,
            creation_content={"m.federate": False},
        )
        profile: JsonObject = {"displayname": options.display_name}
        if options.avatar_url is not None:
            profile["avatar_url"] = options.avatar_url
        drafts = room_drafts(request, self._room_version, self._user_id, profile, None)
        events = await self._stream.sender.create_room(self._room_version, drafts)
        room_id = events[0].event.room_id
        async with self._database.connection() as connection:
            await notice_store.put(connection, user_id, room_id)
        return room_id

    async def _invite(self, user_id: str, room_id: str) -> None:
        """ "Servers should invite the target user rather than automatically join them" """
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(user_id) in ("join", "invite"):
            return
        invite = Draft(self._user_id, MEMBER, {"membership": "invite"}, user_id)
        await self._stream.sender.send(room_id, invite)
        await self._tag(user_id, room_id)

    async def _tag(self, user_id: str, room_id: str) -> None:
        """ "Servers must identify this room to clients with the `m.server_notice` tag." """
        async with self._database.connection() as connection:
            standing = await account_data_store.get(connection, user_id, room_id, TAGS)
        content: JsonObject = {} if standing is None else msgspec.json.decode(standing)
        tags = content.get("tags")
        content["tags"] = {**(tags if isinstance(tags, dict) else {}), TAG: {}}
        position = self._stream.writer.allocate()
        row = AccountDataRow(user_id, room_id, TAGS, msgspec.json.encode(content), position)
        await self._stream.writer.append(AccountDataChange(position, row))
