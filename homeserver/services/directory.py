"""The room directory: aliases, and the list of published rooms.

client-server-api#room-aliases, #published-room-directory
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import structlog
from msgspec.structs import replace

from homeserver.clock import Clock
from homeserver.errors import Forbidden, InvalidParam, MatrixError, NotFound, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import CANONICAL_ALIAS
from homeserver.remote.directory import RemoteDirectory
from homeserver.requester import Requester
from homeserver.store import aliases as alias_store
from homeserver.store import listings as listing_store
from homeserver.store.aliases import AliasRow
from homeserver.store.database import Database
from homeserver.store.listings import Listing, Place, Search
from homeserver.stream.alias_names import AliasNames
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.room_power import room_power, state_event
from homeserver.stream.summaries import published_room

MAX_LIMIT = 500
DEFAULT_LIMIT = 100

log = structlog.get_logger(__name__)


class Filter(msgspec.Struct, omit_defaults=True):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class PublicRooms(msgspec.Struct, omit_defaults=True):
    """What of the directory is asked for. `limit` 0 means as many as there may be."""

    limit: int | None = None
    since: str | None = None
    filter: Filter | None = None
    include_all_networks: bool | Literal["true", "false"] = False
    third_party_instance_id: str | None = None

    @property
    def of_all_networks(self) -> bool:
        """SyTest, and who copied from it, send a string."""
        return self.include_all_networks in {True, "true"}


class Directory:
    """Aliases are made by members; who made one, or may set the canonical alias, deletes it."""

    def __init__(
        self, database: Database, stream: StreamCore, aliases: AliasNames, now: Clock
    ) -> None:
        self._database = database
        self._stream = stream
        self._aliases = aliases
        self._now = now

    async def add_alias(self, requester: Requester, alias: str, room_id: str) -> None:
        """Let an alias point to a room. Raises InvalidParam, Forbidden, UnknownError (409)."""
        self._aliases.require_own(alias)
        room = await self._stream.rooms.get(room_id)
        if not requester.is_admin and (
            room is None or room.membership_of(requester.user_id) != "join"
        ):
            raise Forbidden("You must be in the room to give it an alias")
        taken = UnknownError(f"The alias {alias} exists already", status=409)
        async with self._aliases.reserved(alias, requester, taken):
            row = AliasRow(alias, room_id, requester.user_id, self._now())
            async with self._database.connection() as connection:
                await alias_store.insert(connection, [row])
        self._aliases.claims.added(alias, room_id)

    async def delete_alias(self, requester: Requester, alias: str) -> None:
        """Remove an alias, from its room's canonical alias too. Raises NotFound, Forbidden."""
        self._aliases.require_own(alias)
        async with self._database.connection() as connection:
            row = await alias_store.find(connection, alias)
        if row is None:
            raise NotFound(f"There is no alias {alias}")
        is_creator = row.creator == requester.user_id or requester.is_admin
        if not is_creator and not await self._may_manage(requester, row.room_id):
            raise Forbidden("You may delete only your own aliases, or those of rooms that you run")
        async with self._database.connection() as connection:
            await alias_store.delete(connection, alias)
        await self._remove_from_state(requester, row)

    async def aliases_of(self, requester: Requester, room_id: str) -> list[str]:
        """The aliases of a room on this server. Raises Forbidden for those who can't look in."""
        readers = self._stream.reading.readers
        room = await self._stream.rooms.get(room_id)
        if room is None or (
            room.membership_of(requester.user_id) != "join"
            and not await readers.is_world_readable(room)
        ):
            raise Forbidden("You aren't a member of this room")
        async with self._database.connection() as connection:
            return await alias_store.of_room(connection, room_id)

    async def visibility(self, room_id: str) -> str:
        """`public` if the directory lists the room, else `private`. Raises NotFound."""
        room = await self._stream.rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        async with self._database.connection() as connection:
            published = await listing_store.is_published(connection, room.number)
        return "public" if published else "private"

    async def set_visibility(
        self, requester: Requester, room_id: str, visibility: Literal["public", "private"]
    ) -> None:
        """List a room in the directory, or take it out. Raises NotFound, Forbidden."""
        room = await self._stream.rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        if not requester.is_admin and not await self._may_manage(requester, room_id):
            raise Forbidden("Your power level in the room is too low to change this")
        async with self._database.connection() as connection:
            if visibility == "public":
                await listing_store.publish(connection, [room.number])
            else:
                await listing_store.unpublish(connection, room.number)

    async def set_network_visibility(
        self, service_id: str, network_id: str, room_id: str, visibility: str
    ) -> None:
        """List a room as one of an application service's network. Raises NotFound.

        client-server-api#put_matrixclientv3directorylistappservicenetworkidroomid
        """
        room = await self._stream.rooms.get(room_id)
        if room is None:
            raise NotFound("This server doesn't know the room")
        network = f"{service_id}|{network_id}"
        async with self._database.connection() as connection:
            if visibility == "public":
                await listing_store.publish(connection, [room.number], network)
            else:
                await listing_store.unpublish(connection, room.number, network)

    async def public_rooms(self, asked: PublicRooms, *, for_server: bool = False) -> JsonObject:
        """A page of the published rooms. Raises InvalidParam."""
        search = _search(asked, for_server)
        limit = _limit(asked.limit)
        place, backwards = _place(asked.since)
        async with self._database.connection() as connection:
            total = await listing_store.count(connection, search)
            if backwards and place is not None:
                found = await listing_store.page_before(connection, search, place, limit + 1)
            else:
                found = await listing_store.page(connection, search, place, limit + 1)
        more = len(found) > limit
        rooms = found[:limit][::-1] if backwards else found[:limit]
        answer: JsonObject = {
            "chunk": [published_room(room) for room in rooms],
            "total_room_count_estimate": total,
        }
        if rooms and (more or backwards):
            answer["next_batch"] = _token("n", rooms[-1])
        if rooms and (more if backwards else place is not None):
            answer["prev_batch"] = _token("p", rooms[0])
        return answer

    async def _may_manage(self, requester: Requester, room_id: str) -> bool:
        room = await self._stream.rooms.get(room_id)
        if room is None or room.membership_of(requester.user_id) != "join":
            return False
        power = await room_power(self._stream.rooms, room)
        return power.user(requester.user_id) >= power.event(CANONICAL_ALIAS, is_state=True)

    async def _remove_from_state(self, requester: Requester, row: AliasRow) -> None:
        """ "Servers which choose to update the canonical alias event are recommended to [...]
        return a successful response even if the user does not have permission" """
        room = await self._stream.rooms.get(row.room_id)
        standing = None
        if room is not None and room.membership_of(requester.user_id) == "join":
            standing = await state_event(self._stream.rooms, room, CANONICAL_ALIAS)
        if standing is None:
            return
        content = without_alias(standing.content, row.alias)
        if content == standing.content:
            return
        try:
            draft = Draft(requester.user_id, CANONICAL_ALIAS, content, "")
            await self._stream.sender.send(row.room_id, draft)
        except MatrixError as error:
            log.info("canonical alias not updated", room_id=row.room_id, reason=error.message)


class OtherDirectories:
    """What other servers' directories answer our users."""

    def __init__(self, remote: RemoteDirectory) -> None:
        self._remote = remote

    async def public_rooms(self, server_name: str, asked: PublicRooms) -> JsonObject:
        """A page of their published rooms. Raises Unreachable, RemoteRefusal."""
        limited = replace_limit(asked)
        if limited.filter is not None:
            request = msgspec.to_builtins(limited)
            return await self._remote.search_public_rooms(server_name, request)
        query = [("limit", str(limited.limit))]
        if limited.since is not None:
            query.append(("since", limited.since))
        if limited.of_all_networks:
            query.append(("include_all_networks", "true"))
        elif limited.third_party_instance_id is not None:
            query.append(("third_party_instance_id", limited.third_party_instance_id))
        return await self._remote.public_rooms(server_name, query)


def replace_limit(asked: PublicRooms) -> PublicRooms:
    """The request with a limit that is in bounds. Raises InvalidParam."""
    return msgspec.structs.replace(asked, limit=_limit(asked.limit))


def without_alias(content: JsonObject, alias: str) -> JsonObject:
    """The content of a canonical alias event that names this alias no more."""
    changed = {key: value for key, value in content.items() if key != "alias" or value != alias}
    others = changed.get("alt_aliases")
    if isinstance(others, list) and alias in others:
        changed["alt_aliases"] = [other for other in others if other != alias]
    return changed


def _search(asked: PublicRooms, for_server: bool) -> Search:
    wanted = asked.filter or Filter()
    term = wanted.generic_search_term
    if term is not None and "\0" in term:
        raise InvalidParam("The search term holds a NUL character")
    # "`third_party_instance_id`: The specific third-party network/protocol to request [...]. Can
    # only be used if `include_all_networks` is false."
    network = None if asked.of_all_networks else asked.third_party_instance_id or ""
    search = Search(term=term or None, only_federated=for_server, network=network)
    if wanted.room_types is None:
        return search
    return replace(search, room_types=[_without_nul(name) for name in wanted.room_types])


def _without_nul(name: str | None) -> str | None:
    return name if name is None else name.replace("\0", "")


def _limit(limit: int | None) -> int:
    if limit is None:
        return DEFAULT_LIMIT
    if limit < 0:
        raise InvalidParam("`limit` can't be negative")
    return min(limit, MAX_LIMIT) or MAX_LIMIT


def _token(direction: str, room: Listing) -> str:
    return f"{direction}{room.joined_members}_{room.facts.room_number}"


def _place(token: str | None) -> tuple[Place | None, bool]:
    """The place that a token names, and whether it asks for what stands before it."""
    if token is None:
        return None, False
    numbers: list[Any] = token[1:].split("_")
    if token[:1] not in ("n", "p") or len(numbers) != 2 or not all(map(_is_number, numbers)):
        raise InvalidParam("This is not a token that this server gave you")
    return Place(int(numbers[0]), int(numbers[1])), token[0] == "p"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18
