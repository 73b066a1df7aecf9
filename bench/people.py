"""The users and rooms that the scenarios work with."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

from bench.connection import Connection
from bench.server import Server

AT_ONCE = 20
T = TypeVar("T")
_numbers = itertools.count(1)


@dataclass
class User:
    """A user with one connection."""

    user_id: str
    token: str
    connection: Connection

    async def send(self, room_id: str, text: str) -> None:
        await self.connection.json(
            "PUT",
            f"/rooms/{quote(room_id)}/send/m.room.message/{next(_numbers)}",
            {"msgtype": "m.text", "body": text},
        )

    async def join(self, room_id: str) -> None:
        await self.connection.json("POST", f"/rooms/{quote(room_id)}/join", {})

    async def create_room(self, name: str) -> str:
        answer = await self.connection.json(
            "POST", "/createRoom", {"preset": "public_chat", "name": name}
        )
        return str(answer["room_id"])

    async def position(self) -> str:
        """A token for the present moment."""
        answer = await self.connection.json(
            "GET", "/sync?filter=" + quote('{"room":{"rooms":[]},"presence":{"types":[]}}')
        )
        return str(answer["next_batch"])


async def new_users(server: Server, count: int) -> list[User]:
    async def make() -> User:
        anonymous = await Connection.open(server.url)
        body = {"username": f"u{next(_numbers)}", "password": "correct horse"}
        answer = await anonymous.json(
            "POST", "/register", {**body, "auth": {"type": "m.login.dummy"}}
        )
        anonymous.close()
        token = answer["access_token"]
        return User(answer["user_id"], token, await Connection.open(server.url, token))

    return await limited(make() for _ in range(count))


async def room_with(members: list[User], name: str) -> str:
    """A public room that the first one makes and all others join."""
    room_id = await members[0].create_room(name)
    await limited(member.join(room_id) for member in members[1:])
    return room_id


async def reconnect(server: Server, users: list[User]) -> None:
    """After a restart."""
    for user in users:
        user.connection.close()
        user.connection = await Connection.open(server.url, user.token)


async def limited(work: Iterable[Awaitable[T]], at_once: int = AT_ONCE) -> list[T]:
    """The results of all, so many running at a time."""
    gate = asyncio.Semaphore(at_once)

    async def one(item: Awaitable[T]) -> T:
        async with gate:
            return await item

    return await asyncio.gather(*map(one, work))
