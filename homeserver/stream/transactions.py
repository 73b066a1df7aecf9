"""Transaction ids: a repeated send of a device is answered with the event of the first.

client-server-api#transaction-identifiers: "The scope of a transaction ID is for a single device,
and a single HTTP endpoint."
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b

from homeserver.protocol.client_events import delay_id, transaction_id
from homeserver.store import events as event_store
from homeserver.store.database import Database
from homeserver.stream.changes import Change, DeviceListChange, EventChange
from homeserver.stream.drafts import Transaction
from homeserver.stream.stored_event import StoredEvent

DEVICES = 5000
SENDS_PER_DEVICE = 1000
SENDS = 200_000
"""Of all devices together, a quarter of a kilobyte each; looked at after so many sends:"""
LOOK_EVERY = 1000
DIGEST = 12
"""So many characters of a remembered key stand for the endpoint."""

DELAYED = "delayed"
"""The endpoint of events that are sent later (MSC4140): their transaction id is their delay id."""

Sent = OrderedDict[str, "str | asyncio.Future[str]"]


class SentTransactions:
    """What devices have sent, by transaction id; a device's past is read once from Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._devices: OrderedDict[tuple[str, str], Sent] = OrderedDict()
        self._sends = 0

    async def once(
        self,
        transaction: Transaction,
        endpoint: str,
        send: Callable[[Transaction], Awaitable[StoredEvent]],
    ) -> str:
        """The id of the event that `send` makes, or made the first time; its sender is the user.

        `endpoint` is the path without the transaction id. A failed send may be tried again.
        """
        sent = await self._sent_by(transaction.user_id, transaction.device_id)
        key = key_of(endpoint, transaction.transaction_id)
        known = sent.get(key)
        if known is not None:
            return known if isinstance(known, str) else await asyncio.shield(known)
        first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        sent[key] = first
        try:
            stored = await send(Transaction(transaction.user_id, transaction.device_id, key))
        except BaseException as error:
            sent.pop(key, None)
            if isinstance(error, Exception):
                first.set_exception(error)
                first.exception()  # the sender gets it; whoever else waits does, too
            else:
                first.cancel()
            raise
        first.set_result(stored.event_id)
        sent[key] = stored.event_id
        if len(sent) > SENDS_PER_DEVICE:
            sent.popitem(last=False)
        self._sends += 1
        if self._sends % LOOK_EVERY == 0:
            self._forget_idle()
        return stored.event_id

    def _forget_idle(self) -> None:
        """Let go of the devices that sent nothing for longest; they are read again if they do."""
        excess = sum(map(len, self._devices.values())) - SENDS
        while excess > 0 and len(self._devices) > 1:
            _, sent = self._devices.popitem(last=False)
            excess -= len(sent)

    def apply(self, changes: Sequence[Change]) -> None:
        """Take in a committed batch (called by the writer): who logs in again as a device that was
        logged out may begin to count anew."""
        for change in changes:
            if type(change) is DeviceListChange and change.is_deleted:
                self._devices.pop((change.user_id, change.device_id), None)

    def fail(self, changes: Sequence[Change]) -> None:
        """A commit failed and may yet have been carried out: read these devices again."""
        for change in changes:
            if isinstance(change, EventChange) and change.row.device_id is not None:
                self._devices.pop((change.row.sender, change.row.device_id), None)

    async def _sent_by(self, user_id: str, device_id: str) -> Sent:
        device = (user_id, device_id)
        sent = self._devices.get(device)
        if sent is None:
            async with self._database.connection() as connection:
                rows = await event_store.sent_by_device(connection, *device, SENDS_PER_DEVICE)
            sent = self._devices.setdefault(device, OrderedDict(rows))
        self._devices.move_to_end(device)
        if len(self._devices) > DEVICES:
            self._devices.popitem(last=False)
        return sent


def key_of(endpoint: str, name: str) -> str:
    """What a send is remembered by: a digest of its endpoint, then the id as the client gave it."""
    return blake2b(endpoint.encode(), digest_size=DIGEST // 2).hexdigest() + name


def own_fragment(key: str) -> bytes:
    """What only the device that sent an event sees in `unsigned`, by the remembered key."""
    endpoint, name = key[:DIGEST], key[DIGEST:]
    return delay_id(name) if endpoint == _DELAYED else transaction_id(name)


_DELAYED = key_of(DELAYED, "")
