"""Media: downloads of a small file, of a ready thumbnail, and ten large files at once.

python -m bench.media                                            a server of its own
python -m bench.media --url URL --pid PID --token TOKEN          any homeserver that runs already
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import time
from collections.abc import AsyncIterator

import aiohttp
import psutil
import uvloop
from PIL import Image

from bench.people import new_users
from bench.server import Server, _cpu

SMALL = 100_000
LARGE = 200 * 1024 * 1024
AT_ONCE = 10


class Target:
    """A homeserver and one of its users."""

    def __init__(self, http: aiohttp.ClientSession, url: str, pid: int, token: str) -> None:
        self.http = http
        self.url = url
        self.pid = pid
        self.headers = {"Authorization": f"Bearer {token}"}
        self._process = psutil.Process(pid)

    def cpu(self) -> float:
        return _cpu(self.pid)

    def memory(self) -> int:
        full = self._process.memory_full_info()
        return int(getattr(full, "pss", full.rss))

    async def upload(
        self, body: bytes | AsyncIterator[bytes], kind: str, length: int | None = None
    ) -> str:
        url = f"{self.url}/_matrix/media/v3/upload"
        headers = {**self.headers, "Content-Type": kind}
        if length is not None:
            headers["Content-Length"] = str(length)  # Synapse takes no upload without
        async with self.http.post(url, data=body, headers=headers) as response:
            assert response.status == 200, await response.text()
            uri = str((await response.json())["content_uri"])
            return uri.removeprefix("mxc://")

    async def get(self, path: str) -> int:
        """Bytes received."""
        received = 0
        url = f"{self.url}/_matrix/client/v1/media/{path}"
        async with self.http.get(url, headers=self.headers) as response:
            assert response.status == 200, await response.text()
            async for chunk in response.content.iter_any():
                received += len(chunk)
        return received


async def repeated(target: Target, name: str, path: str, count: int) -> None:
    await target.get(path)
    cpu, before = target.cpu(), time.perf_counter()
    for _ in range(count):
        await target.get(path)
    seconds = time.perf_counter() - before
    await asyncio.sleep(0.2)
    used = target.cpu() - cpu
    print(
        f"{name}: {count / used:,.0f} requests per CPU second ({1e3 * used / count:.3f} ms each),"
        f" {1e3 * seconds / count:.2f} ms to answer one"
    )


async def large(target: Target, size: int) -> None:
    async def blocks() -> AsyncIterator[bytes]:
        block = os.urandom(1 << 20)
        for _ in range(size >> 20):
            yield block

    before, peak = target.memory(), 0
    cpu = target.cpu()
    uploading = asyncio.create_task(target.upload(blocks(), "application/octet-stream", size))
    while not uploading.done():
        peak = max(peak, target.memory())
        await asyncio.sleep(0.05)
    print(
        f"upload of {size >> 20} MiB: {(peak - before) / 2**20:.0f} MiB more memory at most,"
        f" {target.cpu() - cpu:.2f} s CPU"
    )
    path = f"download/{uploading.result()}"
    before, peak, cpu = target.memory(), 0, target.cpu()
    downloads = asyncio.gather(*(target.get(path) for _ in range(AT_ONCE)))
    while not downloads.done():
        peak = max(peak, target.memory())
        await asyncio.sleep(0.05)
    assert set(downloads.result()) == {size}
    print(
        f"{AT_ONCE} downloads of {size >> 20} MiB at once: {(peak - before) / 2**20:.0f} MiB more"
        f" memory at most ({peak / 2**20:.0f} in all), {target.cpu() - cpu:.2f} s CPU"
    )


async def measure(target: Target, count: int, size: int) -> None:
    small = await target.upload(os.urandom(SMALL), "image/jpeg")
    picture = io.BytesIO()
    Image.effect_noise((1600, 1200), 60).convert("RGB").save(picture, "JPEG")
    image = await target.upload(picture.getvalue(), "image/jpeg")
    await repeated(target, "100 kB file", f"download/{small}", count)
    query = "?width=96&height=96&method=crop"
    await repeated(target, "ready thumbnail", f"thumbnail/{image}{query}", count)
    await large(target, size)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url")
    parser.add_argument("--pid", type=int)
    parser.add_argument("--token")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, default=LARGE)
    options = parser.parse_args()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=600)) as http:
        if options.url:
            target = Target(http, options.url, options.pid, options.token)
            await measure(target, options.count, options.size)
            return
        server = Server()
        server.configure(media={"max_upload_size": 2 * LARGE})
        try:
            await server.start()
            user = (await new_users(server, 1))[0]
            await measure(
                Target(http, server.url, server.pid, user.token), options.count, options.size
            )
        finally:
            await server.stop()
            server.remove()


if __name__ == "__main__":
    uvloop.run(main())
