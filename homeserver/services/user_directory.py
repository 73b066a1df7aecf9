"""Finding people, and the rooms that one shares with them.

client-server-api#user-directory, #mutual-rooms
"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_user_id
from homeserver.requester import Requester
from homeserver.store import profiles as profile_store
from homeserver.store import user_directory as people_store
from homeserver.store.database import Database
from homeserver.store.user_directory import Person

DEFAULT_LIMIT = 10
MAX_LIMIT = 50
MAX_WORDS = 10
ROOMS_AT_ONCE = 200


class UserDirectory:
    """Shows users only those whom they could meet anyway."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, requester: Requester, term: str, limit: int | None) -> JsonObject:
        """Users whose id or name holds the words of a term. Raises InvalidParam."""
        if limit is not None and limit < 0:
            raise InvalidParam("`limit` can't be negative")
        wanted = DEFAULT_LIMIT if limit is None else min(limit, MAX_LIMIT)
        words = term.replace("\0", " ").split()[:MAX_WORDS]
        if not words or not wanted:
            return {"results": [], "limited": False}
        async with self._database.connection() as connection:
            found = await people_store.search(connection, requester.user_id, words, wanted + 1)
            local = [person.user_id for person in found if person.is_local]
            profiles = await profile_store.get_many(connection, local)
        results = [_shown(person, profiles.get(person.user_id)) for person in found[:wanted]]
        return {"results": results, "limited": len(found) > wanted}

    async def mutual_rooms(
        self, requester: Requester, user_id: str, token: str | None
    ) -> JsonObject:
        """The rooms that both are in, and a token if there are more. Raises InvalidParam."""
        if not is_user_id(user_id):
            raise InvalidParam(f"{user_id!r} is not a user id")
        if user_id == requester.user_id:
            raise InvalidParam("You share all your rooms with yourself")
        after = _after(token)
        async with self._database.connection() as connection:
            rooms = await people_store.mutual_rooms(connection, requester.user_id, user_id)
        page = [(number, room_id) for number, room_id in rooms if number > after]
        answer: JsonObject = {
            "joined": [room_id for _, room_id in page[:ROOMS_AT_ONCE]],
            "count": len(rooms),
        }
        if len(page) > ROOMS_AT_ONCE:
            answer["next_batch"] = str(page[ROOMS_AT_ONCE - 1][0])
        return answer


def _shown(person: Person, profile: JsonObject | None) -> JsonObject:
    """What the search tells: of our own users what they say of themselves everywhere."""
    name, avatar = person.display_name, person.avatar_url
    if person.is_local:
        name, avatar = (profile or {}).get("displayname"), (profile or {}).get("avatar_url")
    shown: JsonObject = {"user_id": person.user_id}
    if isinstance(name, str):
        shown["display_name"] = name
    if isinstance(avatar, str) and avatar.startswith("mxc://"):
        shown["avatar_url"] = avatar
    return shown


def _after(token: str | None) -> int:
    if token is None:
        return 0
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidParam("This is not a token that this server gave you")
    return int(token)
