"""An unmodified matrix-nio talks through the server: the README's example."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.process import environment
from tests.support.server import RunningServer

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_friends.py"


async def test_two_friends_talk(server: RunningServer) -> None:
    pytest.importorskip("nio")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLE),
        server.url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
    )
    async with asyncio.timeout(60):
        output, problems = await process.communicate()
    assert process.returncode == 0, problems.decode()
    assert b"Ben hears: Is there any bread left?" in output
    assert b"The history of Kitchen: " in output
