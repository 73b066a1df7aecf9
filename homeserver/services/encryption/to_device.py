"""Sending from device to device, within this server and to others.

client-server-api#send-to-device-messaging, server-server-api#send-to-device-messaging
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from homeserver.clock import Clock
from homeserver.errors import BadJson, InvalidParam, Unavailable
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.identifiers import (
    is_compliant_user_id,
    is_device_id,
    is_user_id,
    server_name_of,
)
from homeserver.store import devices as device_store
from homeserver.store import to_device as to_device_store
from homeserver.store.database import Database
from homeserver.store.to_device import DeviceKey, OutgoingRow, ToDeviceRow, TransactionRow
from homeserver.stream.changes import ToDeviceChange
from homeserver.stream.writer import StreamWriter

EVERY_DEVICE = "*"
MAX_SERVERS = 1000
"""For whose users one request may be; clients send to at most a few hundred devices at once."""
SENDERS_REMEMBERED = 5000
IDS_REMEMBERED = 1000
"""Of each of them; others know no end of ids."""

Messages = Mapping[str, Mapping[str, JsonObject]]
"""Contents by user id and device id (or `*`)."""

encode = msgspec.json.encode


class _Sent:
    """The transaction ids of one sender: done (the newest of them), or on their way."""

    def __init__(self, done: Sequence[str]) -> None:
        self.done = dict.fromkeys(done[-IDS_REMEMBERED:])
        self.under_way: dict[str, asyncio.Future[None]] = {}

    def is_done(self, key: str) -> None:
        """Remember it, in place of the oldest one."""
        self.done[key] = None
        if len(self.done) > IDS_REMEMBERED:
            del self.done[next(iter(self.done))]


class ToDevice:
    """Brings messages to the inboxes of devices."""

    def __init__(
        self, database: Database, writer: StreamWriter, server_name: str, clock: Clock
    ) -> None:
        self._database = database
        self._writer = writer
        self._server_name = server_name
        self._clock = clock
        self._senders: LruCache[DeviceKey, _Sent] = LruCache(SENDERS_REMEMBERED)

    async def send(
        self, sender: DeviceKey, event_type: str, txn_id: str, messages: Messages
    ) -> None:
        """Send once: a repeated transaction of the device does nothing.

        Devices that don't exist are passed over. Raises BadJson, InvalidParam.
        """
        for user_id in messages:
            if not is_user_id(user_id):
                raise BadJson(f"{user_id!r} is not a user id")
        servers = {server_name_of(user_id) for user_id in messages}
        if len(servers) > MAX_SERVERS:
            raise InvalidParam(f"One request can be for users of at most {MAX_SERVERS} servers")
        key = f"{event_type}/{txn_id}"

        async def send(transaction: TransactionRow) -> None:
            await self._send(sender[0], event_type, messages, transaction)

        await self._once(sender, key, send)

    async def receive(self, origin: str, content: JsonObject) -> None:
        """Take in an `m.direct_to_device` EDU of another server, once.

        Raises BadJson where it is malformed, or its sender is not of that server.
        """
        match content:
            case {
                "sender": str(sender),
                "type": str(event_type),
                "message_id": str(message_id),
                "messages": dict(messages),
            } if (
                is_compliant_user_id(sender)
                and server_name_of(sender) == origin
                and is_device_id(message_id)
            ):
                local = {u: m for u, m in messages.items() if self._is_local(u)}
            case _:
                raise BadJson("Not an m.direct_to_device of that server")
        if not all(_are_contents(of_user) for of_user in local.values()):
            raise BadJson("`messages` must hold objects by user id and device id")

        async def send(transaction: TransactionRow) -> None:
            await self._send(sender, event_type, local, transaction)

        await self._once((sender, ""), f"edu/{message_id}", send)

    async def _once(
        self, sender: DeviceKey, key: str, send: Callable[[TransactionRow], Awaitable[None]]
    ) -> None:
        sent = await self._sent_by(sender)
        if key in sent.done:
            return
        if (first := sent.under_way.get(key)) is not None:
            await asyncio.shield(first)
            return
        sending = asyncio.ensure_future(send(TransactionRow(*sender, key, self._clock())))
        sent.under_way[key] = sending
        try:
            # A client that goes away doesn't take back what it has sent.
            await asyncio.shield(sending)
            sent.is_done(key)
        except Unavailable:
            # The commit may yet have been carried out: Postgres is asked before it is sent again.
            self._senders.discard(sender)
            raise
        finally:
            sending.add_done_callback(lambda done: _finished(sent, key, done))

    async def _sent_by(self, sender: DeviceKey) -> _Sent:
        sent = self._senders.get(sender)
        if sent is not None:
            return sent
        async with self._database.connection() as connection:
            known = await to_device_store.transactions_of_device(connection, sender)
        sent = self._senders.get(sender)
        if sent is None:
            sent = _Sent(known)
            self._senders.put(sender, sent)
        return sent

    async def _send(
        self, sender: str, event_type: str, messages: Messages, transaction: TransactionRow
    ) -> None:
        start = b'{"type":' + encode(event_type) + b',"sender":' + encode(sender) + b',"content":'
        local = {u: m for u, m in messages.items() if self._is_local(u)}
        contents = await self._contents(local)
        position = self._writer.allocate()
        await self._writer.append(
            ToDeviceChange(
                position,
                tuple(
                    ToDeviceRow(user_id, device_id, position, start + content + b"}")
                    for (user_id, device_id), content in contents.items()
                ),
                self._outgoing(position, sender, event_type, messages),
                transaction,
            )
        )

    async def _contents(self, messages: Messages) -> dict[DeviceKey, bytes]:
        """The encoded content for each device, `*` being all devices of a user."""
        to_all = {
            user_id: encode(devices[EVERY_DEVICE])
            for user_id, devices in messages.items()
            if EVERY_DEVICE in devices
        }
        contents: dict[DeviceKey, bytes] = {}
        if to_all:
            async with self._database.connection() as connection:
                known = await device_store.ids_of_users(connection, list(to_all))
            contents = {device: to_all[device[0]] for device in known}
        for user_id, devices in messages.items():
            for device_id, content in devices.items():
                if device_id != EVERY_DEVICE and is_device_id(device_id):
                    contents[user_id, device_id] = encode(content)
        return contents

    def _outgoing(
        self, position: int, sender: str, event_type: str, messages: Messages
    ) -> tuple[OutgoingRow, ...]:
        by_server: dict[str, dict[str, Mapping[str, JsonObject]]] = {}
        for user_id, devices in messages.items():
            if not self._is_local(user_id):
                by_server.setdefault(server_name_of(user_id), {})[user_id] = devices
        edu = {"sender": sender, "type": event_type, "message_id": str(position)}
        return tuple(
            OutgoingRow(destination, position, encode({**edu, "messages": of_server}))
            for destination, of_server in by_server.items()
        )

    def _is_local(self, user_id: str) -> bool:
        return server_name_of(user_id) == self._server_name


def _finished(sent: _Sent, key: str, done: asyncio.Future[None]) -> None:
    if sent.under_way.get(key) is done:
        del sent.under_way[key]
    if not done.cancelled() and done.exception() is None:
        sent.is_done(key)


def _are_contents(devices: Any) -> bool:
    return isinstance(devices, dict) and all(isinstance(c, dict) for c in devices.values())
