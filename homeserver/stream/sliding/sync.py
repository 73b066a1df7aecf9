"""The long poll of sliding sync: watch, read, sleep (MSC4186)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from msgspec import Struct

from homeserver.protocol.filters import EVERYTHING
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.notifier import Notifier
from homeserver.stream.sliding.connections import ConnectionKey, Connections, Told, Turn, UnknownPos
from homeserver.stream.sliding.extensions import RoomExtensions, Scope
from homeserver.stream.sliding.listings import Listings
from homeserver.stream.sliding.lists import (
    ListAnswer,
    UserFacts,
    answer_list,
    direct_rooms,
    shown_rooms,
    tags_of,
)
from homeserver.stream.sliding.request import Extensions, SlidingSyncBody
from homeserver.stream.sliding.rooms import Asked, SlidingRooms
from homeserver.stream.sliding.verification import Verifications
from homeserver.stream.sync import long_poll
from homeserver.stream.sync_request import SyncRequest, encode, json_object
from homeserver.stream.writer import StreamWriter

CONNECTIONS = 5_000


class Caller(Struct, frozen=True):
    """Whose connection it is. `pos`: the position the client goes on from."""

    user_id: str
    device_id: str | None
    pos: str | None
    now: int


class ExtensionPart(Struct, frozen=True):
    """What an extension tells. `news`: worth ending a long poll for."""

    name: str
    json: bytes
    news: bool = True


class SlidingSync:
    """Answers `POST .../org.matrix.simplified_msc3575/sync`.

    `extensions` are further ones that other chapters bring (to-device, end-to-end encryption,
    thread subscriptions): called with the request, the connection's told state and the position.
    """

    def __init__(
        self,
        sliding_rooms: SlidingRooms,
        listings: Listings,
        room_extensions: RoomExtensions,
        users: LiveUsers,
        notifier: Notifier,
        writer: StreamWriter,
    ) -> None:
        self._users = users
        self._listings = listings
        self._room_extensions = room_extensions
        self._notifier = notifier
        self._writer = writer
        self._sliding_rooms = sliding_rooms
        self.connections = Connections(CONNECTIONS)
        self._verifications = Verifications(listings.rooms, notifier, CONNECTIONS)
        self.extensions: list[FurtherExtension] = []

    async def answer(self, caller: Caller, body: SlidingSyncBody, patience: float) -> bytes:
        """The response's JSON; waits up to `patience` seconds for news. Raises UnknownPos."""
        turn = self.connections.begin(_key(caller, body), caller.pos)
        if turn.told.holds_step:
            self._verifications.was_read(_device(caller), turn.told.position)
        if turn.told.position == 0:
            patience = 0
        deadline = asyncio.get_running_loop().time() + patience
        with self._notifier.watch(caller.user_id) as watch:
            found = await long_poll(
                watch,
                lambda: self._writer.position,
                lambda upto: self._read(caller, body, turn, upto, always=patience == 0),
                deadline,
            )
        if found is not None:
            return found
        last = await self._read(caller, body, turn, self._writer.position, always=True)
        assert last is not None
        return last

    async def _read(
        self, caller: Caller, body: SlidingSyncBody, turn: Turn, upto: int, *, always: bool
    ) -> bytes | None:
        if self.connections.is_over(turn):
            return _nothing_for(turn)
        told = turn.told
        # The same question as before: only what happened since can be new.
        asked_before = told.body == body
        owed = body.extensions.e2ee.enabled and self._verifications.is_owed(_device(caller))
        if asked_before and not (always or owed or self._may_have_news(caller, told)):
            return None
        user = await self._users.get(caller.user_id)
        request = SyncRequest(
            caller.user_id, caller.device_id, told.position or None, EVERYTHING, caller.now
        )
        wanted = await self._users.invites.wanted(caller.user_id)
        listing = await self._listings.of(user, wanted, upto)
        facts = await self._user_facts(user, body)
        lists = {
            name: answer_list(asked, listing.rooms, facts) for name, asked in body.lists.items()
        }
        shown = shown_rooms(body.lists, lists, body.room_subscriptions)
        asked = Asked(request, user, told, shown, listing.by_id, facts.direct, upto)
        encoded, told_rooms = await self._sliding_rooms.read(asked)
        joined = frozenset(
            r for r in shown if r in user.rooms and user.rooms[r].membership == "join"
        )
        scope = Scope(request, user, told, joined, lists, body.room_subscriptions)
        parts = await self._extension_parts(scope, body.extensions, upto)
        if not (always or owed or encoded or any(part.news for part in parts)):
            return None
        if self.connections.is_over(turn):
            return _nothing_for(turn)
        after = Told(
            number=self.connections.next_number(turn.key),
            position=upto,
            rooms=told.rooms.update(told_rooms) if told_rooms else told.rooms,
            shown=frozenset(shown),
            body=body,
            holds_step=self._holds_step(caller, body, told, encoded),
        )
        if owed:
            self._verifications.answered(_device(caller))
        self.connections.tell(turn, after)
        return _response(after.pos, body, lists, encoded, parts)

    def _holds_step(
        self, caller: Caller, body: SlidingSyncBody, told: Told, room_ids: Iterable[str]
    ) -> bool:
        if body.extensions.e2ee.enabled:
            return False  # it has no other connection for encryption
        return self._verifications.told_with(caller.user_id, told.position, room_ids)

    def _may_have_news(self, caller: Caller, told: Told) -> bool:
        return self._notifier.may_have_news(caller.user_id, told.position)

    async def _user_facts(self, user: LiveUser, body: SlidingSyncBody) -> UserFacts:
        data = await self._users.load_account_data(user)
        filters = [asked.filters for asked in body.lists.values()]
        tags: dict[str, frozenset[str]] = {}
        if any(f.tags is not None or f.not_tags is not None for f in filters):
            tags = {
                room_id: tags_of(content)
                for (room_id, kind), content in data.items()
                if kind == "m.tag"
            }
        spaces = {space for f in filters for space in f.spaces or ()}
        return UserFacts(
            direct=direct_rooms(data.get(("", "m.direct"))),
            tags=tags,
            children=await self._listings.children(user, spaces) if spaces else {},
        )

    async def _extension_parts(
        self, scope: Scope, asked: Extensions, upto: int
    ) -> list[ExtensionPart]:
        room_extensions = self._room_extensions
        found = [
            (name, await read(scope, extension))
            for name, extension, read in (
                ("account_data", asked.account_data, room_extensions.account_data),
                ("typing", asked.typing, room_extensions.typing),
                ("receipts", asked.receipts, room_extensions.receipts),
            )
            if extension.enabled
        ]
        parts = [ExtensionPart(name, json) for name, json in found if json is not None]
        for extension in self.extensions:
            parts.extend(await extension(scope, asked, upto))
        return parts


def _nothing_for(turn: Turn) -> bytes:
    """For a request whose place a newer one has taken: it leaves the client where it was."""
    if turn.told.number == 0:
        raise UnknownPos("A newer request has started this connection again")
    return _response(turn.told.pos, SlidingSyncBody(), {}, {}, ())


def _device(caller: Caller) -> tuple[str, str | None]:
    return (caller.user_id, caller.device_id)


def _key(caller: Caller, body: SlidingSyncBody) -> ConnectionKey:
    return (caller.user_id, caller.device_id, body.conn_id)


FurtherExtension = Callable[[Scope, Extensions, int], Awaitable[Sequence[ExtensionPart]]]


def _response(
    position: str,
    body: SlidingSyncBody,
    lists: dict[str, ListAnswer],
    rooms: dict[str, bytes],
    parts: Sequence[ExtensionPart],
) -> bytes:
    members = [
        (b'"pos"', encode(position)),
        (b'"lists"', encode({name: _list(answer) for name, answer in lists.items()})),
        (b'"rooms"', json_object([(encode(r), json) for r, json in rooms.items()])),
        (b'"extensions"', json_object([(encode(part.name), part.json) for part in parts])),
    ]
    if body.txn_id is not None:
        members.append((b'"txn_id"', encode(body.txn_id)))
    return json_object(members)


def _list(answer: ListAnswer) -> dict[str, object]:
    ops = [
        {"op": "SYNC", "range": [window.first, window.last], "room_ids": window.room_ids}
        for window in answer.windows
    ]
    return {"count": answer.count, "ops": ops}
