"""`homeserver register`: an account, straight into the database or made by a running server."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import urllib.error
import urllib.request

import msgspec
from msgspec import Struct

from homeserver.config import Config
from homeserver.errors import MatrixError
from homeserver.json_types import JsonObject
from homeserver.offline import Refused, database_url

SHARED_SECRET_PATH = "/_synapse/admin/v1/register"  # noqa: S105
TIMEOUT_SECONDS = 30


class NewAccount(Struct, frozen=True):
    """Who shall have an account."""

    username: str
    password: str
    is_admin: bool


def into_database(config: Config, account: NewAccount) -> str:
    """Writes the account into the config's database; its user id. Raises Refused."""
    with database_url(config) as url:
        try:
            return asyncio.run(_insert(config, url, account))
        except MatrixError as error:
            raise Refused(error.message) from error


async def _insert(config: Config, url: str, account: NewAccount) -> str:
    from homeserver.clock import now_ms
    from homeserver.passwords import hash_password
    from homeserver.services import registration
    from homeserver.store.database import (
        Database,
        MigrationError,
        migrate,
        migrations_directory,
    )

    database = await Database.open(url, connections=1)
    try:
        async with database.connection() as connection:
            await migrate(connection, migrations_directory(), only_if_new=True)
        service = registration.Registration(
            database, config.server_name, config.registration, now_ms, on_registered=()
        )
        user_id = service.user_id_for(account.username)
        await service.create(
            registration.NewAccount(
                user_id,
                hash_password(account.password, config.password.bcrypt_rounds),
                is_admin=account.is_admin,
            )
        )
    except MigrationError as error:
        raise Refused(str(error)) from error
    finally:
        await database.close()
    return user_id


def at_server(url: str, shared_secret: str, account: NewAccount) -> str:
    """Has the server at `url` make the account; its user id. Raises Refused.

    The protocol is Synapse's: a nonce, and an HMAC-SHA1 with the secret over what is asked for.
    """
    if not shared_secret:
        raise Refused("this needs the server's registration.shared_secret (--shared-secret)")
    endpoint = url.rstrip("/") + SHARED_SECRET_PATH
    nonce = _call(endpoint, None)["nonce"]
    admin = "admin" if account.is_admin else "notadmin"
    message = "\0".join((nonce, account.username, account.password, admin))
    answer = _call(
        endpoint,
        {
            "nonce": nonce,
            "username": account.username,
            "password": account.password,
            "admin": account.is_admin,
            "inhibit_login": True,
            "mac": hmac.new(shared_secret.encode(), message.encode(), hashlib.sha1).hexdigest(),
        },
    )
    return str(answer["user_id"])


def _call(url: str, body: JsonObject | None) -> JsonObject:
    data = None if body is None else msgspec.json.encode(body)
    if not url.startswith(("http://", "https://")):
        raise Refused(f"{url} doesn't begin with http:// or https://")
    try:
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return msgspec.json.decode(response.read(), type=JsonObject)
    except urllib.error.HTTPError as error:
        raise Refused(f"the server refuses: {_problem(error.read())}") from error
    except (OSError, ValueError) as error:
        raise Refused(f"{url}: {error}") from error


def _problem(answer: bytes) -> str:
    try:
        return str(msgspec.json.decode(answer, type=JsonObject).get("error"))
    except msgspec.MsgspecError:
        return answer[:200].decode(errors="replace")
