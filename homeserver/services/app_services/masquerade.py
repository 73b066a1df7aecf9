"""As whom an application service acts. application-service-api#identity-assertion"""

from __future__ import annotations

from homeserver.clock import Clock
from homeserver.errors import Exclusive, Forbidden, MissingToken, UnknownDevice, UnknownToken
from homeserver.lru_cache import LruCache
from homeserver.protocol.app_services import AppService
from homeserver.requester import Requester
from homeserver.services.app_services.registry import Registry
from homeserver.store import accounts as account_store
from homeserver.store import devices as device_store
from homeserver.store.accounts import Account
from homeserver.store.database import Database

REMEMBERED = 20_000


class Masquerade:
    """Turns an `as_token` and what the request asserts into a requester."""

    def __init__(self, database: Database, registry: Registry, clock: Clock) -> None:
        self._database = database
        self._registry = registry
        self._clock = clock
        self._accounts: LruCache[str, Account] = LruCache(REMEMBERED)
        self._devices: LruCache[tuple[str, str], bool] = LruCache(REMEMBERED)

    async def requester(
        self, token: str, user_id: str | None, device_id: str | None
    ) -> Requester | None:
        """None if this is no application service's token.

        Raises Forbidden (not one of its users, or not registered), UnknownDevice.
        """
        service = self._registry.by_token(token)
        if service is None:
            return None
        user_id = user_id or service.user_id
        # It may act as the users of its namespaces, and no others.
        if not service.has_user(user_id):
            raise Forbidden(f"{user_id} is not in the namespaces of {service.id}")
        account = await self._account(service, user_id)
        if device_id is not None:
            await self._require_device(user_id, device_id)
        return Requester(
            user_id=user_id,
            device_id=device_id,
            is_admin=account.is_admin,
            is_suspended=account.is_suspended,
            is_locked=account.is_locked,
            app_service=service.id,
            # "The sender is excluded."
            is_rate_limited=service.rate_limited and user_id != service.user_id,
        )

    async def _account(self, service: AppService, user_id: str) -> Account:
        known = self._accounts.get(user_id)
        if known is not None:
            return known
        discards = self._accounts.discards
        async with self._database.connection() as connection:
            account = await account_store.find(connection, user_id)
            if account is None and user_id == service.user_id:
                account = Account(user_id, self._clock(), app_service=service.id)
                await account_store.insert(connection, account)
        if account is None or account.is_deactivated:
            raise Forbidden(f"{service.id} has not registered {user_id}")
        self._accounts.put_read(user_id, account, discards)
        return account

    async def _require_device(self, user_id: str, device_id: str) -> None:
        if self._devices.get((user_id, device_id)):
            return
        discards = self._devices.discards
        async with self._database.connection() as connection:
            if await device_store.find(connection, user_id, device_id) is None:
                raise UnknownDevice(f"{user_id} has no device {device_id}")
        self._devices.put_read((user_id, device_id), True, discards)

    def forget_user(self, user_id: str) -> None:
        """The account has changed: look it up anew."""
        self._accounts.discard(user_id)

    async def devices_deleted(self, user_id: str, device_ids: object) -> None:
        """Devices are gone."""
        self._devices.clear()

    def service_for_login(self, token: str | None, user_id: str) -> AppService:
        """The application service that logs a user in, or registers one, with its token.

        Raises MissingToken, UnknownToken, Exclusive.
        application-service-api#server-admin-style-permissions
        """
        if token is None:
            raise MissingToken("This needs the token of an application service")
        service = self._registry.by_token(token)
        if service is None:
            raise UnknownToken("This is not the token of an application service")
        if not service.has_user(user_id):
            raise Exclusive(f"{user_id} is not in the namespaces of {service.id}")
        return service
