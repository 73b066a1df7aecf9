"""New accounts: which names may be taken, and by whom.

client-server-api#post_matrixclientv3register
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Registration as Options
from homeserver.errors import Exclusive, Forbidden, InvalidUsername, MissingParam, UserInUse
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol import identifiers
from homeserver.store import accounts, registration_tokens
from homeserver.store.accounts import Account
from homeserver.store.database import Database
from homeserver.store.registration_tokens import RegistrationToken

Registered = Callable[[str], Awaitable[None]]
"""Is told the user id of each new account."""

_DAY_MS = 24 * 60 * 60 * 1000
_REPEATED_MS = 5 * 60 * 1000
_NAME_LETTERS = string.ascii_lowercase + string.digits


class NewAccount(Struct, frozen=True):
    """An account to make. `token` is the registration token that allows it, where one is needed;
    `was_guest`: the account is there, as a guest's."""

    user_id: str
    password_hash: str | None = None
    is_guest: bool = False
    is_admin: bool = False
    app_service: str | None = None
    token: str | None = None
    was_guest: bool = False


class Registration:
    """Makes accounts."""

    def __init__(
        self,
        database: Database,
        server_name: str,
        options: Options,
        clock: Clock,
        on_registered: Sequence[Registered],
        is_exclusive: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`is_exclusive`: does an application service claim this user id for itself?"""
        self._database = database
        self._server_name = server_name
        self._options = options
        self._clock = clock
        self._is_exclusive = is_exclusive
        self._on_registered = on_registered
        self._done: LruCache[str, tuple[str, int]] = LruCache(1000)

    async def flows(self) -> list[list[str]]:
        """The stages that lead to an account. Raises `Forbidden` if registration is closed.

        Tokens that make admins work always: so the owner of a closed server gets in.
        """
        if self._options.enabled and not self._options.requires_token:
            return [["m.login.dummy"]]
        if not await self.is_possible():
            raise Forbidden("Registration is disabled on this server")
        return [["m.login.registration_token"]]

    async def is_possible(self) -> bool:
        """Whether anybody can make an account for themselves."""
        return self._options.enabled or await self._has_admin_tokens()

    async def _has_admin_tokens(self) -> bool:
        async with self._database.connection() as connection:
            token = await registration_tokens.valid_admin_token(connection, self._clock())
        return token is not None

    async def token_is_valid(self, token: str) -> bool:
        """Whether an account can be made with this registration token now."""
        admins_only = not self._options.enabled
        async with self._database.connection() as connection:
            return await registration_tokens.is_valid(connection, token, admins_only, self._clock())

    def user_id_for(self, username: str | None) -> str:
        """The user id for a wished (or no) username. Raises `InvalidUsername`, `Exclusive`."""
        user_id = self.user_id_of(_random_name() if username is None else username)
        if self._is_exclusive(user_id):
            raise Exclusive("This username is reserved by an application service")
        # "Exclusive user and alias namespaces should begin with an underscore after the sigil to
        # avoid collisions with other users": so others don't.
        if user_id.startswith("@_"):
            raise InvalidUsername("A username can't begin with _: bridges' users do")
        return user_id

    def user_id_of(self, username: str) -> str:
        """The user id for a username, whoever may have it. Raises `InvalidUsername`."""
        user_id = f"@{username.lower()}:{self._server_name}"
        if not identifiers.is_valid_new_localpart(username.lower()):
            raise InvalidUsername("A username has only the characters a-z, 0-9, and . _ = - / +")
        if not identifiers.fits(user_id):
            raise InvalidUsername(f"{user_id} is longer than 255 bytes")
        return user_id

    async def check_available(self, user_id: str) -> None:
        """Raises `UserInUse`."""
        async with self._database.connection() as connection:
            if await accounts.find(connection, user_id) is not None:
                raise UserInUse("This user id is taken")

    async def create(self, new: NewAccount) -> None:
        """Make the account. Raises `UserInUse`, and `Forbidden` if its token is used up."""
        now = self._clock()
        async with self._database.transaction() as connection:
            is_admin = new.is_admin
            if new.token is not None:
                token = await registration_tokens.use(connection, new.token, now)
                if token is None:
                    raise Forbidden("This registration token is used up or has expired")
                is_admin = is_admin or token.makes_admin
            account = Account(
                user_id=new.user_id,
                created_at=now,
                password_hash=new.password_hash,
                app_service=new.app_service,
                is_guest=new.is_guest,
                is_admin=is_admin,
            )
            put = accounts.upgrade_guest if new.was_guest else accounts.insert
            if not await put(connection, account):
                raise UserInUse("This user id is taken")
        for told in () if new.was_guest else self._on_registered:
            await told(new.user_id)

    def done(self, session_id: Any, user_id: str) -> None:
        """The account was made in this authentication session."""
        if isinstance(session_id, str):
            self._done.put(session_id, (user_id, self._clock() + _REPEATED_MS))

    async def made_in(self, session_id: Any) -> str | None:
        """Whose account was made in this authentication session a moment ago: the answer may have
        been lost, and the client asks again."""
        made = self._done.get(session_id) if isinstance(session_id, str) else None
        if made is None or made[1] <= self._clock():
            return None
        user_id = made[0]
        async with self._database.connection() as connection:
            account = await accounts.find(connection, user_id)
        gone = account is None or account.is_deactivated or account.is_locked
        return None if gone else user_id

    async def create_guest(self) -> str:
        """Make a guest account and give its user id. Raises `Forbidden`."""
        if not self._options.guests:
            raise Forbidden("Guests are not allowed on this server")
        user_id = f"@guest-{_random_name()}:{self._server_name}"
        await self.create(NewAccount(user_id, is_guest=True))
        return user_id

    async def first_admin_token(self) -> str | None:
        """Lets the owner of a new server make one account, an admin's; good for a day.

        None once anybody has an account, or where everybody may make one anyway.
        """
        if self._options.enabled and not self._options.requires_token:
            return None
        now = self._clock()
        async with self._database.connection() as connection:
            if await accounts.has_people(connection):
                return None
            token = await registration_tokens.valid_admin_token(connection, now)
            if token is None:
                token = secrets.token_urlsafe(18)
                made = RegistrationToken(
                    token, now, uses_allowed=1, expires_at=now + _DAY_MS, makes_admin=True
                )
                await registration_tokens.insert(connection, made)
        return token


class RegistrationTokenStage:
    """`m.login.registration_token`: finds out the token, which is used up with the account.

    client-server-api#token-authenticated-registration
    """

    def __init__(self, registration: Registration) -> None:
        self._registration = registration

    def params(self) -> JsonObject | None:
        return None

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        token = auth.get("token")
        if not isinstance(token, str):
            raise MissingParam("`auth.token` is missing")
        if not await self._registration.token_is_valid(token):
            raise Forbidden("This registration token is not valid")
        return token


def _random_name() -> str:
    return "".join(secrets.choice(_NAME_LETTERS) for _ in range(12))
