"""The keys of devices: uploaded, asked for, claimed.

Rules of this file: what is local is answered in a fixed number of queries; other servers are asked
all at once, and one that doesn't answer is named in `failures`.
client-server-api#key-management-api, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from homeserver.errors import BadJson, InvalidParam, MatrixError, UnknownError
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.canonical_json import encode as encode_canonical
from homeserver.protocol.identifiers import is_device_id, is_user_id, server_name_of
from homeserver.remote.client import FederationClient, Terms
from homeserver.store import device_keys as device_key_store
from homeserver.store import one_time_keys as one_time_key_store
from homeserver.store.database import Database
from homeserver.store.device_keys import DeviceKeysRow, PublishedDevice
from homeserver.store.one_time_keys import Claimed, KeyRow, Wanted
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate
from homeserver.stream.key_counts import KeyCounts

FEDERATION = "/_matrix/federation/v1"
MAX_TIMEOUT_MS = 60_000

Devices = Mapping[str, Sequence[str]]
"""Device ids by user id; no device ids: all devices of the user."""
Claims = Mapping[str, Mapping[str, str]]
"""Algorithms by user id and device id."""


class KeyUpload(msgspec.Struct):
    """The body of /keys/upload."""

    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, str | dict[str, Any]] | None = None
    fallback_keys: dict[str, str | dict[str, Any]] | None = None


class DeviceKeys:
    """The keys of local devices, and the way to those of others."""

    def __init__(
        self,
        database: Database,
        device_lists: DeviceLists,
        key_counts: KeyCounts,
        remote: FederationClient,
        server_name: str,
    ) -> None:
        self._database = database
        self._device_lists = device_lists
        self._key_counts = key_counts
        self._remote = remote
        self._server_name = server_name
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def upload(self, user_id: str, device_id: str, keys: KeyUpload) -> dict[str, int]:
        """Publish keys of a device; how many one-time keys it has now, by algorithm.

        Raises InvalidParam, BadJson; UnknownError where a key id stands for another key already.
        """
        one_time_keys = _key_rows(keys.one_time_keys or {})
        fallback_keys = _key_rows(keys.fallback_keys or {})
        if keys.device_keys:
            await self._publish(user_id, device_id, keys.device_keys)
        if one_time_keys or fallback_keys:
            async with self._database.transaction() as connection:
                if one_time_keys:
                    clashes = await one_time_key_store.add(
                        connection, user_id, device_id, one_time_keys
                    )
                    if clashes:
                        raise UnknownError(f"One time key {clashes[0]} already exists")
                if fallback_keys:
                    await one_time_key_store.put_fallback(
                        connection, user_id, device_id, fallback_keys
                    )
            self._key_counts.changed([(user_id, device_id)])
        return (await self._key_counts.of((user_id, device_id))).counts

    async def _publish(self, user_id: str, device_id: str, device_keys: JsonObject) -> None:
        """Store and announce a device's identity keys, if they are others than before."""
        if device_keys.get("user_id") != user_id or device_keys.get("device_id") != device_id:
            raise InvalidParam("`device_keys` must be of your own user_id and device_id")
        for field, kind in (("algorithms", list), ("keys", dict)):
            if not isinstance(device_keys.get(field), kind):
                raise BadJson(f"`device_keys.{field}` is missing or has a wrong type")
        _canonical(device_keys)
        lock = self._locks.setdefault(user_id, asyncio.Lock())
        async with lock:
            async with self._database.connection() as connection:
                standing = await device_key_store.get(connection, user_id, device_id)
            json = _canonical(_with_standing_signatures(device_keys, standing))
            if json != standing:
                row = DeviceKeysRow(user_id, device_id, json)
                await self._device_lists.publish(
                    DeviceListUpdate(user_id, device_id, device_keys=row)
                )

    async def query(self, devices: Devices, timeout_ms: int) -> JsonObject:
        """The answer of /keys/query to a local user."""
        local, remote = self._by_server(devices)
        answer = await self.query_local(local, with_names=True)
        failures: JsonObject = {}

        async def ask(destination: str, wanted: Devices) -> None:
            content = {"device_keys": {u: list(ids) for u, ids in wanted.items()}}
            path = f"{FEDERATION}/user/keys/query"
            found = await self._remote.post(destination, path, content, _terms(timeout_ms))
            of_server = _of_users(found.get("device_keys"), wanted)
            answer["device_keys"].update(of_server)

        await _ask_all(ask, remote, failures)
        return {**answer, "failures": failures}

    async def query_local(self, devices: Devices, *, with_names: bool) -> JsonObject:
        """The keys of local users' devices; `with_names`: and what their users call them."""
        users = [user_id for user_id in devices if is_user_id(user_id)]
        found: dict[str, dict[str, msgspec.Raw]] = {user_id: {} for user_id in users}
        if users:
            async with self._database.connection() as connection:
                rows = await device_key_store.of_users(connection, users)
            wanted = {user_id: frozenset(devices[user_id]) for user_id in users}
            for row in rows:
                ids = wanted[row.user_id]
                if not ids or row.device_id in ids:
                    found[row.user_id][row.device_id] = _published(row, with_names)
        return {"device_keys": found}

    async def claim(self, claims: Claims, timeout_ms: int) -> JsonObject:
        """The answer of /keys/claim to a local user."""
        local, remote = self._by_server(claims)
        answer = await self.claim_local(local)
        failures: JsonObject = {}

        async def ask(destination: str, wanted: Claims) -> None:
            content = {"one_time_keys": {u: dict(of_user) for u, of_user in wanted.items()}}
            path = f"{FEDERATION}/user/keys/claim"
            found = await self._remote.post(destination, path, content, _terms(timeout_ms))
            answer["one_time_keys"].update(_of_users(found.get("one_time_keys"), wanted))

        await _ask_all(ask, remote, failures)
        return {**answer, "failures": failures}

    async def claim_local(self, claims: Claims) -> JsonObject:
        """One key of each device, given out for good; a fallback key where no other is left."""
        wanted = [
            Wanted(user_id, device_id, algorithm)
            for user_id, devices in claims.items()
            for device_id, algorithm in devices.items()
            if is_user_id(user_id) and is_device_id(device_id) and is_device_id(algorithm)
        ]
        found: dict[str, dict[str, dict[str, msgspec.Raw]]] = {}
        for claimed in await self._claimed(wanted) if wanted else ():
            device = found.setdefault(claimed.wanted.user_id, {})
            key_id = f"{claimed.wanted.algorithm}:{claimed.key_id}"
            device[claimed.wanted.device_id] = {key_id: msgspec.Raw(claimed.json)}
        return {"one_time_keys": found}

    async def _claimed(self, wanted: Sequence[Wanted]) -> list[Claimed]:
        async with self._database.transaction() as connection:
            claimed = await one_time_key_store.claim(connection, wanted)
            missing = set(wanted) - {claim.wanted for claim in claimed}
            if missing:
                claimed += await one_time_key_store.use_fallback(connection, list(missing))
        self._key_counts.changed((c.wanted.user_id, c.wanted.device_id) for c in claimed)
        return claimed

    def _by_server(
        self, of_users: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        """What is asked about local users, and what about those of each other server."""
        local: dict[str, Any] = {}
        remote: dict[str, dict[str, Any]] = {}
        for user_id, value in of_users.items():
            if not is_user_id(user_id):
                continue
            server = server_name_of(user_id)
            mine = local if server == self._server_name else remote.setdefault(server, {})
            mine[user_id] = value
        return local, remote


async def _ask_all(
    ask: Callable[[str, Any], Awaitable[None]],
    by_server: Mapping[str, Any],
    failures: JsonObject,
) -> None:
    """Ask all servers at once; who fails is noted."""

    async def ask_one(destination: str, wanted: Any) -> None:
        try:
            await ask(destination, wanted)
        except MatrixError as error:
            failures[destination] = {"status": error.status, "message": error.message}

    await asyncio.gather(*(ask_one(*item) for item in by_server.items()))


def _terms(timeout_ms: int) -> Terms:
    return Terms(seconds=max(1.0, min(timeout_ms, MAX_TIMEOUT_MS) / 1000))


def _of_users(found: Any, wanted: Iterable[str]) -> JsonObject:
    """What a server says of the users that it was asked about, as far as it has the right form."""
    if not isinstance(found, dict):
        return {}
    return {u: found[u] for u in wanted if isinstance(found.get(u), dict)}


def _key_rows(keys: Mapping[str, str | JsonObject]) -> list[KeyRow]:
    rows = []
    for name, key in keys.items():
        algorithm, colon, key_id = name.partition(":")
        if not colon or not is_device_id(algorithm) or not is_device_id(key_id):
            raise InvalidParam(f"{name!r} is not of the form <algorithm>:<key id>")
        rows.append(KeyRow(algorithm, key_id, _canonical(key)))
    return rows


def _canonical(value: Any) -> bytes:
    try:
        return encode_canonical(value)
    except CanonicalJsonError as error:
        raise BadJson(f"A key has no canonical form: {error}") from None


def _with_standing_signatures(device_keys: JsonObject, standing: bytes | None) -> JsonObject:
    """The keys without `unsigned`; if they are those that stand, with their signatures too."""
    new = {key: value for key, value in device_keys.items() if key != "unsigned"}
    if standing is None:
        return new
    old = msgspec.json.decode(standing)
    old_signatures = old.pop("signatures", {})
    signatures = new.pop("signatures", {})
    if old == new:
        signatures = {
            u: {**old_signatures.get(u, {}), **signatures.get(u, {})}
            for u in {*old_signatures, *signatures}
        }
    return {**new, "signatures": signatures}


def _published(row: PublishedDevice, with_name: bool) -> msgspec.Raw:
    if row.display_name is None or not with_name:
        return msgspec.Raw(row.json)
    unsigned = msgspec.json.encode({"device_display_name": row.display_name})
    return msgspec.Raw(row.json[:-1] + b',"unsigned":' + unsigned + b"}")
