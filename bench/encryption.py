"""End-to-end encryption: many keys asked for, claimed and uploaded, one message to many devices.

python -m bench.encryption                        a server of its own
python -m bench.encryption --url URL --pid PID    any homeserver that runs already, open for all
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import aiohttp
import uvloop
from nacl.signing import SigningKey

from bench.people import limited
from bench.server import Server, _cpu
from homeserver.protocol.signatures import encode_base64, encoded_verify_key, sign_json

USERS = 500
CLAIMED = 100
ROUNDS = 20
V3 = "/_matrix/client/v3"
_numbers = itertools.count(1)


@dataclass
class Device:
    """A user with one device."""

    http: aiohttp.ClientSession
    url: str
    user_id: str
    device_id: str
    token: str

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        url = f"{self.url}{V3}{path}"
        async with self.http.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.status == 200, answer
            return answer

    def keys(self) -> dict[str, Any]:
        key = SigningKey.generate()
        name = self.device_id
        public = {f"ed25519:{name}": encoded_verify_key(key), f"curve25519:{name}": a_key()}
        device_keys = {
            "user_id": self.user_id,
            "device_id": name,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": public,
        }
        return sign_json(device_keys, self.user_id, f"ed25519:{name}", key)

    async def upload_one_time_keys(self, count: int) -> None:
        signatures = {self.user_id: {f"ed25519:{self.device_id}": a_key() + a_key()}}
        keys = {
            f"signed_curve25519:{next(_numbers):06}": {"key": a_key(), "signatures": signatures}
            for _ in range(count)
        }
        await self.call("POST", "/keys/upload", {"one_time_keys": keys})


def a_key() -> str:
    return encode_base64(bytes(SigningKey.generate()))


async def new_device(http: aiohttp.ClientSession, url: str) -> Device:
    body = {
        "username": f"e{next(_numbers)}x{time.time_ns()}",
        "password": "correct horse",
        "auth": {"type": "m.login.dummy"},
    }
    async with http.post(f"{url}{V3}/register", json=body) as response:
        answer = await response.json()
        assert response.status == 200, answer
    device = Device(http, url, answer["user_id"], answer["device_id"], answer["access_token"])
    await device.call("POST", "/keys/upload", {"device_keys": device.keys()})
    return device


async def measure(name: str, pid: int, request: Callable[[], Awaitable[Any]]) -> None:
    """Prints what a request takes: the median, and CPU of the server's process."""
    await request()
    times = []
    before = _cpu(pid)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await request()
        times.append(time.perf_counter() - start)
    cpu = (_cpu(pid) - before) / ROUNDS
    print(f"{name:45} median {median(times) * 1000:8.1f} ms   CPU {cpu * 1000:8.1f} ms", flush=True)


async def run(url: str, pid: int) -> None:
    connector = aiohttp.TCPConnector(limit=20)
    async with aiohttp.ClientSession(connector=connector) as http:
        devices = await limited((new_device(http, url) for _ in range(USERS)), 10)
        claimed = devices[:CLAIMED]
        await limited((device.upload_one_time_keys(ROUNDS + 1) for device in claimed), 10)
        asker = await new_device(http, url)
        users = {"device_keys": {device.user_id: [] for device in devices}}
        claims = {d.user_id: {d.device_id: "signed_curve25519"} for d in claimed}
        content = {"algorithm": "m.olm.v1.curve25519-aes-sha2", "ciphertext": a_key() * 20}
        messages = {d.user_id: {d.device_id: content} for d in devices}

        async def send() -> None:
            path = f"/sendToDevice/m.room.encrypted/{next(_numbers)}"
            await asker.call("PUT", path, {"messages": messages})

        async def query() -> None:
            answer = await asker.call("POST", "/keys/query", users)
            assert len(answer["device_keys"]) == USERS

        async def claim() -> None:
            answer = await asker.call("POST", "/keys/claim", {"one_time_keys": claims})
            assert len(answer["one_time_keys"]) == CLAIMED

        await measure(f"/keys/query for {USERS} users", pid, query)
        await measure(f"/keys/claim for {CLAIMED} devices", pid, claim)
        uploaders = iter(devices[CLAIMED:])
        await measure("/keys/upload of 100", pid, lambda: next(uploaders).upload_one_time_keys(100))
        await measure(f"/sendToDevice to {USERS} devices", pid, send)
        asked = await asker.call("GET", "/sync")
        since = f"/sync?timeout=0&since={asked['next_batch']}"
        await measure("/sync with nothing new", pid, lambda: asker.call("GET", since))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--pid", type=int)
    options = parser.parse_args()
    if options.url:
        await run(options.url.rstrip("/"), options.pid)
        return
    server = Server()
    await server.start()
    try:
        await run(server.url, server.pid)
    finally:
        await server.stop()
        server.remove()


if __name__ == "__main__":
    uvloop.run(main())
