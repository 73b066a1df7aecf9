"""Which store function writes which kind of change, and whom each kind concerns."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from homeserver.protocol.push_rules import UNCHANGED
from homeserver.store import account_data as account_data_store
from homeserver.store import aliases as alias_store
from homeserver.store import backward_extremities as gap_store
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import device_keys as device_key_store
from homeserver.store import device_lists as device_list_store
from homeserver.store import devices as device_store
from homeserver.store import events as event_store
from homeserver.store import listings as listing_store
from homeserver.store import partial_rooms as partial_store
from homeserver.store import push_rule_history as history_store
from homeserver.store import receipts as receipt_store
from homeserver.store import relations as relation_store
from homeserver.store import rooms as room_store
from homeserver.store import state as state_store
from homeserver.store import thread_subscriptions as thread_subscription_store
from homeserver.store import to_device as to_device_store
from homeserver.store import visibility as visibility_store
from homeserver.store import waiting_redactions as waiting_store
from homeserver.store.database import Connection
from homeserver.store.device_lists import DeviceListRow
from homeserver.store.visibility import VisibilityStart
from homeserver.stream.changes import (
    AccountDataChange,
    CompletionChange,
    DeviceListChange,
    DirectoryChange,
    EventChange,
    MembershipChange,
    OutliersChange,
    PartialRoomChange,
    PresenceChange,
    ReceiptChange,
    ThreadSubscriptionChange,
    ToDeviceChange,
    TypingChange,
    last_heads,
)
from homeserver.stream.completion_tables import write_completions
from homeserver.stream.facts import write_facts
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.push_rules import is_push_rules
from homeserver.stream.relations import relation_row, relation_rows

Users = Callable[[Any], Iterable[str]]


async def write_events(connection: Connection, changes: Sequence[EventChange]) -> None:
    """Events and all that follows from them: one statement per table that has anything to write."""
    new_rooms = [change.new_room for change in changes if change.new_room is not None]
    if new_rooms:
        await room_store.insert(connection, new_rooms)
    await event_store.append(
        connection,
        [change.row for change in changes if not change.was_outlier],
        last_heads(changes),
    )
    placed = [change for change in changes if change.was_outlier]
    if placed:
        rows, positions = [c.row for c in placed], [c.position for c in placed]
        await event_store.place(connection, rows, positions)
    await write_facts(connection, changes)
    groups = [group for change in changes for group in change.state_groups]
    if groups:
        await state_store.insert(connection, groups)
    memberships = [row for change in changes for row in change.memberships]
    if memberships:
        await room_store.put_memberships(connection, memberships)
    await _write_gaps(connection, changes)
    redactions = await _write_redactions(connection, changes)
    relations = relation_rows(changes)
    if relations:
        await relation_store.insert(connection, relations)
    if redactions:
        await relation_store.delete(connection, redactions)


async def _write_redactions(
    connection: Connection, changes: Sequence[EventChange]
) -> Sequence[str]:
    """What is redacted, and what waits to be; gives the events that were hit."""
    waits = [change.waits for change in changes if change.waits is not None]
    if waits:
        await waiting_store.insert(connection, waits)
    done = [number for change in changes for number in change.awaited_by]
    if done:
        await waiting_store.delete(connection, done)
    redactions = [(c.redacts, c.row.number) for c in changes if c.redacts is not None]
    if redactions:
        await event_store.mark_redacted(connection, redactions)
    return [event_id for event_id, _ in redactions]


async def _write_gaps(connection: Connection, changes: Sequence[EventChange]) -> None:
    filled = [change.stored.event_id for change in changes if change.fills_gap]
    if filled:
        await gap_store.delete(connection, filled)
    starts = [
        VisibilityStart(c.row.room_number, c.row.timeline_order, c.visibility_before)
        for c in changes
        if c.visibility_before is not None and c.row.timeline_order is not None
    ]
    if starts:
        await visibility_store.put_starts(connection, starts)
    missing = [
        (change.row.room_number, event_id, order)
        for change in changes
        for event_id in change.missing
        if (order := change.row.timeline_order or change.gap_order) is not None
    ]
    if missing:
        await gap_store.put(connection, missing)


async def write_outliers(connection: Connection, changes: Sequence[OutliersChange]) -> None:
    new_rooms = [change.new_room for change in changes if change.new_room is not None]
    if new_rooms:
        await room_store.insert(connection, new_rooms)
    await event_store.append(connection, [row for change in changes for row in change.rows], [])


async def write_memberships(connection: Connection, changes: Sequence[MembershipChange]) -> None:
    new_rooms = [change.new_room for change in changes if change.new_room is not None]
    if new_rooms:
        await room_store.insert(connection, new_rooms)
    await room_store.put_memberships(connection, [change.row for change in changes])


async def write_partial_rooms(connection: Connection, changes: Sequence[PartialRoomChange]) -> None:
    last = {change.room_number: change.row for change in changes}
    entered = [row for row in last.values() if row is not None]
    if entered:
        await partial_store.put(connection, entered)
    ended = [number for number, row in last.items() if row is None]
    if ended:
        await partial_store.delete(connection, ended)


async def write_directory(connection: Connection, changes: Sequence[DirectoryChange]) -> None:
    aliases = [change.alias for change in changes if change.alias is not None]
    if aliases:
        await alias_store.insert(connection, aliases)
    published = [change.room_number for change in changes if change.is_published]
    if published:
        await listing_store.publish(connection, published)


async def write_receipts(connection: Connection, changes: Sequence[ReceiptChange]) -> None:
    await receipt_store.put(connection, [change.row for change in changes])


async def write_thread_subscriptions(
    connection: Connection, changes: Sequence[ThreadSubscriptionChange]
) -> None:
    await thread_subscription_store.put(connection, [change.row for change in changes])


async def write_account_data(connection: Connection, changes: Sequence[AccountDataChange]) -> None:
    rows = [change.row for change in changes]
    rules = {row.user_id: row for row in rows if is_push_rules(row)}
    if rules:
        await history_store.keep(connection, list(rules.values()), UNCHANGED)
    await account_data_store.put(connection, rows)


async def write_device_lists(connection: Connection, changes: Sequence[DeviceListChange]) -> None:
    keys = [change.device_keys for change in changes if change.device_keys is not None]
    if keys:
        await device_key_store.put(connection, keys)
    deleted = [(change.user_id, change.device_id) for change in changes if change.is_deleted]
    if deleted:
        await device_store.delete(connection, deleted)
        await to_device_store.delete_inboxes(connection, deleted)
    cross_signing = [row for change in changes for row in change.cross_signing]
    if cross_signing:
        await cross_signing_store.put(connection, cross_signing)
    signatures = [row for change in changes for row in change.user_signatures]
    if signatures:
        await cross_signing_store.sign(connection, signatures)
    rows = [DeviceListRow(c.position, c.user_id, c.device_id, c.only_for) for c in changes]
    await device_list_store.add(connection, rows)


async def write_to_device(connection: Connection, changes: Sequence[ToDeviceChange]) -> None:
    messages = [row for change in changes for row in change.messages]
    if messages:
        await to_device_store.put(connection, messages)
    outgoing = [row for change in changes for row in change.outgoing]
    if outgoing:
        await to_device_store.put_outgoing(connection, outgoing)
    transactions = [c.transaction for c in changes if c.transaction is not None]
    if transactions:
        await to_device_store.put_transactions(connection, transactions)


TABLES: dict[type, Callable[[Connection, Any], Awaitable[None]] | None] = {
    OutliersChange: write_outliers,
    EventChange: write_events,
    CompletionChange: write_completions,
    PartialRoomChange: write_partial_rooms,
    MembershipChange: write_memberships,
    DirectoryChange: write_directory,
    ReceiptChange: write_receipts,
    AccountDataChange: write_account_data,
    DeviceListChange: write_device_lists,
    ToDeviceChange: write_to_device,
    ThreadSubscriptionChange: write_thread_subscriptions,
    TypingChange: None,
    PresenceChange: None,
}
"""In the order of writing."""

_ONE_STATEMENT = frozenset((ReceiptChange,))


def is_one_statement(changes: Sequence[Any]) -> bool:
    """Whether changes of one type are written by a single statement."""
    if type(changes[0]) is EventChange:
        return all(
            change.new_room is None
            and change.redacts is None
            and not change.state_groups
            and not change.memberships
            and not change.was_outlier
            and not change.missing
            and not change.fills_gap
            and change.visibility_before is None
            and change.waits is None
            and not change.awaited_by
            and relation_row(change) is None
            for change in changes
        )
    if type(changes[0]) is AccountDataChange:
        return not any(is_push_rules(change.row) for change in changes)
    return type(changes[0]) in _ONE_STATEMENT


OWNER_OF: dict[type, Users] = {
    AccountDataChange: lambda change: (change.row.user_id,),
    ThreadSubscriptionChange: lambda change: (change.row.user_id,),
}
"""The kinds of change that belong to users, and to whom."""


def concerned(rooms: LiveRooms) -> dict[type, Users]:
    """For each kind of change: the local users whose long polls have to look."""

    def members(change: EventChange | ReceiptChange | TypingChange) -> Iterable[str]:
        room = rooms.peek(change.room_id)
        joined: Iterable[str] = () if room is None else room.joined_local
        if isinstance(change, EventChange) and not change.in_timeline:
            return ()
        if isinstance(change, EventChange) and change.memberships:
            return [*joined, *(row.user_id for row in change.memberships if row.is_local)]
        return joined

    return {
        EventChange: members,
        OutliersChange: lambda _: (),
        PartialRoomChange: lambda _: (),
        CompletionChange: lambda change: change.concerned,
        MembershipChange: lambda change: (change.row.user_id,),
        DirectoryChange: lambda _: (),
        ReceiptChange: members,
        TypingChange: members,
        ToDeviceChange: lambda change: {row.user_id for row in change.messages},
        # `DeviceLists` wakes the others: who they are is not known in memory.
        DeviceListChange: lambda change: (change.only_for or change.user_id,),
        PresenceChange: lambda change: change.concerned,
        **OWNER_OF,
    }
