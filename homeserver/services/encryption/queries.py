"""Which devices users have, and with which keys: for local users and for other servers.

Rules of this file: an answer takes a fixed number of queries, however many users it is about; a
server that can't be asked is named in `failures`, and what we know of its users is answered.
client-server-api#post_matrixclientv3keysquery, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from homeserver.json_types import JsonObject
from homeserver.protocol.cross_signing import MASTER, SELF_SIGNING, USER_SIGNING, merged
from homeserver.protocol.identifiers import is_user_id, server_name_of
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import device_keys as device_key_store
from homeserver.store import device_lists as device_list_store
from homeserver.store import remote_devices as remote_store
from homeserver.store.cross_signing import CrossSigningRow, UserSignatureRow
from homeserver.store.database import Database
from homeserver.store.device_keys import PublishedDevice
from homeserver.stream.remote_device_lists import RemoteDeviceLists

MAX_TIMEOUT_MS = 60_000

Devices = Mapping[str, Sequence[str]]
"""Device ids by user id; no device ids: all devices of the user."""
Fragments = dict[str, msgspec.Raw]


class KeyQueries:
    """Answers who has which keys.

    `tells_names`: other servers are told what users call their devices.
    """

    def __init__(
        self,
        database: Database,
        remote_lists: RemoteDeviceLists,
        server_name: str,
        *,
        tells_names: bool,
    ) -> None:
        self._tells_names = tells_names
        self._database = database
        self._remote_lists = remote_lists
        self._server_name = server_name

    async def query(self, asker: str, devices: Devices, timeout_ms: int) -> JsonObject:
        """The answer of /keys/query to a local user."""
        users = [user_id for user_id in devices if is_user_id(user_id)]
        local = [user_id for user_id in users if self._is_local(user_id)]
        remote = [user_id for user_id in users if not self._is_local(user_id)]
        failures = await self._refresh(remote, timeout_ms) if remote else {}
        async with self._database.connection() as connection:
            rows = await device_key_store.of_users(connection, local) if local else []
            if remote:
                rows += await remote_store.devices_of(connection, remote)
            keys = await cross_signing_store.of_users(connection, users) if users else []
            signatures = (
                await cross_signing_store.signatures_by(connection, asker, users) if users else []
            )
        # A user of a server that didn't answer, and of whom nothing is known, is not named.
        silent = {u for u in remote if server_name_of(u) in failures} - {r.user_id for r in rows}
        return {
            "device_keys": _device_keys(rows, devices, set(users) - silent),
            **_cross_signing(keys, signatures, asker),
            "failures": failures,
        }

    async def _refresh(self, remote: Sequence[str], timeout_ms: int) -> JsonObject:
        seconds = max(1.0, min(timeout_ms, MAX_TIMEOUT_MS) / 1000)
        failed = await self._remote_lists.refresh(remote, seconds)
        return {
            server: {"status": error.status, "message": error.message}
            for server, error in failed.items()
        }

    async def know(self, user_ids: Iterable[str]) -> None:
        """Make sure that the keys of these users are in Postgres, as far as servers answer."""
        remote = [u for u in user_ids if is_user_id(u) and not self._is_local(u)]
        if remote:
            await self._refresh(remote, MAX_TIMEOUT_MS)

    async def query_for_server(self, devices: Devices) -> JsonObject:
        """The answer of /user/keys/query to another server, which asks about our users."""
        users = [u for u in devices if is_user_id(u) and self._is_local(u)]
        async with self._database.connection() as connection:
            rows = self._told(await device_key_store.of_users(connection, users))
            keys = await cross_signing_store.of_users(connection, users)
        answer = _cross_signing(keys, (), None)
        return {"device_keys": _device_keys(rows, devices, users), **answer}

    async def devices_for_server(self, user_id: str) -> JsonObject:
        """The answer of /user/devices: all devices with keys, and up to which update that is.

        The update is looked up first: what comes after it is told by an EDU too.
        """
        async with self._database.connection() as connection:
            stream_id = await device_list_store.newest_update(connection, user_id)
            rows = self._told(await device_key_store.of_users(connection, [user_id]))
            keys = await cross_signing_store.of_users(connection, [user_id])
        answer: JsonObject = {
            "user_id": user_id,
            "stream_id": stream_id,
            "devices": [_listed(row) for row in rows],
        }
        for key in keys:
            if key.usage != USER_SIGNING and key.json is not None:
                answer[f"{key.usage}_key"] = msgspec.Raw(key.json)
        return answer

    def _told(self, rows: list[PublishedDevice]) -> list[PublishedDevice]:
        """The devices as other servers are told of them."""
        return rows if self._tells_names else [replace(row, display_name=None) for row in rows]

    def _is_local(self, user_id: str) -> bool:
        return server_name_of(user_id) == self._server_name


def _device_keys(
    rows: Iterable[PublishedDevice], devices: Devices, users: Iterable[str]
) -> dict[str, Fragments]:
    """`device_keys` of an answer. Clients take a user who is missing for one not answered yet."""
    found: dict[str, Fragments] = {user_id: {} for user_id in users}
    wanted = {user_id: frozenset(devices[user_id]) for user_id in found}
    for row in rows:
        ids = wanted[row.user_id]
        if not ids or row.device_id in ids:
            found[row.user_id][row.device_id] = _published(row)
    return found


def _published(row: PublishedDevice) -> msgspec.Raw:
    """A device's keys and its name. Old clients and suites look for an `unsigned`, be it empty."""
    named = {} if row.display_name is None else {"device_display_name": row.display_name}
    unsigned = msgspec.json.encode(named)
    return msgspec.Raw(row.json[:-1] + b',"unsigned":' + unsigned + b"}")


def _listed(row: PublishedDevice) -> JsonObject:
    device: JsonObject = {"device_id": row.device_id, "keys": msgspec.Raw(row.json)}
    return (
        device if row.display_name is None else {**device, "device_display_name": row.display_name}
    )


def _cross_signing(
    keys: Iterable[CrossSigningRow], signatures: Iterable[UserSignatureRow], asker: str | None
) -> JsonObject:
    """The cross-signing keys of an answer; a user-signing key is shown to its owner only."""
    found: dict[str, Fragments] = {MASTER: {}, SELF_SIGNING: {}, USER_SIGNING: {}}
    signed: dict[str, list[UserSignatureRow]] = {}
    for signature in signatures:
        signed.setdefault(signature.user_id, []).append(signature)
    for key in keys:
        if key.json is None or (key.usage == USER_SIGNING and key.user_id != asker):
            continue
        json = key.json
        if key.usage == MASTER and key.user_id in signed:
            json = _signed(json, signed[key.user_id])
        found[key.usage][key.user_id] = msgspec.Raw(json)
    answer: JsonObject = {
        "master_keys": found[MASTER],
        "self_signing_keys": found[SELF_SIGNING],
    }
    if asker is not None:
        answer["user_signing_keys"] = found[USER_SIGNING]
    return answer


def _signed(json: bytes, signatures: Iterable[UserSignatureRow]) -> bytes:
    """A master key with the asker's own signatures of it."""
    key = msgspec.json.decode(json)
    mine = {
        signature.signer: {signature.key_id: signature.signature}
        for signature in signatures
        if f"ed25519:{signature.master_key}" in key.get("keys", {})
    }
    return msgspec.json.encode(merged(key, mine))
