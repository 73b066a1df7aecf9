"""One-time keys are claimed, of local devices and of those of other servers.

client-server-api#post_matrixclientv3keysclaim, server-server-api#end-to-end-encryption
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from homeserver.errors import MatrixError
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import is_device_id, is_user_id, server_name_of
from homeserver.protocol.key_objects import is_one_time_key
from homeserver.remote.client import FederationClient, Terms
from homeserver.store import one_time_keys as one_time_key_store
from homeserver.store.database import Database
from homeserver.store.one_time_keys import Claimed, Wanted
from homeserver.stream.key_counts import KeyCounts

REMOTE_CLAIM = "/_matrix/federation/v1/user/keys/claim"
MAX_TIMEOUT_MS = 60_000

Claims = Mapping[str, Mapping[str, str]]
"""Algorithms by user id and device id."""


class OneTimeKeys:
    """Gives each one-time key to one claimer."""

    def __init__(
        self,
        database: Database,
        key_counts: KeyCounts,
        client: FederationClient,
        server_name: str,
    ) -> None:
        self._database = database
        self._key_counts = key_counts
        self._client = client
        self._server_name = server_name

    async def claim(self, claims: Claims, timeout_ms: int) -> JsonObject:
        """The answer of /keys/claim to a local user; servers are asked all at once."""
        by_server: dict[str, dict[str, Mapping[str, str]]] = {}
        for user_id, devices in claims.items():
            if is_user_id(user_id):
                by_server.setdefault(server_name_of(user_id), {})[user_id] = devices
        found = await self.claim_local(by_server.pop(self._server_name, {}))
        failures: JsonObject = {}
        terms = Terms(seconds=max(1.0, min(timeout_ms, MAX_TIMEOUT_MS) / 1000))

        async def ask(server: str, wanted: Claims) -> None:
            try:
                answer = await self._client.post(
                    server, REMOTE_CLAIM, {"one_time_keys": wanted}, terms
                )
            except MatrixError as error:
                failures[server] = {"status": error.status, "message": error.message}
            else:
                found.update(_answered(answer.get("one_time_keys"), wanted))

        await asyncio.gather(*(ask(*item) for item in by_server.items()))
        return {"one_time_keys": found, "failures": failures}

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
        return dict(found)

    async def _claimed(self, wanted: Sequence[Wanted]) -> list[Claimed]:
        async with self._database.transaction() as connection:
            claimed = await one_time_key_store.claim(connection, wanted)
            missing = set(wanted) - {claim.wanted for claim in claimed}
            if missing:
                claimed += await one_time_key_store.use_fallback(connection, list(missing))
        self._key_counts.changed((c.wanted.user_id, c.wanted.device_id) for c in claimed)
        return claimed


def _answered(found: Any, wanted: Claims) -> JsonObject:
    """What a server gives of what was asked, as far as it has the right form."""
    if not isinstance(found, dict):
        return {}
    return {
        user_id: {
            device_id: keys
            for device_id, keys in of_user.items()
            if _is_key(keys, wanted[user_id].get(device_id))
        }
        for user_id, of_user in found.items()
        if user_id in wanted and isinstance(of_user, dict)
    }


def _is_key(keys: Any, algorithm: str | None) -> bool:
    """One key, of the algorithm that was asked for."""
    if not isinstance(keys, dict) or len(keys) != 1:
        return False
    [(key_id, key)] = keys.items()
    return key_id.partition(":")[0] == algorithm and is_one_time_key(key)
