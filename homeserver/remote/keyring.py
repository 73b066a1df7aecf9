"""The public keys of other servers, and what is verified with them.

Rules of this file: a key comes from memory, then Postgres, then its server, then a notary; asking
a server is not repeated for a minute (`key_fetcher`); many signatures are
checked as one job in a thread (libsodium lets go of the GIL), one is checked at once.
server-server-api#retrieving-server-keys
server-server-api#validating-hashes-and-signatures-on-received-events
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

from msgspec import Struct
from nacl.signing import VerifyKey

from homeserver.clock import Clock
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.events import Event, required_signers
from homeserver.protocol.policy_servers import KEY_ID as POLICY_KEY_ID
from homeserver.protocol.signatures import (
    SignatureError,
    Signer,
    decode_base64,
    is_signature,
    key_ids_of,
    pdu_message,
    signature_of,
)
from homeserver.remote.key_fetcher import KeyFetcher
from homeserver.store.database import Database
from homeserver.store.server_keys import ServerKey, find_keys, find_keys_of_servers, put_keys

IN_A_THREAD = 3
MESSAGES_A_SLICE = 100
MAX_KEYS_TRIED = 4

KeyName = tuple[str, str]
"""Server name and key id."""

_Check = tuple[bytes, bytes, VerifyKey]
"""Message, signature, key."""


class _Signed(Struct, frozen=True, gc=False):
    """An event, its PDU, who must have signed it, and the keys that are named."""

    event: Event
    pdu: JsonObject
    signers: Sequence[str]
    names: Sequence[KeyName]


class Verifying(Struct, frozen=True):
    """Signatures that are being checked; `owners` are the indices of their events."""

    found: list[str | None]
    owners: Sequence[int]
    checked: asyncio.Future[list[bool]]

    async def problems(self) -> list[str | None]:
        """For each event None if all of its signatures are right, else what is wrong with it."""
        problems = list(self.found)
        for owner, right in zip(self.owners, await self.checked, strict=True):
            if not right:
                problems[owner] = "a signature is wrong"
        return problems


class Keyring:
    """Verifies the signatures of other servers, and ours. `cached` keys are held in memory."""

    def __init__(
        self, database: Database, fetcher: KeyFetcher, signer: Signer, clock: Clock, cached: int
    ) -> None:
        self._database = database
        self._fetcher = fetcher
        self._signer = signer
        self._clock = clock
        self._known: LruCache[KeyName, ServerKey] = LruCache(cached)

    async def verify_request(
        self, origin: str, key_id: str, signature: str, message: bytes
    ) -> None:
        """Raises SignatureError unless `origin` signed the message with a key valid now."""
        name = (origin, key_id)
        now = self._clock()
        key = (await self.keys({name: now}, for_a_request=True)).get(name)
        if key is None or key.valid_until_ts < now:
            raise SignatureError(f"the key {key_id} of {origin} can't be had or is no longer valid")
        try:
            raw = decode_base64(signature)
        except ValueError:
            raise SignatureError("the signature is not base64") from None
        if not is_signature(message, raw, VerifyKey(key.verify_key)):
            raise SignatureError(f"the signature of {origin} is wrong")

    async def is_known(self, origin: str, key_ids: Collection[str]) -> bool:
        """Whether we have any key of a server; no query for one of whom these are in memory."""
        if any(self._known.get((origin, key_id)) for key_id in key_ids):
            return True
        async with self._database.connection() as connection:
            stored = await find_keys_of_servers(connection, [origin])
        self._remember(stored)
        return bool(stored) or origin == self._signer.server_name

    async def meet(self, origin: str, key_ids: Collection[str]) -> bool:
        """Ask a server that we don't know for its keys; did it, or a notary, show any?"""
        now = self._clock()
        keys = await self._fetcher.fetch(
            {(origin, key_id): now for key_id in key_ids}, for_a_request=True
        )
        await self._store(keys)
        return any(key.server_name == origin for key in keys)

    async def verify_events(self, events: Sequence[Event]) -> list[str | None]:
        """For each event None if all required signatures are right, else what is wrong with it.

        The content of each must be as it was signed (or redacted). Check 2 on receipt.
        """
        return await (await self.begin_verifying(events)).problems()

    async def begin_verifying(self, events: Sequence[Event]) -> Verifying:
        """The same: on return the keys are at hand, and the rest goes on in a thread."""
        problems: list[str | None] = [None] * len(events)
        wanted: dict[KeyName, int] = {}
        signers = [sorted(required_signers(event)) for event in events]
        key_ids: list[list[KeyName]] = []
        pdus: list[JsonObject] = []
        for event, names in zip(events, signers, strict=True):
            if len(pdus) % MESSAGES_A_SLICE == MESSAGES_A_SLICE - 1:
                await asyncio.sleep(0)
            pdu = event.pdu
            pdus.append(pdu)
            of_event = [(name, key_id) for name in names for key_id in _key_ids(pdu, name)]
            key_ids.append(of_event)
            needed = event.origin_server_ts if event.rules.enforce_key_validity else 0
            for name in of_event:
                wanted[name] = max(wanted.get(name, 0), needed)
        keys = await self.keys(wanted)
        checks: list[_Check] = []
        owners: list[int] = []
        for index, event in enumerate(events):
            if index % MESSAGES_A_SLICE == MESSAGES_A_SLICE - 1:
                await asyncio.sleep(0)
            try:
                signed = _Signed(event, pdus[index], signers[index], key_ids[index])
                of_event_checks = _checks(signed, keys)
            except SignatureError as error:
                problems[index] = str(error)
                continue
            checks += of_event_checks
            owners += [index] * len(of_event_checks)
        return Verifying(problems, owners, _begin_checking(checks))

    async def keys(
        self, wanted: Mapping[KeyName, int], *, for_a_request: bool = False
    ) -> dict[KeyName, ServerKey]:
        """The keys that can be had, each valid until the wanted time if its server says so.

        `for_a_request`: to know who makes one.
        """
        found: dict[KeyName, ServerKey] = {}
        missing = dict(wanted)
        self._take(found, missing, self._from_memory(wanted))
        if missing:
            async with self._database.connection() as connection:
                stored = await find_keys(connection, list(missing))
            self._remember(stored)
            self._take(found, missing, stored)
        if missing:
            fetched = await self._fetcher.fetch(missing, for_a_request=for_a_request)
            await self._store(fetched)
            self._take(found, missing, fetched)
        return found

    def _from_memory(self, names: Iterable[KeyName]) -> list[ServerKey]:
        found = [self._known.get(name) or self._our_own(name) for name in names]
        return [key for key in found if key is not None]

    def _our_own(self, name: KeyName) -> ServerKey | None:
        if name != (self._signer.server_name, self._signer.key_id):
            return None
        return ServerKey(*name, bytes(self._signer.key.verify_key), 2**63 - 1, 0, b"")

    @staticmethod
    def _take(
        found: dict[KeyName, ServerKey], missing: dict[KeyName, int], keys: Iterable[ServerKey]
    ) -> None:
        """What is found stays found even if it isn't valid for long enough, but is looked for."""
        for key in keys:
            name = (key.server_name, key.key_id)
            found[name] = key
            if name in missing and key.valid_until_ts >= missing[name]:
                del missing[name]

    def _remember(self, keys: Iterable[ServerKey]) -> None:
        for key in keys:
            self._known.put((key.server_name, key.key_id), key)

    async def _store(self, keys: Collection[ServerKey]) -> None:
        if keys:
            async with self._database.connection() as connection:
                await put_keys(connection, keys)
            self._remember(keys)


def _key_ids(pdu: JsonObject, server_name: str) -> list[str]:
    """The keys with which a server says that it has signed an event, as its sender's server.

    What it says of the event as a policy server isn't asked for: that key is in the room's state.
    """
    key_ids = [key_id for key_id in key_ids_of(pdu, server_name) if key_id != POLICY_KEY_ID]
    return key_ids[:MAX_KEYS_TRIED]


def _checks(signed: _Signed, keys: Mapping[KeyName, ServerKey]) -> list[_Check]:
    """One signature to check for each required signer. Raises SignatureError."""
    event, pdu, signers, names = signed.event, signed.pdu, signed.signers, signed.names
    if not signers:
        return []
    try:
        message = pdu_message(pdu, event.rules)
    except CanonicalJsonError as error:
        raise SignatureError(f"no canonical JSON: {error}") from None
    checks = []
    for server_name in signers:
        usable = [name for name in names if name[0] == server_name and _may_sign(event, keys, name)]
        if not usable:
            raise SignatureError(f"not signed by {server_name} with a key that is known and valid")
        signature = signature_of(pdu, *usable[0])
        checks.append((message, signature, VerifyKey(keys[usable[0]].verify_key)))
    return checks


def _may_sign(event: Event, keys: Mapping[KeyName, ServerKey], name: KeyName) -> bool:
    key = keys.get(name)
    if key is None:
        return False
    # "When validating event signatures, servers MUST enforce the `valid_until_ts` property from a
    # key request is at least as large as the `origin_server_ts` for the event being validated."
    return not event.rules.enforce_key_validity or key.valid_until_ts >= event.origin_server_ts


def _begin_checking(checks: Sequence[_Check]) -> asyncio.Future[list[bool]]:
    loop = asyncio.get_running_loop()
    if len(checks) < IN_A_THREAD:
        done: asyncio.Future[list[bool]] = loop.create_future()
        done.set_result([is_signature(*check) for check in checks])
        return done
    return loop.run_in_executor(None, lambda: [is_signature(*check) for check in checks])
