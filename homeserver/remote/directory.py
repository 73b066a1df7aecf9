"""Questions to other servers' directories: their aliases, their published rooms.

server-server-api#querying-for-information, #published-room-directory
"""

from __future__ import annotations

from homeserver.errors import NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_id, is_server_name
from homeserver.protocol.room_summaries import readable_directory
from homeserver.remote.client import FederationClient, Query, Terms, path_to
from homeserver.remote.errors import RemoteRefusal

TERMS = Terms(seconds=15.0, max_bytes=2 * 1024 * 1024)
MAX_SERVERS = 100


class RemoteDirectory:
    """Asks the server that a question is for. Everything raises Unreachable or RemoteRefusal."""

    def __init__(self, client: FederationClient) -> None:
        self._client = client

    async def resolve(self, server_name: str, alias: str) -> tuple[str, list[str]]:
        """The room id of an alias and servers that are in the room. Raises NotFound."""
        path = path_to("/_matrix/federation/v1/query/directory", query=[("room_alias", alias)])
        try:
            answer = await self._client.get(server_name, path, TERMS)
        except RemoteRefusal as refusal:
            if refusal.remote_status == 404:
                raise NotFound(f"There is no alias {alias}") from None
            raise
        room_id = answer.get("room_id")
        if not is_room_id(room_id):
            raise NotFound(f"{server_name} knows no room for {alias}")
        servers = answer.get("servers")
        known = [s for s in servers if is_server_name(s)] if isinstance(servers, list) else []
        return room_id, known[:MAX_SERVERS]

    async def public_rooms(self, server_name: str, query: Query) -> JsonObject:
        """A page of the server's directory."""
        path = path_to("/_matrix/federation/v1/publicRooms", query=query)
        return readable_directory(await self._client.get(server_name, path, TERMS))

    async def search_public_rooms(self, server_name: str, request: JsonObject) -> JsonObject:
        """A page of the server's directory, filtered."""
        path = "/_matrix/federation/v1/publicRooms"
        return readable_directory(await self._client.post(server_name, path, request, TERMS))
