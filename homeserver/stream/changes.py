"""What can happen: each kind of change, as the stream writer takes it and the followers get it.

Rules of this file: a change is made once and never edited; it carries its `position`, whom it
concerns, and what its table needs. `app.py` joins each kind with the store function that writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from immutables import Map
from msgspec import Struct
from msgspec.structs import replace

from homeserver.protocol.presence import UserPresence
from homeserver.store.account_data import AccountDataRow
from homeserver.store.aliases import AliasRow
from homeserver.store.cross_signing import CrossSigningRow, UserSignatureRow
from homeserver.store.device_keys import DeviceKeysRow
from homeserver.store.events import HeadRow
from homeserver.store.partial_rooms import PartialRow
from homeserver.store.receipts import ReceiptRow
from homeserver.store.received_pdus import ReceivedPdu
from homeserver.store.rooms import MembershipRow, RoomRow
from homeserver.store.state import CompletedGroup, GroupSize, StateGroupRow, StateKey
from homeserver.store.thread_subscriptions import ThreadSubscriptionRow
from homeserver.store.to_device import OutgoingRow, ToDeviceRow
from homeserver.store.to_device import TransactionRow as ToDeviceTransactionRow
from homeserver.store.waiting_redactions import WaitingRedaction

if TYPE_CHECKING:
    from homeserver.store.events import EventRow
    from homeserver.stream.stored_event import StoredEvent


class Change(Protocol):
    """Anything that a follower can ever be told. The writer only needs its position."""

    @property
    def position(self) -> int: ...


class StateChange(Struct, frozen=True):
    """One key of a room's current state: the event (None: nothing) that stood and stands there."""

    key: StateKey
    old: str | None
    new: str | None


class EventChange(Struct, frozen=True, eq=False):
    """An event of a room, with the head and the state that it leaves behind.

    `in_timeline`: followers are told of it (not an outlier, rejected or soft-failed).
    `redacts`: the event id whose redaction this event brings into effect. `was_outlier`: the event
    is in the database already, and now gets its place. `missing`: those of its prev_events that we
    lack, below its own place or (if it has none) below `gap_order`; `fills_gap`: others may have
    lacked it. `waits`: a redaction whose target we lack; `awaited_by`: the numbers of those that
    waited for this event. `visibility_before`: the history visibility where
    our history begins with it; `shown_changes`: what it changed in that history, where
    `state_changes` have all that we learned with it.
    """

    position: int
    room_id: str
    row: EventRow
    stored: StoredEvent
    head: HeadRow | None
    in_timeline: bool
    state_changes: tuple[StateChange, ...] = ()
    state_groups: tuple[StateGroupRow, ...] = ()
    memberships: tuple[MembershipRow, ...] = ()
    redacts: str | None = None
    new_room: RoomRow | None = None
    was_outlier: bool = False
    missing: tuple[str, ...] = ()
    gap_order: int | None = None
    fills_gap: bool = False
    waits: WaitingRedaction | None = None
    awaited_by: tuple[int, ...] = ()
    visibility_before: str | None = None
    shown_changes: tuple[StateChange, ...] | None = None


class OutliersChange(Struct, frozen=True, eq=False):
    """Events that are stored without a place in the room's timeline: what others refer to."""

    position: int
    room_id: str
    rows: tuple[EventRow, ...]
    new_room: RoomRow | None = None


class MembershipChange(Struct, frozen=True, eq=False):
    """A membership that no event of a room we know brought: a remote invite, a forgotten room."""

    position: int
    room_id: str
    row: MembershipRow
    new_room: RoomRow | None = None


class PartialRoomChange(Struct, frozen=True, eq=False):
    """A room is entered with a part of its state (`row`), or anew with all of it (None)."""

    position: int
    room_id: str
    room_number: int
    row: PartialRow | None


class TakenBack(Struct, frozen=True, eq=False):
    """Events that the whole state doesn't bear out: they lose their places, to be received anew.

    `head` is what is left: the join with which we entered. `groups` are those that they made.
    """

    events: tuple[StoredEvent, ...]
    groups: tuple[int, ...]
    head: HeadRow
    pdus: tuple[ReceivedPdu, ...]


class CompletionChange(Struct, frozen=True, eq=False):
    """We have the whole state of a room that we entered with a part of it: the past is put right.

    `before` is the state before our join. `state` is the room's state now, its group as long as
    `size` says; `groups` are the snapshots since we entered, with all that they lacked; `replaced`
    are events and the state events that they replaced, as is known only now. `memberships` are
    those of all remote users whose membership we learn; `concerned` the local members.
    """

    position: int
    room_id: str
    row: PartialRow
    before: Map[StateKey, str]
    state: Map[StateKey, str]
    size: GroupSize
    groups: tuple[CompletedGroup, ...]
    memberships: tuple[MembershipRow, ...]
    concerned: tuple[str, ...]
    replaced: tuple[tuple[StoredEvent, StoredEvent], ...] = ()
    taken_back: TakenBack | None = None


class AccountDataChange(Struct, frozen=True, eq=False):
    """Account data of a user, global or of a room."""

    position: int
    row: AccountDataRow


class DirectoryChange(Struct, frozen=True, eq=False):
    """What the directory has of a new room: its alias, and whether it is published."""

    position: int
    room_number: int
    alias: AliasRow | None
    is_published: bool


class ReceiptChange(Struct, frozen=True, eq=False):
    """A user's receipt in a room."""

    position: int
    room_id: str
    row: ReceiptRow


class ThreadSubscriptionChange(Struct, frozen=True, eq=False):
    """A user subscribed to a thread, or unsubscribed from it (MSC4306)."""

    position: int
    row: ThreadSubscriptionRow


class PresenceChange(Struct, frozen=True, eq=False):
    """A user's presence, and the local users who share a room with them. Never stored here."""

    position: int
    presence: UserPresence
    concerned: frozenset[str]


class TypingChange(Struct, frozen=True, eq=False):
    """Who types in a room from now on. Never stored."""

    position: int
    room_id: str
    user_ids: tuple[str, ...]


class ToDeviceChange(Struct, frozen=True, eq=False):
    """What one request (or EDU) sends to devices, of this server and of others."""

    position: int
    messages: tuple[ToDeviceRow, ...] = ()
    outgoing: tuple[OutgoingRow, ...] = ()
    transaction: ToDeviceTransactionRow | None = None


class DeviceListChange(Struct, frozen=True, eq=False):
    """A user's devices or their keys have changed, and with them this is written.

    `device_id` is '' where it is not about one device. `only_for` is the one user whom it
    concerns; None: everybody who shares a room with `user_id`, who may be a remote user.
    `is_deleted`: the (local) device ends, with its tokens, keys and inbox.
    """

    position: int
    user_id: str
    device_id: str = ""
    only_for: str | None = None
    device_keys: DeviceKeysRow | None = None
    is_deleted: bool = False
    cross_signing: tuple[CrossSigningRow, ...] = ()
    user_signatures: tuple[UserSignatureRow, ...] = ()


def last_heads(changes: Sequence[EventChange]) -> list[HeadRow]:
    """Of the heads that a batch leaves, the last of each room."""
    heads: dict[int, HeadRow] = {}
    for change in changes:
        head = change.head
        if head is None:
            continue
        before = heads.get(head.room_number)
        if before is not None and before.bump_position > head.bump_position:
            head = replace(head, bump_position=before.bump_position)
        heads[head.room_number] = head
    return list(heads.values())


BUMPS = frozenset(
    (
        "m.room.create",
        "m.room.message",
        "m.room.encrypted",
        "m.sticker",
        "m.call.invite",
        "m.poll.start",
        "org.matrix.msc3381.poll.start",
        "m.beacon_info",
        "org.matrix.msc3672.beacon_info",
    )
)
"""Event types that move a room up in a list of rooms (MSC4186)."""


def bump_position(event_type: str, number: int) -> int:
    """An event's position if it moves its room up, else 0."""
    return number if event_type in BUMPS else 0
