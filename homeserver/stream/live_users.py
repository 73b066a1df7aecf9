"""Local users in memory: their rooms, and the newest changes that are theirs alone.

Rules of this file: `LiveUser.log` holds every change of the user above `log_floor`, in order; who
asks from further back reads Postgres.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct, field

from homeserver.store import account_data as account_data_store
from homeserver.store import rooms as room_store
from homeserver.store.database import Database
from homeserver.store.rooms import MembershipRow
from homeserver.stream.changes import AccountDataChange, Change, EventChange, MembershipChange
from homeserver.stream.invite_permission import InvitePermission

LOG_LENGTH = 200


class LiveUser(Struct, eq=False):
    """A local user's memberships and newest changes.

    A forgotten room keeps the position at which it was left: who synced before is told of that.
    """

    user_id: str
    log_floor: int
    rooms: dict[str, MembershipRow] = field(default_factory=dict)
    log: list[Change] = field(default_factory=list)
    last_membership: int = 0
    data: dict[tuple[str, str], bytes] | None = None
    """Account data by (room id or '', type), once `load_account_data` has read it."""
    reading: list[dict[tuple[str, str], bytes]] = field(default_factory=list)
    """What is published while account data are read, for each who reads them."""

    def changes_since(self, position: int) -> list[Change] | None:
        """The user's own changes above a position, or None if memory doesn't reach back so far."""
        if position < self.log_floor:
            return None
        log = self.log
        if not log or log[-1].position <= position:
            return []
        return [change for change in log if change.position > position]

    def joined_rooms(self) -> list[str]:
        return [room_id for room_id, row in self.rooms.items() if row.membership == "join"]

    def put_room(self, room_id: str, row: MembershipRow) -> None:
        known = self.rooms.get(room_id)
        if known is not None and known.position > row.position:
            return
        self.last_membership = max(self.last_membership, row.position)
        self.rooms[room_id] = row

    def append(self, change: Change) -> None:
        self.log.append(change)
        if isinstance(change, AccountDataChange):
            for data in (*self.reading, *(() if self.data is None else (self.data,))):
                data[(change.row.room_id, change.row.type)] = change.row.content
        if len(self.log) > 2 * LOG_LENGTH:
            self.log_floor = self.log[-LOG_LENGTH - 1].position
            del self.log[:-LOG_LENGTH]


class LiveUsers:
    """At most `capacity` users, loaded when first asked for, kept current by the writer.

    `owner_of` maps the kinds of change that belong to one user to a function that names the user.
    `invites` tells which invites they want.
    """

    def __init__(
        self,
        database: Database,
        position: Callable[[], int],
        owner_of: dict[type, Callable[[Change], Iterable[str]]],
        invites: InvitePermission,
        *,
        capacity: int,
    ) -> None:
        self._database = database
        self._position = position
        self._owner_of = owner_of
        self.invites = invites
        self._capacity = capacity
        self._users: OrderedDict[str, LiveUser] = OrderedDict()
        self._loading: dict[str, list[LiveUser]] = {}

    def peek(self, user_id: str) -> LiveUser | None:
        return self._users.get(user_id)

    async def get(self, user_id: str) -> LiveUser:
        """The user's rooms and newest changes; one query if they aren't in memory."""
        user = self._users.get(user_id)
        if user is not None:
            self._users.move_to_end(user_id)
            return user
        # Registered before the query: what is published meanwhile is not lost.
        fresh = LiveUser(user_id, self._position())
        self._loading.setdefault(user_id, []).append(fresh)
        try:
            async with self._database.connection() as connection:
                rows = await room_store.memberships_of_user(connection, user_id)
        finally:
            self._loading[user_id].remove(fresh)
            if not self._loading[user_id]:
                del self._loading[user_id]
        for room_id, row in rows:
            fresh.put_room(room_id, row)
        user = self._users.setdefault(user_id, fresh)
        if len(self._users) > self._capacity:
            self._users.popitem(last=False)
        return user

    async def load_account_data(self, user: LiveUser) -> dict[tuple[str, str], bytes]:
        """All of a user's account data; one query if it isn't in memory."""
        if user.data is not None:
            return user.data
        data: dict[tuple[str, str], bytes] = {}
        user.reading.append(data)
        try:
            async with self._database.connection() as connection:
                rows = await account_data_store.of_user(connection, user.user_id)
        finally:
            user.reading = [other for other in user.reading if other is not data]
        for row in rows:
            # What was published meanwhile is newer.
            data.setdefault((row.room_id, row.type), row.content)
        if user.data is None:
            user.data = data
        return user.data

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            kind = type(change)
            if isinstance(change, EventChange):
                for row in change.memberships:
                    self._put_room(row, change.room_id)
            elif isinstance(change, MembershipChange):
                self._put_room(change.row, change.room_id)
            elif kind in self._owner_of:
                for user_id in self._owner_of[kind](change):
                    for user in self._copies(user_id):
                        user.append(change)

    def _copies(self, user_id: str) -> list[LiveUser]:
        loading = self._loading.get(user_id, ())
        user = self._users.get(user_id)
        return [*loading] if user is None else [user, *loading]

    def _put_room(self, row: MembershipRow, room_id: str) -> None:
        if row.is_local:
            for user in self._copies(row.user_id):
                user.put_room(room_id, row)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read everything again."""
        self._users.clear()
