"""The parts of the hot room, built and joined: the writer and those that follow it in memory."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.config import Caches
from homeserver.histogram import Histogram
from homeserver.protocol.signatures import Signer
from homeserver.store.database import Database
from homeserver.stream.event_cache import EventCache
from homeserver.stream.facts import ListedRooms
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.notifier import Notifier
from homeserver.stream.push_rules import LivePushRules
from homeserver.stream.send import Sender
from homeserver.stream.sync import Sync
from homeserver.stream.tables import OWNER_OF, TABLES, concerned, is_one_statement
from homeserver.stream.transactions import SentTransactions
from homeserver.stream.typing import Typing
from homeserver.stream.writer import StreamWriter

BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, slots=True)
class StreamCore:
    """What `build` joins. The writer is to be started before anybody uses the rest."""

    writer: StreamWriter
    rooms: LiveRooms
    users: LiveUsers
    push_rules: LivePushRules
    listed: ListedRooms
    notifier: Notifier
    sender: Sender
    transactions: SentTransactions
    sync: Sync
    typing: Typing

    def close_long_polls(self) -> None:
        """The server ends: whoever sleeps is answered now, and nobody falls asleep again."""
        self.typing.close()
        self.notifier.close()


def build(database: Database, caches: Caches, signer: Signer) -> StreamCore:
    """The hot room over one database. Callbacks are in the order in which they are called."""
    writer = StreamWriter(
        database, dict(TABLES), is_one_statement, Histogram(), Histogram(BATCH_SIZES)
    )
    rooms = LiveRooms(
        database,
        EventCache(caches.events),
        capacity=caches.live_rooms,
        timeline_length=caches.timeline_events,
    )
    users = LiveUsers(database, lambda: writer.position, OWNER_OF, capacity=caches.users)
    push_rules = LivePushRules(database, capacity=caches.users)
    listed = ListedRooms(database)
    transactions = SentTransactions(database)
    notifier = Notifier(concerned(rooms))
    writer.on_apply(rooms.apply)
    writer.on_apply(users.apply)
    writer.on_apply(listed.apply)
    writer.on_apply(push_rules.apply)
    writer.on_publish(notifier.published)
    writer.on_failure(rooms.fail)
    writer.on_failure(users.fail)
    writer.on_failure(listed.fail)
    writer.on_failure(push_rules.fail)
    writer.on_failure(transactions.fail)
    return StreamCore(
        writer=writer,
        rooms=rooms,
        users=users,
        push_rules=push_rules,
        listed=listed,
        notifier=notifier,
        sender=Sender(database, rooms, writer, signer),
        transactions=transactions,
        sync=Sync(database, rooms, users, writer, notifier),
        typing=Typing(writer),
    )
