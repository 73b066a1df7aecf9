"""A Matrix client for tests: thin, one method per thing that tests do often."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import quote as quote_path

import aiohttp

from homeserver.json_types import JsonObject
from tests.support import specification

DEADLINE = 15.0


def quote(part: str) -> str:
    """One segment of a path: event ids of room version 3 have slashes."""
    return quote_path(part, safe="")


V3 = "/_matrix/client/v3"
PASSWORD = "correct horse"

Found = TypeVar("Found")


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, body: JsonObject, headers: Any) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = headers
        self.errcode: str = body.get("errcode", "")


async def refusal(request: Awaitable[Any]) -> Refused:
    """The error with which a request is refused; fails if it isn't."""
    try:
        answer = await request
    except Refused as refused:
        return refused
    raise AssertionError(f"not refused: {answer}")


class Client:
    """One device of one user (or nobody yet) at one server.

    `next_batch` is the token of the last sync, with which the next one goes on.
    """

    _txn_ids = itertools.count(1)

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.http = http
        self.url = url
        self.user_id = ""
        self.device_id = ""
        self.token = ""
        self.next_batch: str | None = None

    async def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: dict[str, str] | None = None,
        data: bytes | None = None,
    ) -> Any:
        """The decoded answer; `path` may leave out /_matrix/client/v3. Raises Refused."""
        if not path.startswith(("/_", "/.", "/health", "/metrics")):
            path = V3 + path
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with (
            asyncio.timeout(DEADLINE + 30),
            self.http.request(
                method,
                self.url + path,
                json=body if data is None else None,
                data=data,
                params=query,
                headers=headers,
            ) as response,
        ):
            answer = await response.json(content_type=None)
            if specification.JUDGES and not _asks_for_other(query or {}):
                _judge(method, path, response.status, answer)
            if response.status >= 400:
                raise Refused(response.status, answer, response.headers)
            return answer

    async def get(self, path: str, **query: str) -> Any:
        return await self.request("GET", path, query=query)

    async def post(self, path: str, body: Any = None, **query: str) -> Any:
        return await self.request("POST", path, {} if body is None else body, query=query)

    async def put(self, path: str, body: Any, **query: str) -> Any:
        return await self.request("PUT", path, body, query=query)

    async def delete(self, path: str, body: Any = None) -> Any:
        return await self.request("DELETE", path, body)

    # Accounts

    async def register(self, username: str, password: str = PASSWORD, **more: Any) -> Client:
        """Makes an account and is logged in as it."""
        body = {"username": username, "password": password, "auth": {"type": "m.login.dummy"}}
        self._logged_in(await self.post("/register", {**body, **more}))
        return self

    async def login(self, username: str, password: str = PASSWORD, **more: Any) -> Client:
        body = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": username},
            "password": password,
        }
        self._logged_in(await self.post("/login", {**body, **more}))
        return self

    async def another_device(self, password: str = PASSWORD) -> Client:
        """A further login of the same user."""
        return await Client(self.http, self.url).login(self.user_id, password)

    def _logged_in(self, answer: JsonObject) -> None:
        self.user_id = answer["user_id"]
        self.device_id = answer["device_id"]
        self.token = answer["access_token"]
        self.next_batch = None

    # Rooms

    async def create_room(self, **options: Any) -> str:
        """The new room's id."""
        answer = await self.post("/createRoom", options)
        return str(answer["room_id"])

    async def join(self, room: str, **more: Any) -> str:
        """Joins by id or alias; the room's id."""
        answer = await self.post(f"/join/{quote(room)}", more)
        return str(answer["room_id"])

    async def leave(self, room_id: str) -> None:
        await self.post(f"/rooms/{quote(room_id)}/leave")

    async def invite(self, room_id: str, user_id: str) -> None:
        await self.post(f"/rooms/{quote(room_id)}/invite", {"user_id": user_id})

    async def kick(self, room_id: str, user_id: str) -> None:
        await self.post(f"/rooms/{quote(room_id)}/kick", {"user_id": user_id})

    async def ban(self, room_id: str, user_id: str) -> None:
        await self.post(f"/rooms/{quote(room_id)}/ban", {"user_id": user_id})

    # Events

    async def send(
        self,
        room_id: str,
        content: str | JsonObject,
        event_type: str = "m.room.message",
        txn_id: str | None = None,
    ) -> str:
        """Sends a text or any content; the event's id."""
        if isinstance(content, str):
            content = {"msgtype": "m.text", "body": content}
        txn_id = txn_id or f"txn{next(self._txn_ids)}"
        path = f"/rooms/{quote(room_id)}/send/{quote(event_type)}/{quote(txn_id)}"
        return str((await self.put(path, content))["event_id"])

    async def set_state(
        self, room_id: str, event_type: str, content: JsonObject, state_key: str = ""
    ) -> str:
        """The state event's id."""
        answer = await self.put(_state_path(room_id, event_type, state_key), content)
        return str(answer["event_id"])

    async def state(self, room_id: str, event_type: str, state_key: str = "") -> Any:
        """The content of a state event."""
        return await self.get(_state_path(room_id, event_type, state_key))

    async def redact(self, room_id: str, event_id: str, **content: Any) -> str:
        path = f"/rooms/{quote(room_id)}/redact/{quote(event_id)}/txn{next(self._txn_ids)}"
        return str((await self.put(path, content))["event_id"])

    async def event(self, room_id: str, event_id: str) -> Any:
        return await self.get(f"/rooms/{quote(room_id)}/event/{quote(event_id)}")

    async def messages(self, room_id: str, **query: str) -> Any:
        """A page of history, backward from the end unless `dir` and `from` say otherwise."""
        return await self.get(f"/rooms/{quote(room_id)}/messages", **{"dir": "b", **query})

    async def joined_members(self, room_id: str) -> set[str]:
        answer = await self.get(f"/rooms/{quote(room_id)}/joined_members")
        return set(answer["joined"])

    # Sync

    async def sync(self, *, timeout_ms: int = 0, **query: str) -> Any:
        """One /sync from `next_batch` on (or from `since`)."""
        if self.next_batch is not None:
            query.setdefault("since", self.next_batch)
        answer = await self.get("/sync", timeout=str(timeout_ms), **query)
        self.next_batch = answer["next_batch"]
        return answer

    async def sync_until(self, look: Callable[[Any], Found | None], **query: str) -> Found:
        """Syncs on until `look` finds something in an answer; fails after DEADLINE seconds."""
        end = time.monotonic() + DEADLINE
        while (left := end - time.monotonic()) > 0:
            found = look(await self.sync(timeout_ms=int(min(left, 5) * 1000), **query))
            if found:
                return found
        raise AssertionError(f"{self.user_id} synced for {DEADLINE} s without finding it")

    async def sync_until_event(self, room_id: str, event_id: str) -> JsonObject:
        """The event as /sync shows it in the room's timeline."""
        return await self.sync_until(
            lambda answer: next(
                (e for e in timeline(answer, room_id) if e["event_id"] == event_id), None
            )
        )


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Asks until the answer is true; fails after DEADLINE seconds."""
    async with asyncio.timeout(DEADLINE):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.1)


def timeline(answer: JsonObject, room_id: str, membership: str = "join") -> list[JsonObject]:
    """The room's timeline events in an answer of /sync."""
    room = answer.get("rooms", {}).get(membership, {}).get(room_id, {})
    events: list[JsonObject] = room.get("timeline", {}).get("events", [])
    return events


def bodies(events: list[JsonObject]) -> list[str]:
    """The texts of the messages among `events`."""
    return [e["content"]["body"] for e in events if e["type"] == "m.room.message"]


def _asks_for_other(query: dict[str, str]) -> bool:
    """Is the answer to be what the specification doesn't describe?"""
    by_proposal = any(name.startswith("org.matrix.") for name in query)
    return by_proposal or "event_fields" in query.get("filter", "")


def _judge(method: str, path: str, status: int, answer: Any) -> None:
    operation = specification.find(method, path.partition("?")[0])
    wrong = None if operation is None else specification.problem(operation, status, answer)
    assert wrong is None, f"{method} {path} {status} {str(wrong)[:2000]}\n{str(answer)[:4000]}"


def _state_path(room_id: str, event_type: str, state_key: str) -> str:
    path = f"/rooms/{quote(room_id)}/state/{quote(event_type)}"
    return f"{path}/{quote(state_key)}" if state_key else path
