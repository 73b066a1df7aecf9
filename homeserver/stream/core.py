"""The parts of the hot room, built and joined: the writer and those that follow it in memory."""

from __future__ import annotations

from contextlib import suppress

from msgspec import Struct

from homeserver.clock import now_ms
from homeserver.config import Caches
from homeserver.errors import Unavailable
from homeserver.histogram import Histogram
from homeserver.protocol.push_defaults import Defaults
from homeserver.protocol.signatures import Signer
from homeserver.store.database import Database
from homeserver.stream.bundles import Bundles
from homeserver.stream.device_list_log import DeviceListLog
from homeserver.stream.device_lists import DeviceLists
from homeserver.stream.drafts import DraftEvents
from homeserver.stream.event_cache import EventCache
from homeserver.stream.facts import ListedRooms
from homeserver.stream.heads import Heads
from homeserver.stream.ignored_users import IgnoredUsers
from homeserver.stream.inboxes import Inboxes
from homeserver.stream.invite_permission import InvitePermission
from homeserver.stream.key_counts import KeyCounts
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.live_users import LiveUsers
from homeserver.stream.notifier import Notifier
from homeserver.stream.presence import Presence
from homeserver.stream.push_evaluator import PushEvaluator
from homeserver.stream.push_rules import LivePushRules
from homeserver.stream.reading import rooms as reading_rooms
from homeserver.stream.reading.rooms import Reading
from homeserver.stream.sections.account_data import AccountDataLog
from homeserver.stream.sections.device_lists import device_lists_section
from homeserver.stream.sections.joined_rooms import JoinedRooms
from homeserver.stream.sections.lazy_members import SentMembers
from homeserver.stream.sections.one_time_keys import one_time_keys_section
from homeserver.stream.sections.presence import presence_section
from homeserver.stream.sections.to_device import to_device_section
from homeserver.stream.sections.windows import Windows
from homeserver.stream.send import Sender
from homeserver.stream.sliding.build import Ground
from homeserver.stream.sliding.build import build as build_sliding
from homeserver.stream.sliding.encryption import e2ee_extension, to_device_extension
from homeserver.stream.sliding.sync import SlidingSync
from homeserver.stream.sliding.thread_subscriptions import thread_subscriptions_extension
from homeserver.stream.sync import Sync
from homeserver.stream.tables import OWNER_OF, TABLES, concerned, is_one_statement
from homeserver.stream.thread_subscribers import ThreadSubscribers
from homeserver.stream.transactions import SentTransactions
from homeserver.stream.typing import Typing
from homeserver.stream.unread import Unread
from homeserver.stream.whole_rooms import WholeRooms
from homeserver.stream.writer import StreamWriter

LAZY_MEMBERS = 200_000
"""Member events of which is known which device was sent them: a quarter of a kilobyte each."""
BATCH_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class StreamCore(Struct, frozen=True):
    """What `build` joins. The writer is to be started before anybody uses the rest."""

    writer: StreamWriter
    rooms: LiveRooms
    users: LiveUsers
    push_rules: LivePushRules
    push_evaluator: PushEvaluator
    unread: Unread
    listed: ListedRooms
    notifier: Notifier
    sender: Sender
    transactions: SentTransactions
    sync: Sync
    sliding_sync: SlidingSync
    presence: Presence
    typing: Typing
    reading: Reading
    ignored_users: IgnoredUsers
    inboxes: Inboxes
    key_counts: KeyCounts
    device_lists: DeviceLists
    device_list_log: DeviceListLog
    whole_rooms: WholeRooms

    async def start(self) -> None:
        """Take the writer lock; from here on memory knows what happens."""
        await self.writer.start()
        await self.rooms.learn_erased()
        self.rooms.changed_floor = self.device_list_log.floor = self.writer.position
        await self.typing.begin()

    async def stop(self) -> None:
        """Write down what memory holds, then end the writer: it drains."""
        with suppress(Unavailable):
            await self.typing.end()
        await self.writer.stop()

    def close_long_polls(self) -> None:
        """The server ends: whoever sleeps is answered now, and nobody falls asleep again."""
        self.typing.close()
        self.notifier.close()


def build(database: Database, caches: Caches, signer: Signer, defaults: Defaults) -> StreamCore:
    """The hot room over one database. Callbacks are in the order in which they are called."""
    writer = _writer(database)
    rooms = _rooms(database, caches)
    ignored_users = IgnoredUsers(database, capacity=caches.users)
    invites = InvitePermission(database, ignored_users, capacity=caches.users)
    users = LiveUsers(database, lambda: writer.position, OWNER_OF, invites, capacity=caches.users)
    push_rules = LivePushRules(database, defaults, capacity=caches.users)
    listed = ListedRooms(database)
    bundles = Bundles(database, rooms, ignored_users)
    windows = Windows(database, rooms, bundles, ignored_users)
    threads = ThreadSubscribers(database, capacity=caches.users)
    push_evaluator = PushEvaluator(rooms, push_rules, threads)
    unread = Unread(database, rooms, push_rules)
    transactions = SentTransactions(database)
    notifier = Notifier(concerned(rooms))
    inboxes = Inboxes(database, now_ms, capacity=caches.users)
    key_counts = KeyCounts(database, capacity=caches.users)
    device_list_log = DeviceListLog(rooms)
    device_lists = DeviceLists(database, users, rooms, writer, notifier, device_list_log)
    joined = JoinedRooms(database, rooms, SentMembers(LAZY_MEMBERS), windows, unread)
    account_data = AccountDataLog(database, push_rules)
    sync = Sync(account_data, rooms, users, writer, notifier, joined)
    presence = Presence(database, rooms, users, writer)
    key_sections = [one_time_keys_section(key_counts), device_lists_section(device_lists)]
    sync.sections += [to_device_section(inboxes), *key_sections, presence_section(presence)]
    ground = Ground(rooms, users, listed, windows, unread, account_data, notifier, writer)
    of_threads = thread_subscriptions_extension(database)
    extensions = [to_device_extension(inboxes), e2ee_extension(key_sections), of_threads]
    of_users = (push_rules, ignored_users, invites, inboxes, key_counts)
    applied = (device_list_log, rooms, users, listed, *of_users, presence, push_evaluator)
    for applying in (*applied, transactions):
        writer.on_apply(applying.apply)
    writer.on_publish(notifier.published)
    writer.on_publish(presence.published)
    for failing in (rooms, users, listed, *of_users, device_list_log, transactions, push_evaluator):
        writer.on_failure(failing.fail)
    return StreamCore(
        writer=writer,
        rooms=rooms,
        users=users,
        push_rules=push_rules,
        push_evaluator=push_evaluator,
        unread=unread,
        listed=listed,
        notifier=notifier,
        sender=_sender(database, rooms, writer, signer, push_evaluator),
        transactions=transactions,
        sync=sync,
        sliding_sync=build_sliding(ground, extensions),
        presence=presence,
        typing=Typing(database, rooms, writer),
        reading=reading_rooms.build(database, rooms, writer, bundles, now_ms),
        ignored_users=ignored_users,
        inboxes=inboxes,
        key_counts=key_counts,
        device_lists=device_lists,
        device_list_log=device_list_log,
        whole_rooms=WholeRooms(rooms, writer),
    )


def _writer(database: Database) -> StreamWriter:
    seconds, sizes = Histogram(), Histogram(BATCH_SIZES)
    return StreamWriter(database, dict(TABLES), is_one_statement, seconds, sizes)


def _rooms(database: Database, caches: Caches) -> LiveRooms:
    return LiveRooms(
        database,
        EventCache(caches.events),
        capacity=caches.live_rooms,
        timeline_length=caches.timeline_events,
    )


def _sender(
    database: Database,
    rooms: LiveRooms,
    writer: StreamWriter,
    signer: Signer,
    push: PushEvaluator,
) -> Sender:
    drafts = DraftEvents(database, rooms, signer)
    return Sender(rooms, writer, drafts, Heads(rooms, drafts, push), push)
