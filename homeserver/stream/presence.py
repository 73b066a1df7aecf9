"""Who is online: in memory, published like everything else, stored now and then.

Rules of this file:
- A change is published once, to the local users who share a room; nothing is done per reader.
- `_states` is in the order of positions, the newest last: a sync reads from its end.
client-server-api#presence
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import structlog
from msgspec import Struct, field
from msgspec.structs import replace

from homeserver.clock import Clock
from homeserver.errors import Unavailable
from homeserver.protocol.identifiers import server_name_of
from homeserver.protocol.presence import State, UserPresence
from homeserver.store import presence as presence_store
from homeserver.store.database import Database
from homeserver.store.presence import PresenceRow
from homeserver.stream.changes import Change, EventChange, PresenceChange
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUser, LiveUsers
from homeserver.stream.writer import StreamWriter

IDLE_MS = 5 * 60_000
"""After so long without doing anything they are "unavailable"."""
OFFLINE_MS = 30_000
"""So long after their last sync ended they are "offline"."""
REMOTE_MS = 30 * 60_000
"""A remote user of whom so long nothing was told is offline: servers tell anew before that."""
OPEN = 2**63
"""Later than any time: as long as a sync is open."""
SWEEP_SECONDS = 5.0
STORE_SECONDS = 60.0

log = structlog.get_logger(__name__)


class _Syncing(Struct):
    """How many syncs of a user are open, and when the last one ended.

    `online`: the devices whose syncs say that the user is there, and until when that counts.
    """

    open: int = 0
    ended_ts: int = 0
    online: dict[str | None, int] = field(default_factory=dict)

    def says(self, device_id: str | None, state: State | None, now: int) -> bool:
        """Take down what a device says; whether it counts.

        Who is there with one device isn't away because they left another. (If each of the two had
        its way with each sync, everybody who shares a room would be woken by each, and if these
        have two devices as well they would wake one another for ever.)
        """
        if state is not None:
            others = self.online.items()
            self.online = {d: until for d, until in others if d != device_id and until > now}
        if state == "online":
            self.online[device_id] = now + OFFLINE_MS
        return state != "unavailable" or not self.online


class _Visit:
    """One open sync: a class, since each request enters one and a generator costs more."""

    __slots__ = ("_device_id", "_now", "_syncing")

    def __init__(self, syncing: _Syncing, device_id: str | None, now: Clock) -> None:
        self._syncing = syncing
        self._device_id = device_id
        self._now = now

    def __enter__(self) -> None:
        self._syncing.open += 1
        self._counts_until(OPEN)

    def __exit__(self, *_: object) -> None:
        self._syncing.open -= 1
        self._syncing.ended_ts = self._now()
        self._counts_until(self._syncing.ended_ts + OFFLINE_MS)

    def _counts_until(self, until: int) -> None:
        if self._device_id in self._syncing.online:
            self._syncing.online[self._device_id] = until


_UNSEEN = nullcontext()


class Presence:
    """The presence of local users, and of remote ones as far as their servers told."""

    def __init__(
        self, database: Database, rooms: LiveRooms, users: LiveUsers, writer: StreamWriter
    ) -> None:
        self._database = database
        self._rooms = rooms
        self._users = users
        self._writer = writer
        self._clock: Clock | None = None
        self._states: OrderedDict[str, UserPresence] = OrderedDict()
        self._syncing: dict[str, _Syncing] = {}
        self._active: dict[str, int] = {}
        # When their servers last told of remote users who aren't offline, the oldest first.
        self._told: OrderedDict[str, int] = OrderedDict()
        self._unstored: set[str] = set()
        self.enabled = False

    async def start(self, clock: Clock) -> None:
        """Begin with what was stored; everybody is offline until they sync."""
        self._clock = clock
        self.enabled = True
        async with self._database.connection() as connection:
            for row in await presence_store.load(connection):
                self._states[row.user_id] = UserPresence(
                    row.user_id, "offline", row.status_msg, row.last_active_ts, 0
                )

    def of(self, user_id: str) -> UserPresence:
        """A user's presence: offline, if nothing is known."""
        return self._states.get(user_id) or UserPresence(user_id, "offline", None, 0, 0)

    def set(self, user_id: str, state: State, status_msg: str | None) -> None:
        """What a user says of themselves."""
        self._touch(user_id, self._now())
        self._publish(replace(self.of(user_id), state=state, status_msg=status_msg))

    def set_remote(self, server_name: str, told: Iterable[UserPresence]) -> None:
        """What another server says of its users; the positions are given here.

        Of those who share no room with any of ours, as far as the rooms are in memory, nothing is
        kept: a server could name any number of them.
        """
        rooms = [room for room in self._rooms.in_memory() if room.joined_servers[server_name]]
        for presence in told:
            shared = [r for r in rooms if r.membership_of(presence.user_id) == "join"]
            concerned = frozenset[str]().union(*(room.joined_local for room in shared))
            if concerned:
                self._publish(presence, concerned)
                self._told.pop(presence.user_id, None)
                if presence.state != "offline":
                    self._told[presence.user_id] = self._now()

    def online_here(self) -> list[UserPresence]:
        """The local users who aren't offline."""
        return [known for known in map(self.of, self._syncing) if known.state != "offline"]

    def syncing(
        self, user_id: str, device_id: str | None, state: State | None
    ) -> AbstractContextManager[None]:
        """While a user's client waits for news, it wants them to be seen in this state.

        None: it says nothing, and they are seen.
        """
        if not self.enabled or state == "offline":
            return _UNSEEN
        syncing = self._syncing.setdefault(user_id, _Syncing())
        counts = syncing.says(device_id, state, self._now())
        self._seen(self.of(user_id), state if counts else None)
        return _Visit(syncing, device_id, self._now)

    def _seen(self, known: UserPresence, state: State | None) -> None:
        """A sync doesn't wake somebody who is away, unless it says that it does."""
        if state == "online":
            self._touch(known.user_id, self._now())
        if known.state == "offline" or state not in (None, known.state):
            self._touch(known.user_id, self._now())
            self._publish(replace(known, state=state or "online"))

    def active(self, user_id: str) -> None:
        """A user did something: sent, read, typed."""
        if not self.enabled:
            return
        now = self._now()
        self._touch(user_id, now)
        known = self._states.get(user_id)
        if known is None or known.state != "unavailable" or user_id not in self._syncing:
            return
        self._publish(replace(known, state="online"))

    def since(self, user: LiveUser, since: int, upto: int) -> Iterator[UserPresence]:
        """The presences that changed after a position, of those who share a room with the user."""
        for presence in reversed(self._states.values()):
            if presence.position <= since:
                return
            if presence.position <= upto and self._shares_room(user, presence.user_id):
                yield presence

    def in_rooms(self, room_ids: Iterable[str]) -> Iterator[UserPresence]:
        """Everybody in these rooms who isn't offline, as far as the rooms are in memory."""
        seen: set[str] = set()
        for room_id in room_ids:
            room = self._rooms.peek(room_id)
            for user_id in () if room is None else self._states.keys() & room.members.keys():
                presence = self._states[user_id]
                joined = room is not None and room.membership_of(user_id) == "join"
                if joined and presence.state != "offline" and user_id not in seen:
                    seen.add(user_id)
                    yield presence

    def published(self, changes: Sequence[Change]) -> None:
        """Those who join a room are shown to the others in it (called by the writer)."""
        for change in changes:
            for row in change.memberships if isinstance(change, EventChange) else ():
                new = row.membership == "join" and row.joined_from == change.position
                known = self._states.get(row.user_id) if new and row.is_local else None
                if known is not None and known.state != "offline":
                    asyncio.get_running_loop().call_soon(self._publish, known)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer)."""
        for change in changes:
            if isinstance(change, PresenceChange):
                presence = change.presence
                self._states[presence.user_id] = replace(presence, position=change.position)
                self._states.move_to_end(presence.user_id)

    async def run(self) -> None:
        """Let users become idle and offline, and store what changed, until cancelled."""
        stored = asyncio.get_running_loop().time()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.sweep()
            if asyncio.get_running_loop().time() - stored > STORE_SECONDS:
                stored = asyncio.get_running_loop().time()
                await self.flush()

    def sweep(self) -> None:
        """One look at everybody who was online."""
        now = self._now()
        for user_id, syncing in list(self._syncing.items()):
            known = self.of(user_id)
            if not syncing.open and now - syncing.ended_ts > OFFLINE_MS:
                del self._syncing[user_id]
                if known.state != "offline":
                    self._publish(replace(known, state="offline"))
            elif known.state == "online" and now - self._active.get(user_id, now) > IDLE_MS:
                self._publish(replace(known, state="unavailable"))
        gone: dict[str, list[UserPresence]] = {}
        while self._told and now - next(iter(self._told.values())) > REMOTE_MS:
            user_id, _ = self._told.popitem(last=False)
            of_server = gone.setdefault(server_name_of(user_id), [])
            of_server.append(replace(self.of(user_id), state="offline"))
        for server_name, users in gone.items():
            self.set_remote(server_name, users)

    async def flush(self) -> None:
        """Store what changed since the last time."""
        rows = [
            PresenceRow(p.user_id, p.status_msg, p.last_active_ts)
            for p in map(self.of, self._unstored)
        ]
        self._unstored.clear()
        try:
            if rows:
                async with self._database.connection() as connection:
                    await presence_store.put(connection, rows)
        except Unavailable as error:
            self._unstored.update(row.user_id for row in rows)
            log.warning("presence not stored", reason=error.message)

    def _now(self) -> int:
        assert self._clock is not None, "presence was not started"
        return self._clock()

    def _touch(self, user_id: str, now: int) -> None:
        self._active[user_id] = now

    def _shares_room(self, user: LiveUser, user_id: str) -> bool:
        if user_id == user.user_id:
            return True
        for room_id, row in user.rooms.items():
            if row.membership == "join":
                room = self._rooms.peek(room_id)
                if room is not None and room.membership_of(user_id) == "join":
                    return True
        return False

    def _publish(self, presence: UserPresence, concerned: frozenset[str] | None = None) -> None:
        """`concerned`: whom a remote user's concerns. Theirs isn't stored: they may be any number,
        and their servers tell again."""
        active = self._active.get(presence.user_id, presence.last_active_ts)
        presence = replace(presence, last_active_ts=max(active, presence.last_active_ts))
        position = self._writer.allocate()
        if concerned is None:
            self._unstored.add(presence.user_id)
            concerned = self._concerned(presence.user_id)
        change = PresenceChange(position, presence, concerned)
        self._writer.submit(change)

    def _concerned(self, user_id: str) -> frozenset[str]:
        """The local users who share a room with this one, as far as the rooms are in memory."""
        user = self._users.peek(user_id)
        # Not the user: their own sync would answer itself with "you are online".
        concerned: set[str] = set()
        for room_id in () if user is None else user.joined_rooms():
            room = self._rooms.peek(room_id)
            if room is not None:
                concerned |= room.joined_local
        concerned.discard(user_id)
        return frozenset(concerned)
