"""Asks servers for their keys, and notaries for the keys of servers that don't answer.

server-server-api#get_matrixkeyv2server, server-server-api#post_matrixkeyv2query
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import structlog
from nacl.signing import VerifyKey

from homeserver.clock import Clock
from homeserver.errors import MatrixError
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.signatures import SignatureError, key_ids_of, verify_signature
from homeserver.remote.client import FederationClient, Terms
from homeserver.remote.published_keys import BadKeys, read_published_keys
from homeserver.store.server_keys import ServerKey

# "Requesting servers should limit how frequently they query for certificates to avoid flooding a
# server with requests."
ASK_AGAIN_MS = 60_000
SECONDS = 12.0
AT_ONCE = 64
"""Servers that are asked at once for the keys of events; as many for those of requests: whoever
sends events of made-up servers doesn't keep out who makes requests."""
# A server must be able to prove who it is even if it did not answer lately.
_TERMS = Terms(seconds=SECONDS, max_bytes=1_000_000, ignore_backoff=True)

log = structlog.get_logger()


class KeyFetcher:
    """Fetches keys; concurrent askers for one server share one request."""

    def __init__(
        self, client: FederationClient, clock: Clock, notaries: Sequence[str], remembered: int
    ) -> None:
        self._client = client
        self._clock = clock
        self._notaries = notaries
        self._fetching: dict[str, asyncio.Task[list[ServerKey]]] = {}
        # When a server was asked, and what it answered: it may not be in Postgres yet.
        self._asked: LruCache[str, tuple[int, list[ServerKey]]] = LruCache(remembered)
        self._for_requests = asyncio.Semaphore(AT_ONCE)
        self._for_events = asyncio.Semaphore(AT_ONCE)

    async def fetch(
        self, wanted: Mapping[tuple[str, str], int], *, for_a_request: bool
    ) -> list[ServerKey]:
        """The keys of the servers in `wanted` ((server, key id) -> valid until at least).

        `for_a_request`: to know who makes one, not for the signatures of events.
        """
        servers = {server_name for server_name, _ in wanted}
        answers = await asyncio.gather(*(self._once(name, for_a_request) for name in servers))
        keys = [key for answer in answers for key in answer]
        if self._notaries:
            had = {(k.server_name, k.key_id) for k in keys if _is_enough(k, wanted)}
            missing = {name: until for name, until in wanted.items() if name not in had}
            keys += await self._from_notaries(missing)
        return keys

    async def _once(self, server_name: str, for_a_request: bool) -> list[ServerKey]:
        task = self._fetching.get(server_name)
        if task is None:
            asked = self._asked.get(server_name)
            if asked is not None and self._clock() - asked[0] < ASK_AGAIN_MS:
                return asked[1]
            turn = self._for_requests if for_a_request else self._for_events
            task = asyncio.create_task(self._from_server(server_name, turn))
            self._fetching[server_name] = task
            task.add_done_callback(lambda _: self._fetching.pop(server_name, None))
        return await asyncio.shield(task)

    async def _from_server(self, server_name: str, turn: asyncio.Semaphore) -> list[ServerKey]:
        keys: list[ServerKey] = []
        try:
            async with turn:
                published = await self._client.get(server_name, "/_matrix/key/v2/server", _TERMS)
            keys = read_published_keys(published, server_name, self._clock())
        except (MatrixError, BadKeys) as error:
            log.info("no keys", server_name=server_name, reason=str(error))
        self._asked.put(server_name, (self._clock(), keys))
        return keys

    async def _from_notaries(self, missing: dict[tuple[str, str], int]) -> list[ServerKey]:
        found: list[ServerKey] = []
        for notary in self._notaries:
            still = {name: until for name, until in missing.items() if name[0] != notary}
            if not still:
                break
            keys = await self._from_notary(notary, still)
            found += keys
            had = {(k.server_name, k.key_id) for k in keys if _is_enough(k, still)}
            missing = {name: until for name, until in still.items() if name not in had}
        return found

    async def _from_notary(
        self, notary: str, missing: Mapping[tuple[str, str], int]
    ) -> list[ServerKey]:
        criteria: dict[str, dict[str, JsonObject]] = {}
        for (server_name, key_id), until in missing.items():
            of_server = criteria.setdefault(server_name, {})
            if key_id:  # "If no key IDs are given to be queried, [...] query for all keys."
                of_server[key_id] = {"minimum_valid_until_ts": until}
        try:
            notary_keys = read_published_keys(
                await self._client.get(notary, "/_matrix/key/v2/server", _TERMS),
                notary,
                self._clock(),
            )
            answer = await self._client.post(
                notary, "/_matrix/key/v2/query", {"server_keys": criteria}, _TERMS
            )
        except (MatrixError, BadKeys) as error:
            log.info("no keys from the notary", notary=notary, reason=str(error))
            return []
        return self._read_notary(answer, notary_keys, set(criteria))

    def _read_notary(
        self, answer: JsonObject, notary_keys: Sequence[ServerKey], asked: set[str]
    ) -> list[ServerKey]:
        found: list[ServerKey] = []
        listed = answer.get("server_keys")
        for published in listed if isinstance(listed, list) else []:
            server_name = published.get("server_name") if isinstance(published, dict) else None
            if server_name not in asked or not _is_signed_by(published, notary_keys):
                continue
            try:
                found += read_published_keys(published, server_name, self._clock())
            except BadKeys as error:
                log.info("bad keys from a notary", server_name=server_name, reason=str(error))
        return found


def _is_enough(key: ServerKey, wanted: Mapping[tuple[str, str], int]) -> bool:
    until = wanted.get((key.server_name, key.key_id))
    return until is not None and key.valid_until_ts >= until


def _is_signed_by(published: JsonObject, keys: Sequence[ServerKey]) -> bool:
    """Has one of the (notary's) keys signed it?"""
    for key in keys:
        if key.key_id in key_ids_of(published, key.server_name):
            try:
                verify_signature(published, key.server_name, key.key_id, VerifyKey(key.verify_key))
            except SignatureError:
                continue
            return True
    return False
