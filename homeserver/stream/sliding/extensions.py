"""The extensions of sliding sync that tell of rooms and account data (MSC3959, 3960, 3961)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from homeserver.protocol.filters import EVERY_ROOM_EVENT
from homeserver.store.account_data import AccountDataRow
from homeserver.store.receipts import ReceiptRow
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.sections.account_data import AccountDataLog, account_data_events
from homeserver.stream.sections.ephemeral import receipt_event, typing_event, visible_receipts
from homeserver.stream.sliding.connections import Told
from homeserver.stream.sliding.lists import ListAnswer
from homeserver.stream.sliding.request import Extension, RoomConfig
from homeserver.stream.sync_request import SyncRequest, encode, json_object

Json = bytes | None


class Scope(Struct, frozen=True):
    """What an answer is about, as extensions need it. `joined`: the shown rooms the user is in."""

    request: SyncRequest
    user: LiveUser
    told: Told
    joined: frozenset[str]
    lists: Mapping[str, ListAnswer]
    subscriptions: Mapping[str, RoomConfig]

    def rooms_of(self, extension: Extension) -> frozenset[str]:
        """The joined rooms that an extension asks about: all that are shown, or those it names."""
        if extension.lists is None and extension.rooms is None:
            return self.joined
        names = self.lists if extension.lists is None else extension.lists
        asked: set[str] = set()
        for name in self.lists if "*" in names else names:
            for window in self.lists[name].windows if name in self.lists else ():
                asked.update(window.room_ids)
        rooms = self.subscriptions if extension.rooms is None else extension.rooms
        asked.update(self.subscriptions if "*" in rooms else rooms)
        return self.joined & asked

    def known_since(self, room_id: str) -> int | None:
        """The stream position up to which the connection knows of a room; None: not at all."""
        if room_id not in self.told.rooms:
            return None
        if room_id in self.told.shown:
            return self.told.position
        return self.told.rooms[room_id].upto


class RoomExtensions:
    """Typing, receipts and account data."""

    def __init__(self, account_data: AccountDataLog, rooms: LiveRooms, users: LiveUsers) -> None:
        self._account_data = account_data
        self._rooms = rooms
        self._users = users

    async def account_data(self, scope: Scope, extension: Extension) -> Json:
        """Global account data and that of the rooms in scope, None if nothing is new."""
        since = scope.told.position or None
        request = replace(scope.request, since=since)
        found = await self._account_data.read(request, scope.user)
        members = []
        events = account_data_events(EVERY_ROOM_EVENT, found.pop("", ()))
        if events:
            members.append((b'"global"', b"[" + b",".join(events) + b"]"))
        rooms = await self._room_data(scope, scope.rooms_of(extension), found)
        if rooms:
            members.append((b'"rooms"', json_object(rooms)))
        return json_object(members) if members else None

    async def _room_data(
        self, scope: Scope, room_ids: Iterable[str], changed: Mapping[str, list[AccountDataRow]]
    ) -> list[tuple[bytes, bytes]]:
        new = {room_id for room_id in room_ids if scope.known_since(room_id) is None}
        known = scope.joined - new
        rows = {r: list(found) for r, found in changed.items() if r in known}
        if new:
            data = await self._users.load_account_data(scope.user)
            for (room_id, kind), content in data.items():
                if room_id in new:
                    row = AccountDataRow(scope.user.user_id, room_id, kind, content, 0)
                    rows.setdefault(room_id, []).append(row)
        return [
            (encode(r), b"[" + b",".join(account_data_events(EVERY_ROOM_EVENT, found)) + b"]")
            for r, found in rows.items()
        ]

    async def typing(self, scope: Scope, extension: Extension) -> Json:
        """Who types in the rooms in scope, where that changed."""

        def event(room: LiveRoom, since: int | None) -> Json:
            if room.typing_position > (since or 0) and (room.typing or since is not None):
                return typing_event(room)
            return None

        return await self._per_room(scope, extension, event)

    async def receipts(self, scope: Scope, extension: Extension) -> Json:
        """The receipts that changed; of a new room those of the user and of the timeline's end."""
        user_id = scope.user.user_id

        def event(room: LiveRoom, since: int | None) -> Json:
            rows = room.receipts_since(since or 0)
            if since is None:
                rows = _of_new_room(room, rows, user_id)
            visible = visible_receipts(rows, user_id)
            return receipt_event(visible) if visible else None

        changed = self._changed_rooms(scope, extension)
        live = await self._rooms.get_many(changed)
        await self._rooms.load_receipts(live.values())
        return await self._per_room(scope, extension, event)

    async def _per_room(
        self,
        scope: Scope,
        extension: Extension,
        event: Callable[[LiveRoom, int | None], Json],
    ) -> Json:
        live = await self._rooms.get_many(self._changed_rooms(scope, extension))
        members = []
        for room_id, room in live.items():
            found = event(room, scope.known_since(room_id))
            if found is not None:
                members.append((encode(room_id), found))
        return json_object([(b'"rooms"', json_object(members))]) if members else None

    def _changed_rooms(self, scope: Scope, extension: Extension) -> list[str]:
        changed = []
        for room_id in scope.rooms_of(extension):
            since = scope.known_since(room_id)
            if since is None or self._rooms.last_change(room_id) > since:
                changed.append(room_id)
        return changed


def _of_new_room(room: LiveRoom, rows: list[ReceiptRow], user_id: str) -> list[ReceiptRow]:
    """Not the receipts of everybody who ever read there: a big room has thousands."""
    newest = {entry.stored.event_id for entry in room.timeline[-20:]}
    return [row for row in rows if row.user_id == user_id or row.event_id in newest]
