"""Logged-in devices: tokens are given out, recognised, refreshed and ended.

Rules of this file: what ends a token ends it in the database first, then in the cache; a token
enters the cache only if nothing was ended while it was looked up.
client-server-api#relationship-between-access-tokens-and-devices
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.errors import InvalidParam, UnknownToken
from homeserver.lru_cache import LruCache
from homeserver.requester import Requester
from homeserver.store import cross_signing, devices, tokens
from homeserver.store.database import Database
from homeserver.store.tokens import NewTokens, Session
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

DevicesDeleted = Callable[[str, Sequence[str]], Awaitable[None]]
"""Is told, after the commit, which devices of a user are gone: (user id, device ids)."""

MAX_DEVICE_ID_LENGTH = 255
_DEVICE_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Login(Struct, frozen=True):
    """What a client asks for when it logs in."""

    device_id: str | None = None
    display_name: str | None = None
    can_refresh: bool = False


class Credentials(Struct, frozen=True):
    """What a client gets when it is logged in. `expires_in_ms` is None for tokens that stay."""

    device_id: str
    access_token: str
    refresh_token: str | None
    expires_in_ms: int | None


class Sessions:
    """The devices' tokens, the recently used ones in memory."""

    def __init__(
        self,
        database: Database,
        device_lists: DeviceLists,
        clock: Clock,
        access_token_lifetime_ms: int,
        cached: int,
        on_devices_deleted: Sequence[DevicesDeleted],
    ) -> None:
        """`access_token_lifetime_ms` holds for clients that can refresh their tokens."""
        self._database = database
        self._device_lists = device_lists
        self._clock = clock
        self._lifetime_ms = access_token_lifetime_ms
        self._on_devices_deleted = on_devices_deleted
        self._cache: LruCache[bytes, Session] = LruCache(cached)

    def known_requester(self, token: str) -> Requester | None:
        """Whose token it is, if that is in memory and the token has not expired."""
        session = self._cache.get(_hash(token))
        if session is None:
            return None
        if session.expires_at is not None and session.expires_at <= self._clock():
            return None
        return session.requester

    async def find_requester(self, token: str) -> Requester:
        """Whose token it is. Raises `UnknownToken`, a soft logout if the token has expired."""
        token_hash = _hash(token)
        discards = self._cache.discards
        async with self._database.connection() as connection:
            session = await tokens.find_session(connection, token_hash)
        if session is None:
            raise UnknownToken("This access token is not known")
        if session.expires_at is not None and session.expires_at <= self._clock():
            raise UnknownToken("This access token has expired", soft_logout=True)
        if session.replaces is not None:
            await self._confirm(session.replaces)
        self._cache.put_read(token_hash, session, discards)
        return session.requester

    async def _confirm(self, replaced: bytes) -> None:
        async with self._database.transaction() as connection:
            ended = await tokens.confirm(connection, replaced)
        self._forget(ended)

    async def open(self, user_id: str, login: Login) -> Credentials:
        """Log a device in; whatever tokens it had before end. Raises `InvalidParam`."""
        device_id = login.device_id if login.device_id is not None else _new_device_id()
        if not 0 < len(device_id.encode()) <= MAX_DEVICE_ID_LENGTH:
            raise InvalidParam(f"A device_id has 1 to {MAX_DEVICE_ID_LENGTH} bytes")
        now = self._clock()
        credentials = self._new_credentials(device_id, login.can_refresh)
        ended: list[bytes] = []
        async with self._database.transaction() as connection:
            if await cross_signing.is_public_key(connection, user_id, device_id):
                # "Servers therefore must ensure that device IDs will not collide with
                # cross-signing public keys."
                raise InvalidParam("This device_id is one of your cross-signing keys")
            is_new = await devices.upsert(connection, user_id, device_id, login.display_name, now)
            if not is_new:
                # "If the client sets the device_id, the server will invalidate any access and
                # refresh tokens previously assigned to that device."
                ended = await tokens.delete_of_device(connection, user_id, device_id)
            await tokens.insert(connection, self._stored(user_id, credentials, None), now)
        self._forget(ended)
        if is_new:
            await self._device_lists.publish(DeviceListUpdate(user_id, device_id))
        return credentials

    async def refresh(self, refresh_token: str) -> Credentials:
        """Exchange a refresh token. Raises `UnknownToken`."""
        token_hash = _hash(refresh_token)
        ended: list[bytes] = []
        async with self._database.transaction() as connection:
            found = await tokens.find_refresh_token(connection, token_hash)
            if found is None:
                raise UnknownToken("This refresh token is not known, or was used already")
            if found.replaces is not None:
                ended = await tokens.confirm(connection, found.replaces)
            # Exchanged before, and nobody used what was given: the client didn't get it.
            await tokens.delete_successors(connection, token_hash)
            credentials = self._new_credentials(found.device_id, can_refresh=True)
            stored = self._stored(found.user_id, credentials, replaces=token_hash)
            await tokens.insert(connection, stored, self._clock())
        self._forget(ended)
        return credentials

    async def delete_devices(self, user_id: str, device_ids: Sequence[str]) -> None:
        """Log these devices out and delete them; unknown ones are passed over."""
        asked = set(device_ids)
        await self._delete(user_id, [d for d in await self._device_ids(user_id) if d in asked])

    async def delete_all_devices(self, user_id: str, keep_device_id: str | None = None) -> None:
        """Log all devices of a user out and delete them, but for one perhaps."""
        known = await self._device_ids(user_id)
        await self._delete(user_id, [d for d in known if d != keep_device_id])

    async def _device_ids(self, user_id: str) -> list[str]:
        async with self._database.connection() as connection:
            return [d for _, d in await devices.ids_of_users(connection, [user_id])]

    async def _delete(self, user_id: str, device_ids: Sequence[str]) -> None:
        """The devices end by the stream, so that nobody who encrypts for them misses it."""
        await self._device_lists.publish(
            *(DeviceListUpdate(user_id, device_id, is_deleted=True) for device_id in device_ids)
        )
        await self._deleted(user_id, device_ids)

    async def _deleted(self, user_id: str, device_ids: Sequence[str]) -> None:
        gone = set(device_ids)
        self._cache.discard_where(
            lambda s: s.requester.user_id == user_id and s.requester.device_id in gone
        )
        if device_ids:
            for told in self._on_devices_deleted:
                await told(user_id, device_ids)

    def forget_user(self, user_id: str) -> None:
        """The account has changed (locked, suspended, admin, ...): look it up anew."""
        self._cache.discard_where(lambda session: session.requester.user_id == user_id)

    def _forget(self, token_hashes: Sequence[bytes]) -> None:
        for token_hash in token_hashes:
            self._cache.discard(token_hash)

    def _new_credentials(self, device_id: str, can_refresh: bool) -> Credentials:
        return Credentials(
            device_id=device_id,
            access_token=_new_token("hsa"),
            refresh_token=_new_token("hsr") if can_refresh else None,
            expires_in_ms=self._lifetime_ms if can_refresh else None,
        )

    def _stored(self, user_id: str, credentials: Credentials, replaces: bytes | None) -> NewTokens:
        lifetime, refresh_token = credentials.expires_in_ms, credentials.refresh_token
        return NewTokens(
            user_id=user_id,
            device_id=credentials.device_id,
            access_token=_hash(credentials.access_token),
            refresh_token=_hash(refresh_token) if refresh_token is not None else None,
            expires_at=self._clock() + lifetime if lifetime is not None else None,
            replaces=replaces,
        )


def _hash(token: str) -> bytes:
    """The name of a token in the store: a token has 256 bits of chance, so SHA-256 suffices."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _new_token(kind: str) -> str:
    return f"{kind}_{secrets.token_urlsafe(32)}"


def _new_device_id() -> str:
    return "".join(secrets.choice(_DEVICE_ID_LETTERS) for _ in range(10))
