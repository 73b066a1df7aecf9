"""What an account's owner or an admin does with it: prove, change and end it.

client-server-api#account-management
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from homeserver import passwords
from homeserver.clock import Clock
from homeserver.config import Password
from homeserver.errors import (
    BadJson,
    Forbidden,
    MissingParam,
    OtherUser,
    UnknownError,
    UserDeactivated,
    WeakPassword,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import folded_address
from homeserver.store import accounts, threepids
from homeserver.store.accounts import Account, Flag
from homeserver.store.database import Database
from homeserver.store.threepids import Threepid

WRONG_PASSWORD = "The user name or the password is wrong"  # noqa: S105 - a sentence

Deactivated = Callable[[str, bool], Awaitable[None]]
"""Is told that an account has ended: (user id, whether its content is to be erased)."""


class AccountObservers(Struct, frozen=True):
    """Who is told what becomes of accounts.

    `on_password_tried` hears each user id whose password is tried, and may raise `LimitExceeded`;
    `on_changed` each whose rights have changed; `on_deactivated` of the end.
    """

    on_password_tried: Callable[[str], None]
    on_changed: Callable[[str], None]
    on_deactivated: Sequence[Deactivated]


class Accounts:
    """The accounts of this server."""

    def __init__(
        self,
        database: Database,
        server_name: str,
        options: Password,
        observers: AccountObservers,
        clock: Clock,
    ) -> None:
        self._database = database
        self._server_name = server_name
        self._options = options
        self._observers = observers
        self._clock = clock

    def user_id(self, name: str) -> str:
        """The user id for what a person types: a user id or its localpart."""
        return name if name.startswith("@") else f"@{name}:{self._server_name}"

    async def find(self, user_id: str) -> Account | None:
        """The account, a deactivated one too."""
        async with self._database.connection() as connection:
            return await accounts.find(connection, user_id)

    async def identify(self, identifier: JsonObject) -> str:
        """The user id that a user identifier object means (there may be no such account).

        Raises `Forbidden` for an unknown third-party id. client-server-api#identifier-types
        """
        match identifier:
            case {"type": "m.id.user", "user": str(name)}:
                return self.user_id(name)
            case {"medium": str(medium), "address": str(address)}:
                return await self._owner(medium, address)
            case {"type": "m.id.phone", "phone": str(phone)} | {
                "type": "m.id.phone",
                "number": str(phone),
            }:
                return await self._owner("msisdn", "".join(filter(str.isdigit, phone)))
            case {"type": str(kind)} if kind not in {"m.id.user", "m.id.thirdparty", "m.id.phone"}:
                raise UnknownError(f"Identifiers of type {kind} are not supported")
        raise BadJson("`identifier` must be a user identifier object, such as m.id.user")

    async def _owner(self, medium: str, address: str) -> str:
        async with self._database.connection() as connection:
            user_id = await threepids.owner(connection, medium, _canonical(medium, address))
        if user_id is None:
            raise Forbidden(WRONG_PASSWORD)
        return user_id

    async def check_password(self, user_id: str, password: str) -> Account:
        """The account whose password this is. It takes as long if there is no such account.

        Raises `Forbidden`, `UserDeactivated`, `LimitExceeded`.
        """
        self._observers.on_password_tried(user_id.casefold())
        async with self._database.connection() as connection:
            account = await accounts.find(connection, user_id)
            if account is None and user_id != user_id.lower():
                account = await accounts.find(connection, user_id.lower())
        known_hash = account.password_hash if account is not None else None
        matches = await asyncio.to_thread(
            passwords.password_matches, password, known_hash, self._options.bcrypt_rounds
        )
        if account is not None and account.is_deactivated:
            raise UserDeactivated("This account has been deactivated")
        if account is None or not matches:
            raise Forbidden(WRONG_PASSWORD)
        return account

    def check_new_password(self, password: str) -> None:
        """Raises `WeakPassword`."""
        if len(password) < self._options.minimum_length:
            raise WeakPassword(f"A password has at least {self._options.minimum_length} characters")

    async def hash_password(self, password: str) -> str:
        """The hash to store for a new password. Raises `WeakPassword`."""
        self.check_new_password(password)
        return await asyncio.to_thread(
            passwords.hash_password, password, self._options.bcrypt_rounds
        )

    async def set_password(self, user_id: str, password: str) -> None:
        """Raises `WeakPassword`."""
        password_hash = await self.hash_password(password)
        async with self._database.connection() as connection:
            await accounts.set_password_hash(connection, user_id, password_hash)

    async def set_flag(self, user_id: str, flag: Flag, value: bool) -> None:
        """Make an admin of the account, suspend or lock it, or undo that."""
        async with self._database.connection() as connection:
            await accounts.set_flag(connection, user_id, flag, value)
        self._observers.on_changed(user_id)

    async def deactivate(self, user_id: str, erase: bool) -> None:
        """End the account for ever; all that hang on it are told."""
        async with self._database.transaction() as connection:
            await accounts.deactivate(connection, user_id)
            await threepids.delete_all(connection, user_id)
        self._observers.on_changed(user_id)
        for told in self._observers.on_deactivated:
            await told(user_id, erase)

    async def threepids(self, user_id: str) -> list[Threepid]:
        """The user's mail addresses and phone numbers."""
        async with self._database.connection() as connection:
            return await threepids.of_user(connection, user_id)

    async def owner_of_mail(self, address: str) -> str | None:
        """The user id of the account that has this mail address."""
        async with self._database.connection() as connection:
            return await threepids.owner(connection, "email", _canonical("email", address))

    async def add_mail(self, user_id: str, address: str, validated_at: int) -> bool:
        """Add a mail address, which its owner has confirmed; False if another account has it."""
        canonical = _canonical("email", address)
        threepid = Threepid("email", canonical, validated_at, self._clock())
        async with self._database.transaction() as connection:
            added = await threepids.add(connection, user_id, threepid)
            return added or await threepids.owner(connection, "email", canonical) == user_id

    async def remove_threepid(self, user_id: str, medium: str, address: str) -> None:
        """Forget one of them; no error if there is none."""
        async with self._database.connection() as connection:
            await threepids.delete(connection, user_id, medium, _canonical(medium, address))


def _canonical(medium: str, address: str) -> str:
    return folded_address(address) if medium == "email" else address


class PasswordStage:
    """`m.login.password` in User-Interactive Authentication: finds out a user id.

    client-server-api#password-based
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def params(self) -> JsonObject | None:
        return None

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        password = auth.get("password")
        if not isinstance(password, str):
            raise MissingParam("`auth.password` is missing")
        claimed = await self._claimed(auth) or user_id
        if claimed is None:
            raise MissingParam("`auth.identifier` is missing")
        account = await self._accounts.check_password(claimed, password)
        if user_id is not None and account.user_id != user_id:
            raise OtherUser("This is another user's password")
        return account.user_id

    async def _claimed(self, auth: JsonObject) -> str | None:
        identifier, user = auth.get("identifier"), auth.get("user")
        if isinstance(identifier, dict):
            return await self._accounts.identify(identifier)
        return self._accounts.user_id(user) if isinstance(user, str) else None
