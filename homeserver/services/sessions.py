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
from homeserver.errors import InvalidParam, UnknownToken, UserLocked
from homeserver.lru_cache import LruCache
from homeserver.requester import Requester
from homeserver.store import accounts, cross_signing, devices, tokens
from homeserver.store.database import Database
from homeserver.store.tokens import NewTokens, Session
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

DevicesDeleted = Callable[[str, Sequence[str]], Awaitable[None]]
"""Is told, after the commit, which devices of a user are gone: (user id, device ids)."""

MAX_DEVICE_ID_LENGTH = 255
FAMILY_KIND = "hso"
MAX_ENDED_FAMILIES = 1_000
_DEVICE_ID_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class OAuthGrant(Struct, frozen=True):
    """By what a client logs in with OAuth 2.0. The `family`, 32 hexadecimal digits, is in each of
    the refresh tokens that come of it, so that a used one can still be told from an unknown one."""

    client_id: str
    family: str


class Login(Struct, frozen=True):
    """What a client asks for when it logs in; by OAuth 2.0, it can refresh its tokens."""

    device_id: str | None = None
    display_name: str | None = None
    can_refresh: bool = False
    oauth: OAuthGrant | None = None


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
        self._ended_families: LruCache[str, bool] = LruCache(MAX_ENDED_FAMILIES)

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
        """Log a device in; whatever tokens it had before end.

        Raises `InvalidParam`, and `UnknownToken` if its grant ended meanwhile.
        """
        device_id = login.device_id if login.device_id is not None else _new_device_id()
        if not 0 < len(device_id.encode()) <= MAX_DEVICE_ID_LENGTH:
            raise InvalidParam(f"A device_id has 1 to {MAX_DEVICE_ID_LENGTH} bytes")
        now = self._clock()
        can_refresh = login.can_refresh or login.oauth is not None
        credentials = self._new_credentials(device_id, can_refresh, login.oauth)
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
            stored = self._stored(user_id, credentials, login.oauth)
            await tokens.insert(connection, stored, now)
        self._forget(ended)
        if is_new:
            await self._device_lists.publish(DeviceListUpdate(user_id, device_id))
        if login.oauth is not None and self._ended_families.get(login.oauth.family):
            await self._delete(user_id, [device_id])
            raise UnknownToken("This grant was used twice")
        return credentials

    async def refresh(self, refresh_token: str, oauth_client: str | None = None) -> Credentials:
        """Exchange a refresh token, which was given to `oauth_client` (None: not by OAuth 2.0).

        Raises `UnknownToken`, and `UserLocked` if it didn't come by OAuth. A token that was used
        already ends its device if it came by OAuth.
        """
        family = _family(refresh_token)
        grant = OAuthGrant(oauth_client, family) if oauth_client and family else None
        credentials = await self._exchange(_hash(refresh_token), oauth_client, grant)
        if credentials is None:
            if family is not None and not await self._is_refresh_token(refresh_token):
                await self.end_family(family)
            raise UnknownToken("This refresh token is not known, or was used already")
        return credentials

    async def _exchange(
        self, token_hash: bytes, oauth_client: str | None, grant: OAuthGrant | None
    ) -> Credentials | None:
        ended: list[bytes] = []
        async with self._database.transaction() as connection:
            found = await tokens.find_refresh_token(connection, token_hash)
            if found is None or found.oauth_client != oauth_client:
                return None
            account = await accounts.find(connection, found.user_id)
            if oauth_client is None and account is not None and account.is_locked:
                raise UserLocked("This account is locked", soft_logout=True)
            if found.replaces is not None:
                ended = await tokens.confirm(connection, found.replaces)
            # Exchanged before, and nobody used what was given: the client didn't get it.
            ended += await tokens.delete_successors(connection, token_hash)
            credentials = self._new_credentials(found.device_id, can_refresh=True, grant=grant)
            stored = self._stored(found.user_id, credentials, grant, replaces=token_hash)
            await tokens.insert(connection, stored, self._clock())
        self._forget(ended)
        return credentials

    async def _is_refresh_token(self, token: str) -> bool:
        async with self._database.connection() as connection:
            return await tokens.find_refresh_token(connection, _hash(token)) is not None

    async def end_family(self, family: str) -> None:
        """End the device that was logged in by this grant, if it (still) is.

        "The homeserver SHOULD consider that the session is compromised if an old, invalidated
        refresh token is used, and SHOULD revoke the session."
        """
        self._ended_families.put(family, True)  # a device that is being logged in ends too
        async with self._database.connection() as connection:
            device = await tokens.device_of_family(connection, _hash(family))
        if device is not None:
            await self._delete(device[0], [device[1]])

    async def end_token(self, token: str) -> None:
        """End the device that has this access or refresh token, if there is one."""
        async with self._database.connection() as connection:
            device = await tokens.device_of_token(connection, _hash(token))
        if device is not None:
            await self._delete(device[0], [device[1]])

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

    def _new_credentials(
        self, device_id: str, can_refresh: bool, grant: OAuthGrant | None
    ) -> Credentials:
        kind = "hsr" if grant is None else f"{FAMILY_KIND}_{grant.family}"
        return Credentials(
            device_id=device_id,
            access_token=_new_token("hsa"),
            refresh_token=_new_token(kind) if can_refresh else None,
            expires_in_ms=self._lifetime_ms if can_refresh else None,
        )

    def _stored(
        self,
        user_id: str,
        credentials: Credentials,
        grant: OAuthGrant | None,
        replaces: bytes | None = None,
    ) -> NewTokens:
        lifetime, refresh_token = credentials.expires_in_ms, credentials.refresh_token
        return NewTokens(
            user_id=user_id,
            device_id=credentials.device_id,
            access_token=_hash(credentials.access_token),
            refresh_token=_hash(refresh_token) if refresh_token is not None else None,
            expires_at=self._clock() + lifetime if lifetime is not None else None,
            replaces=replaces,
            oauth_client=grant.client_id if grant is not None else None,
            oauth_family=_hash(grant.family) if grant is not None else None,
        )


def _hash(token: str) -> bytes:
    """The name of a token in the store: a token has 256 bits of chance, so SHA-256 suffices."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _new_token(kind: str) -> str:
    return f"{kind}_{secrets.token_urlsafe(32)}"


def _family(refresh_token: str) -> str | None:
    """What the refresh tokens of one OAuth grant have in common."""
    kind, _, rest = refresh_token.partition("_")
    return rest.partition("_")[0] if kind == FAMILY_KIND else None


def _new_device_id() -> str:
    return "".join(secrets.choice(_DEVICE_ID_LETTERS) for _ in range(10))
