"""The server starts, answers, restarts and ends."""

from __future__ import annotations

import pytest

from tests.support.client import Refused
from tests.support.server import RunningServer


async def test_an_unknown_path_is_unrecognized(server: RunningServer) -> None:
    with pytest.raises(Refused) as refused:
        await server.anonymous().get("/_matrix/client/v3/nowhere")
    assert (refused.value.status, refused.value.errcode) == (404, "M_UNRECOGNIZED")


async def test_it_starts_again_on_the_same_data(server: RunningServer) -> None:
    before = server.url
    await server.restart()
    assert server.url != before
    with pytest.raises(Refused):
        await server.anonymous().get("/_matrix/client/v3/nowhere")
