"""The keys that this server publishes: its own, and as a notary those of other servers.

server-server-api#publishing-keys, server-server-api#querying-keys-through-another-server
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from homeserver.clock import Clock
from homeserver.config import OldSigningKey
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import MAX_INTEGER
from homeserver.protocol.signatures import Signer, encoded_verify_key, sign_json
from homeserver.remote.core import RemoteCore
from homeserver.store.database import Database
from homeserver.store.server_keys import ServerKey, find_keys_of_servers

# Originating servers "should avoid returning responses that expire in less than an hour".
VALID_MS = 24 * 3600 * 1000
MAX_SERVERS = 100

Criteria = Mapping[str, Mapping[str, int]]
"""Server name -> key id -> valid until at least. `ANY_KEY`, or no key ids: all keys."""
ANY_KEY = ""


class PublishedKeys:
    """Answers questions about keys."""

    def __init__(
        self,
        database: Database,
        remote: RemoteCore,
        signer: Signer,
        old_keys: Sequence[OldSigningKey],
        clock: Clock,
    ) -> None:
        self._database = database
        self._keyring = remote.keyring
        self._access = remote.access
        self._signer = signer
        self._old_keys = old_keys
        self._clock = clock

    def ours(self) -> JsonObject:
        """This server's keys, signed."""
        old = {k.key_id: {"expired_ts": k.expired_ts, "key": k.key} for k in self._old_keys}
        signed = self._signed(
            {
                "server_name": self._signer.server_name,
                "verify_keys": {self._signer.key_id: {"key": encoded_verify_key(self._signer.key)}},
                "old_verify_keys": dict(sorted(old.items())),
                "valid_until_ts": self._clock() + VALID_MS,
            }
        )
        # As canonical JSON has them: there are verifiers that only cut the signatures out.
        return dict(sorted(signed.items()))

    async def of_servers(self, criteria: Criteria) -> list[JsonObject]:
        """What these servers published, countersigned; nothing about those that can't be had."""
        answers = [self.ours()] if self._signer.server_name in criteria else []
        wanted = {
            name: keys
            for name, keys in list(criteria.items())[:MAX_SERVERS]
            if self._access.allows(name)
        }
        if not wanted:
            return answers
        known = await self._known(list(wanted))
        missing: dict[tuple[str, str], int] = {}
        for server_name, keys in wanted.items():
            until = {key_id: min(ts, MAX_INTEGER) for key_id, ts in keys.items()}
            missing |= _missing(server_name, until, known.get(server_name, []), self._clock())
        if missing:
            await self._keyring.keys(missing)
            known = await self._known(list(wanted))
        responses = dict.fromkeys(key.response for keys in known.values() for key in keys)
        return answers + [self._signed(msgspec.json.decode(response)) for response in responses]

    async def _known(self, server_names: Sequence[str]) -> dict[str, list[ServerKey]]:
        known: dict[str, list[ServerKey]] = {}
        async with self._database.connection() as connection:
            for key in await find_keys_of_servers(connection, server_names):
                known.setdefault(key.server_name, []).append(key)
        return known

    def _signed(self, published: JsonObject) -> JsonObject:
        return sign_json(published, self._signer.server_name, self._signer.key_id, self._signer.key)


def _missing(
    server_name: str, keys: Mapping[str, int], known: Sequence[ServerKey], now: int
) -> dict[tuple[str, str], int]:
    """The keys of one server that must be asked for. "[...] cache a response for half of its
    lifetime to avoid serving a stale response"."""
    fetched_at = max((key.fetched_at for key in known), default=0)
    valid_until = {key.key_id: key.valid_until_ts for key in known}
    valid_until[ANY_KEY] = max(
        (k.valid_until_ts for k in known if k.fetched_at == fetched_at), default=0
    )
    if now - fetched_at >= (valid_until[ANY_KEY] - fetched_at) // 2:
        return {(server_name, ANY_KEY): now}
    return {
        (server_name, key_id): until
        for key_id, until in keys.items()
        if valid_until.get(key_id, -1) < until
    }
