"""What room aliases point to; which are taken.

Rules of this file: this process is the only one that makes aliases, so an alias that is held in
memory (`reserved`) or stands in the database is taken, and no other is.
client-server-api#room-aliases
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from homeserver.errors import BadAlias, Exclusive, InvalidParam, MatrixError, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_alias, server_name_of
from homeserver.remote.directory import RemoteDirectory
from homeserver.requester import Requester
from homeserver.store import aliases as alias_store
from homeserver.store.aliases import AliasRow
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.live_rooms import LiveRooms

MAX_SERVERS = 50
MAX_NEW_ALIASES = 50
LOOK_UPS_AT_ONCE = 10


class AliasClaims(Struct, frozen=True):
    """What application services have to do with aliases.

    `owner_of`: the id of the service that claims an alias for itself; `ask` whether one has made
    an unknown alias; `added` is told of an alias and its room.
    """

    owner_of: Callable[[str], str | None]
    ask: Callable[[str], Awaitable[bool]]
    added: Callable[[str, str], None]


class AliasNames:
    """Aliases of this server, and by way of their servers those of others."""

    def __init__(
        self,
        database: Database,
        rooms: LiveRooms,
        remote: RemoteDirectory,
        server_name: str,
        claims: AliasClaims,
    ) -> None:
        self.claims = claims
        self._database = database
        self._rooms = rooms
        self._remote = remote
        self._server_name = server_name
        self._reserved: set[str] = set()

    def alias_of(self, localpart: str) -> str:
        """The alias of this server with that localpart. Raises InvalidParam."""
        alias = f"#{localpart}:{self._server_name}"
        if ":" in localpart or not localpart or any(c.isspace() for c in localpart):
            raise InvalidParam(f"{localpart!r} can't be the localpart of an alias")
        return require_alias(alias)

    def require_own(self, alias: str) -> None:
        """Raises InvalidParam unless it is an alias of this server."""
        if server_name_of(require_alias(alias)) != self._server_name:
            raise InvalidParam(f"{alias} is an alias of another server")

    def is_own(self, alias: str) -> bool:
        return server_name_of(alias) == self._server_name

    @asynccontextmanager
    async def reserved(
        self, alias: str, requester: Requester, taken: MatrixError
    ) -> AsyncIterator[None]:
        """Nobody else makes this alias as long as the block lasts. Raises `taken`, Exclusive."""
        if self.claims.owner_of(alias) not in (None, requester.app_service):
            raise Exclusive(f"The alias {alias} is reserved by an application service")
        if alias in self._reserved:
            raise taken
        self._reserved.add(alias)
        try:
            async with self._database.connection() as connection:
                if await alias_store.find(connection, alias) is not None:
                    raise taken
            yield
        finally:
            self._reserved.discard(alias)

    async def resolve(self, alias: str) -> tuple[str, list[str]]:
        """The room id and servers by which to join it. Raises InvalidParam, NotFound, Unreachable.

        Other servers' aliases are asked of them.
        """
        require_alias(alias)
        if not self.is_own(alias):
            server_name = server_name_of(alias)
            room_id, servers = await self._remote.resolve(server_name, alias)
            return room_id, list(dict.fromkeys([server_name, *servers]))
        return await self.resolve_own(alias)

    async def resolve_own(self, alias: str) -> tuple[str, list[str]]:
        """The same for an alias of this server. Raises NotFound."""
        row = await self._find(alias)
        if row is None and await self.claims.ask(alias):
            row = await self._find(alias)
        if row is None:
            raise NotFound(f"There is no alias {alias}")
        room = await self._rooms.get(row.room_id)
        servers = [] if room is None else servers_in(room)
        return row.room_id, list(dict.fromkeys([self._server_name, *servers]))[:MAX_SERVERS]

    async def _find(self, alias: str) -> AliasRow | None:
        async with self._database.connection() as connection:
            return await alias_store.find(connection, alias)

    async def check_canonical(
        self, room_id: str, content: JsonObject, standing: JsonObject
    ) -> None:
        """Whether a new `m.room.canonical_alias` names only aliases of its room.

        "Servers do not validate aliases which are being removed or are already present in the
        state event." Raises InvalidParam, BadAlias.
        """
        known = set(_named(standing))
        new = [alias for alias in dict.fromkeys(_named(content)) if alias not in known]
        if len(new) > MAX_NEW_ALIASES:
            raise InvalidParam(f"At most {MAX_NEW_ALIASES} aliases can be added at once")
        for alias in new:
            if not is_room_alias(alias):
                raise InvalidParam(f"{alias!r} is not a room alias")
        at_once = asyncio.Semaphore(LOOK_UPS_AT_ONCE)
        rooms = await asyncio.gather(*(self._room_of(alias, at_once) for alias in new))
        for alias, found in zip(new, rooms, strict=True):
            if found != room_id:
                raise BadAlias(f"The alias {alias} does not point to this room")

    async def _room_of(self, alias: str, at_once: asyncio.Semaphore) -> str | None:
        async with at_once:
            try:
                return (await self.resolve(alias))[0]
            except MatrixError:
                return None


def require_alias(alias: Any) -> str:
    """The alias, if it is one. Raises InvalidParam."""
    if not is_room_alias(alias):
        raise InvalidParam(f"{alias!r} is not a room alias")
    return alias


def servers_in(room: LiveRoom) -> list[str]:
    """The servers in a room, those with the most joined users first."""
    return [server_name for server_name, _ in room.joined_servers.most_common(MAX_SERVERS)]


def _named(content: JsonObject) -> Iterable[Any]:
    alias = content.get("alias")
    if alias not in (None, ""):
        yield alias if isinstance(alias, str) else repr(alias)
    others = content.get("alt_aliases")
    if others is not None and not isinstance(others, list):
        raise InvalidParam("`alt_aliases` must be a list of aliases")
    yield from (other if isinstance(other, str) else repr(other) for other in others or ())
