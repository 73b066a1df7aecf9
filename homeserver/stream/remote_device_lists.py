"""The devices of remote users: fetched when they are asked for, kept current by their servers.

Rules of this file:
- While we share a room with a user, their server tells us of each change. A list that was fetched
  in that time, with no update missing, is answered from Postgres; any other is fetched.
- What a server says of its users is checked for its form; local users are told of each change.
- A list is fetched once at a time, however many ask for it. An update that arrives meanwhile makes
  what is being fetched worthless: it may be older. Then it is fetched again.
server-server-api#device-management
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

import structlog
from msgspec import Struct, field

from homeserver.errors import BadJson, MatrixError
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.canonical_json import encode as encode_canonical
from homeserver.protocol.cross_signing import (
    MASTER,
    SELF_SIGNING,
    KeyFormatError,
    cross_signing_key,
)
from homeserver.protocol.identifiers import is_compliant_user_id, is_device_id, server_name_of
from homeserver.protocol.key_objects import are_device_keys, are_signatures
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import remote_devices as remote_store
from homeserver.store.cross_signing import CrossSigningRow
from homeserver.store.database import Database
from homeserver.store.device_keys import PublishedDevice
from homeserver.store.remote_devices import RemoteList
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

FEDERATION = "/_matrix/federation/v1"
ONE_BY_ONE = 10
"""Up to so many users of a server are asked for each by themselves, which gives a stream id."""
RESYNC_SECONDS = 60.0
MAX_FETCHES = 3
MAX_DEVICES = 1000
"""Of a user: whose server tells of more is not believed about the rest."""
SIGNING_KEYS = {MASTER: "master_key", SELF_SIGNING: "self_signing_key"}

log = structlog.get_logger()


class _Fetched(Struct):
    """What a server says of one user."""

    user_id: str
    stream_id: int | None = None
    devices: list[PublishedDevice] = field(default_factory=list)
    cross_signing: list[CrossSigningRow] = field(default_factory=list)


class RemoteDeviceLists:
    """Keeps `remote_devices` and the cross-signing keys of remote users."""

    def __init__(
        self,
        database: Database,
        client: FederationClient,
        device_lists: DeviceLists,
        position: Callable[[], int],
    ) -> None:
        self._database = database
        self._client = client
        self._device_lists = device_lists
        self._position = position
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._resyncs: set[asyncio.Task[dict[str, MatrixError]]] = set()

    async def refresh(self, user_ids: Iterable[str], seconds: float) -> dict[str, MatrixError]:
        """Fetch what isn't known for sure; which servers didn't answer, and why.

        Afterwards Postgres holds what can be known.
        """
        async with self._database.connection() as connection:
            known = await remote_store.following(connection, user_ids)
        tasks: dict[str, list[asyncio.Task[None]]] = {}
        shared: dict[str, list[str]] = {}
        others: dict[str, list[str]] = {}
        for user in known:
            if not user.is_fresh:
                of_server = shared if user.is_shared else others
                of_server.setdefault(server_name_of(user.user_id), []).append(user.user_id)
        for server, users in shared.items():
            if len(users) <= ONE_BY_ONE:
                tasks[server] = [self._fetch([user_id], seconds) for user_id in users]
            else:
                others.setdefault(server, []).extend(users)
        for server, users in others.items():
            tasks.setdefault(server, []).append(self._fetch(users, seconds, at_once=True))
        return await _failures(tasks)

    def _fetch(
        self, users: Sequence[str], seconds: float, *, at_once: bool = False
    ) -> asyncio.Task[None]:
        """The task that fetches these users' lists: one that runs already, or a new one."""
        if len(users) == 1 and (running := self._fetching.get(users[0])) is not None:
            return running
        task = asyncio.create_task(
            self._fetch_many(users, seconds) if at_once else self._fetch_one(users[0], seconds)
        )
        for user_id in users:
            self._fetching[user_id] = task
        task.add_done_callback(lambda done: self._fetched(users, done))
        return task

    def _fetched(self, users: Sequence[str], done: asyncio.Task[None]) -> None:
        for user_id in users:
            if self._fetching.get(user_id) is done:
                del self._fetching[user_id]
        if not done.cancelled():
            done.exception()  # who waits for it gets it

    async def _fetch_one(self, user_id: str, seconds: float) -> None:
        path = path_to(f"{FEDERATION}/user/devices", user_id)
        task = asyncio.current_task()
        assert task is not None
        for _ in range(MAX_FETCHES):
            position = self._position()
            answer = await self._client.get(server_name_of(user_id), path, Terms(seconds=seconds))
            if await self._store([_of_devices(user_id, answer)], position):
                return
            newer = self._fetching.setdefault(user_id, task)
            if newer is not task:
                await asyncio.shield(newer)
                return

    async def _fetch_many(self, user_ids: Sequence[str], seconds: float) -> None:
        position = self._position()
        content: JsonObject = {"device_keys": {user_id: [] for user_id in user_ids}}
        answer = await self._client.post(
            server_name_of(user_ids[0]),
            f"{FEDERATION}/user/keys/query",
            content,
            Terms(seconds=seconds),
        )
        await self._store([_of_query(user_id, answer) for user_id in user_ids], position)

    async def _store(self, fetched: Sequence[_Fetched], position: int) -> bool:
        """Those lists that no update has made worthless meanwhile; were any left?"""
        task = asyncio.current_task()
        fetched = [f for f in fetched if self._fetching.get(f.user_id) is task]
        if not fetched:
            return False
        lists = [RemoteList(f.user_id, f.stream_id, False, position) for f in fetched]
        devices = [device for f in fetched for device in f.devices]
        cross_signing = [key for f in fetched for key in f.cross_signing]
        async with self._database.transaction() as connection:
            await remote_store.replace(connection, lists, devices)
            if cross_signing:
                await cross_signing_store.put(connection, cross_signing)
        return True

    async def receive_update(self, origin: str, content: JsonObject) -> None:
        """Take in an `m.device_list_update` EDU. Raises BadJson."""
        user_id, device_id, stream_id = _checked(origin, content)
        self._fetching.pop(user_id, None)
        async with self._device_lists.turn_of(user_id):
            async with self._database.connection() as connection:
                (known,) = await remote_store.following(connection, [user_id])
                standing = await remote_store.get(connection, user_id)
            if not known.is_shared:
                return
            if not known.is_fresh and not content.get("prev_id"):
                # They have come into a room, which our users were told already; or nobody has
                # asked for the list since they did.
                return
            if standing is not None:
                if _follows(content, stream_id, standing):
                    await self._apply(user_id, device_id, stream_id, content)
                else:
                    await self._resync(user_id)
        await self._device_lists.publish(DeviceListUpdate(user_id))

    async def receive_signing_keys(self, origin: str, content: JsonObject) -> None:
        """Take in an `m.signing_key_update` EDU. Raises BadJson."""
        user_id = content.get("user_id")
        if not is_compliant_user_id(user_id) or server_name_of(user_id) != origin:
            raise BadJson("Not an m.signing_key_update of that server")
        async with self._database.connection() as connection:
            (known,) = await remote_store.following(connection, [user_id])
        if known.is_shared:
            keys = _cross_signing_rows(user_id, content, SIGNING_KEYS)
            update = DeviceListUpdate(user_id, cross_signing=tuple(keys))
            await self._device_lists.publish(update)

    async def _apply(
        self, user_id: str, device_id: str, stream_id: int, content: JsonObject
    ) -> None:
        keys = content.get("keys")
        async with self._database.transaction() as connection:
            if content.get("deleted") is True:
                await remote_store.delete_device(connection, user_id, device_id)
            elif isinstance(keys, dict):
                name = content.get("device_display_name")
                device = _device(user_id, device_id, keys, name)
                if device is not None:
                    await remote_store.put_devices(connection, [device])
            await remote_store.set_stream_id(connection, user_id, stream_id)

    async def _resync(self, user_id: str) -> None:
        """An update is missing. If its server doesn't answer now, the next query asks again."""
        async with self._database.connection() as connection:
            await remote_store.mark_stale(connection, user_id)
        task = asyncio.create_task(self.refresh([user_id], RESYNC_SECONDS))
        self._resyncs.add(task)
        task.add_done_callback(self._resyncs.discard)

    async def stop(self) -> None:
        """End what is under way."""
        tasks: list[asyncio.Task[Any]] = [*self._resyncs, *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _failures(
    tasks: dict[str, list[asyncio.Task[None]]],
) -> dict[str, MatrixError]:
    """Wait for all; the error of each server that failed."""
    failures: dict[str, MatrixError] = {}
    for server, of_server in tasks.items():
        results = await asyncio.gather(*map(asyncio.shield, of_server), return_exceptions=True)
        for result in results:
            if isinstance(result, MatrixError):
                failures[server] = result
            elif isinstance(result, BaseException):
                raise result
    return failures


def _checked(origin: str, content: JsonObject) -> tuple[str, str, int]:
    match content:
        case {
            "user_id": str(user_id),
            "device_id": str(device_id),
            "stream_id": int(stream_id),
        } if (
            is_compliant_user_id(user_id)
            and server_name_of(user_id) == origin
            and is_device_id(device_id)
            and 0 <= stream_id < 2**63
        ):
            return user_id, device_id, stream_id
    raise BadJson("Not an m.device_list_update of that server")


def _follows(content: JsonObject, stream_id: int, standing: RemoteList) -> bool:
    """Whether an update builds on what we have: "If the receiving server does not recognise any of
    the prev_ids, it means an EDU has been lost".
    """
    if standing.is_stale or standing.stream_id is None:
        return False
    previous = content.get("prev_id")
    known = (standing.stream_id,)
    return stream_id == standing.stream_id or (
        isinstance(previous, list) and all(prev in known for prev in previous) and bool(previous)
    )


def _of_devices(user_id: str, answer: JsonObject) -> _Fetched:
    """The answer of /user/devices."""
    stream_id = answer.get("stream_id")
    fetched = _Fetched(user_id)
    if isinstance(stream_id, int) and 0 <= stream_id < 2**63:
        fetched.stream_id = stream_id
    devices = answer.get("devices")
    for entry in devices[:MAX_DEVICES] if isinstance(devices, list) else ():
        match entry:
            case {"device_id": str(device_id), "keys": dict(keys)}:
                device = _device(user_id, device_id, keys, entry.get("device_display_name"))
                if device is not None:
                    fetched.devices.append(device)
    fetched.cross_signing = _cross_signing_rows(user_id, answer, SIGNING_KEYS)
    return fetched


def _of_query(user_id: str, answer: JsonObject) -> _Fetched:
    """The answer of /user/keys/query, as far as it is about one user."""
    fetched = _Fetched(user_id)
    of_user = _object(_object(answer, "device_keys"), user_id)
    for device_id, keys in islice(of_user.items(), MAX_DEVICES):
        if isinstance(keys, dict):
            name = _object(keys, "unsigned").get("device_display_name")
            device = _device(user_id, device_id, keys, name)
            if device is not None:
                fetched.devices.append(device)
    keys = {field: _object(answer, f"{field}s").get(user_id) for field in SIGNING_KEYS.values()}
    fetched.cross_signing = _cross_signing_rows(user_id, keys, SIGNING_KEYS)
    return fetched


def _object(outer: JsonObject, name: str) -> JsonObject:
    value = outer.get(name)
    return value if isinstance(value, dict) else {}


def _device(user_id: str, device_id: str, keys: JsonObject, name: Any) -> PublishedDevice | None:
    """A remote device, None if it isn't well-formed."""
    if not are_device_keys(keys, user_id, device_id):
        return None
    json = _canonical(keys)
    if json is None or not is_device_id(device_id):
        return None
    has_name = isinstance(name, str) and "\0" not in name
    return PublishedDevice(user_id, device_id, json, name if has_name else None)


def _cross_signing_rows(
    user_id: str, answer: JsonObject, names: dict[str, str]
) -> list[CrossSigningRow]:
    rows = []
    for usage, name in names.items():
        key = answer.get(name)
        if not isinstance(key, dict):
            continue
        try:
            cross_signing_key(key, user_id, usage)
        except KeyFormatError as error:
            log.info("malformed cross-signing key", user_id=user_id, reason=str(error))
            continue
        json = _canonical(key) if are_signatures(key.get("signatures", {})) else None
        if json is not None:
            rows.append(CrossSigningRow(user_id, usage, json))
    return rows


def _canonical(keys: JsonObject) -> bytes | None:
    try:
        return encode_canonical({k: v for k, v in keys.items() if k != "unsigned"})
    except CanonicalJsonError:
        return None
