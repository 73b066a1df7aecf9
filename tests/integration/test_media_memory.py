"""Large files pass through the server without staying in its memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.media import send
from tests.support.postgres import cloned
from tests.support.process import ServerProcess
from tests.support.server import settings

SIZE = 150 * 1024 * 1024
BLOCK = os.urandom(1 << 20)


async def body() -> AsyncIterator[bytes]:
    for _ in range(SIZE >> 20):
        yield BLOCK


def memory(pid: int) -> int:
    """The most that the process has ever held, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) // 1024
    raise AssertionError("no VmHWM")


async def test_a_large_file_takes_little_memory(template_url: str, tmp_path: Path) -> None:
    async with cloned(template_url) as database:
        values = settings(database, media={"max_upload_size": SIZE})
        server = ServerProcess(values, tmp_path)
        try:
            await server.start()
            alice = await server.client().register("alice")
            before = memory(server.pid)
            answer = await send(alice, "POST", "/_matrix/media/v3/upload", body())
            path = answer["content_uri"].removeprefix("mxc://")
            url = f"{alice.url}/_matrix/client/v1/media/download/{path}"

            async def download() -> int:
                received = 0
                headers = {"Authorization": f"Bearer {alice.token}"}
                async with alice.http.get(url, headers=headers) as response:
                    async for chunk in response.content.iter_any():
                        received += len(chunk)
                return received

            async with asyncio.timeout(60):
                assert set(await asyncio.gather(*(download() for _ in range(4)))) == {SIZE}
            assert memory(server.pid) - before < 60
        finally:
            await server.close()
