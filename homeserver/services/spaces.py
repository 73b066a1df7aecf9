"""The rooms of a space, and of the spaces in it: depth first, page by page.

Rules of this file: a level of the tree is read at once, however many rooms it has; each room is
shown once, so that circles do no harm.
client-server-api#get_matrixclientv1roomsroomidhierarchy
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

from msgspec import Struct, field

from homeserver.errors import Forbidden, InvalidParam, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_room_id, server_name_of
from homeserver.protocol.spaces import CHILD, SPACE, Child, in_order, is_child
from homeserver.requester import Requester
from homeserver.store import listings as listing_store
from homeserver.store.database import Database
from homeserver.store.listings import Listing
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.summaries import Visitor, room_summary, visitor

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_DEPTH = 20
MAX_ROOMS = 10_000


class Asked(Struct, frozen=True):
    """The parameters of a request."""

    suggested_only: bool
    max_depth: int
    limit: int
    token: str | None

    def start(self) -> int:
        """How many rooms the pages before this one had. Raises InvalidParam."""
        if self.token is None:
            return 0
        offset, _, parameters = self.token.partition("_")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 10):
            raise InvalidParam("This is not a token that this server gave you")
        if parameters != self._parameters():
            raise InvalidParam("`suggested_only` and `max_depth` can't change from page to page")
        return int(offset)

    def token_at(self, offset: int) -> str:
        """The token of the page that begins after so many rooms."""
        return f"{offset}_{self._parameters()}"

    def _parameters(self) -> str:
        return f"{int(self.suggested_only)}_{self.max_depth}"


class Found(Struct):
    """A room of the tree. `children` in order; of rooms that aren't spaces there are none."""

    summary: JsonObject
    children: Sequence[Child] = ()

    @property
    def json(self) -> JsonObject:
        return {**self.summary, "children_state": [child.stripped for child in self.children]}


Elsewhere = Callable[[Sequence[Child], Visitor], Awaitable[Mapping[str, Found]]]
"""Asks other servers about rooms that we don't know: those that the visitor may see."""


class _Tree(Struct):
    rooms: dict[str, Found] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class Spaces:
    """Walks through spaces. `elsewhere` is asked about rooms that this server isn't in."""

    def __init__(self, database: Database, rooms: LiveRooms, users: LiveUsers) -> None:
        self._database = database
        self._rooms = rooms
        self._users = users
        self.elsewhere: Elsewhere | None = None

    async def hierarchy(self, requester: Requester, room_id: str, asked: Asked) -> JsonObject:
        """A page of the tree below a room. Raises Forbidden, InvalidParam."""
        start = asked.start()
        looking = visitor(await self._users.get(requester.user_id))
        rooms = await self._tree(room_id, looking, asked)
        if room_id not in rooms:
            raise Forbidden("There is no such room, or you may not look into it")
        order = _depth_first(room_id, rooms)
        page = order[start : start + asked.limit]
        answer: JsonObject = {"rooms": [rooms[r].json for r in page]}
        if start + asked.limit < len(order):
            answer["next_batch"] = asked.token_at(start + asked.limit)
        return answer

    async def for_server(self, server_name: str, room_id: str, suggested_only: bool) -> JsonObject:
        """A room and its children, as far as that server may look into them. Raises NotFound.

        server-server-api#get_matrixfederationv1hierarchyroomid
        """
        room = await self._rooms.get(room_id)
        found = (await self.children_of([room_id])).get(room_id)
        if room is None or found is None or not room.joined_local:
            raise NotFound("There is no such room, or your server may not look into it")
        children = [child for child in found if child.is_suggested or not suggested_only]
        listings = await self._current([room_id, *(child.room_id for child in children)])
        looking = await self._server_as_visitor(server_name, listings.values())
        seen = {
            room_id: listing
            for room_id, listing in listings.items()
            if listing.facts.is_federated and looking.may_preview(listing)
        }
        if room_id not in seen:
            raise NotFound("There is no such room, or your server may not look into it")
        parent = Found(room_summary(seen[room_id]), children)
        if seen[room_id].facts.room_type != SPACE:
            parent.children = ()
        known = [child.room_id for child in parent.children if child.room_id in listings]
        return {
            "room": parent.json,
            "children": [room_summary(seen[r]) for r in known if r in seen],
            "inaccessible_children": [r for r in known if r not in seen],
        }

    async def _current(self, room_ids: Sequence[str]) -> dict[str, Listing]:
        """What we know of these rooms, as far as we are in them: "Rooms which the responding server
        cannot provide details on will be outright excluded from the response"."""
        rooms = await self._rooms.get_many(room_ids)
        async with self._database.connection() as connection:
            listings = await listing_store.by_ids(connection, room_ids)
        return {
            r: listing for r, listing in listings.items() if r in rooms and rooms[r].joined_local
        }

    async def _server_as_visitor(self, server_name: str, listings: Iterable[Listing]) -> Visitor:
        """Who one of the server's users might be."""
        ids = {r for each in listings for r in (each.room_id, *each.facts.allowed_room_ids)}
        memberships: dict[str, str] = {}
        for room_id, room in (await self._rooms.get_many(ids)).items():
            if room.joined_servers[server_name]:
                memberships[room_id] = "join"
            elif any(
                row.membership == "invite" and server_name_of(user_id) == server_name
                for user_id, row in room.members.items()
            ):
                memberships[room_id] = "invite"
        return Visitor(memberships)

    async def children_of(self, room_ids: Iterable[str]) -> dict[str, Sequence[Child]]:
        """The children of these rooms in order; a fixed number of queries."""
        live = await self._rooms.get_many(room_ids)
        keys = {
            room.state[key]: room.room_id
            for room in live.values()
            for key in room.state
            if key[0] == CHILD and is_room_id(key[1])
        }
        async with self._database.connection() as connection:
            events = await self._rooms.events.get_many(connection, keys, self._rooms.rules_of)
        children: dict[str, list[Child]] = {room_id: [] for room_id in live}
        for event_id, stored in events.items():
            content = stored.content
            if is_child(content) and stored.state_key is not None:
                child = Child(stored.state_key, stored.sender, content, stored.origin_server_ts)
                children[keys[event_id]].append(child)
        return {room_id: in_order(found) for room_id, found in children.items()}

    async def _tree(self, root: str, looking: Visitor, asked: Asked) -> dict[str, Found]:
        """The rooms of the tree that the visitor may see, level by level."""
        tree = _Tree(seen={root})
        level = [Child(root, "", {"via": []}, 0)]
        for depth in range(asked.max_depth + 1):
            found = await self._level(level, looking, asked)
            tree.rooms |= found
            if depth == asked.max_depth or len(tree.rooms) > MAX_ROOMS:
                break
            level = _unseen(found.values(), tree)
            if not level:
                break
        return tree.rooms

    async def _level(
        self, level: Sequence[Child], looking: Visitor, asked: Asked
    ) -> dict[str, Found]:
        async with self._database.connection() as connection:
            listings = await listing_store.by_ids(connection, [c.room_id for c in level])
        known = {r: listing for r, listing in listings.items() if listing.joined_members}
        found = {
            room_id: Found(room_summary(listing))
            for room_id, listing in known.items()
            if looking.may_preview(listing)
        }
        spaces = [r for r in found if known[r].facts.room_type == SPACE]
        for room_id, children in (await self.children_of(spaces) if spaces else {}).items():
            found[room_id].children = [
                child for child in children if child.is_suggested or not asked.suggested_only
            ]
        unknown = [child for child in level if child.room_id not in known]
        if unknown and self.elsewhere is not None:
            found |= await self.elsewhere(unknown, looking)
        return found


def _unseen(rooms: Iterable[Found], tree: _Tree) -> list[Child]:
    """The next level: children that no level before had."""
    level = []
    for room in rooms:
        for child in room.children:
            if child.room_id not in tree.seen:
                tree.seen.add(child.room_id)
                level.append(child)
    return level


def _depth_first(root: str, rooms: Mapping[str, Found]) -> list[str]:
    order: dict[str, None] = {}
    stack = [root]
    while stack:
        room_id = stack.pop()
        if room_id not in order:
            order[room_id] = None
            below = (child.room_id for child in rooms[room_id].children)
            stack += reversed([r for r in below if r in rooms and r not in order])
    return list(order)
