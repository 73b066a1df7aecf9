"""Media of a real Synapse's users for ours, and the other way round."""

from __future__ import annotations

import os

from tests.interop.federated import MARKS
from tests.support.client import Client
from tests.support.media import download, picture, thumbnail, upload

pytestmark = MARKS


async def test_a_file_is_fetched_across(alice: Client, sam: Client) -> None:
    data = os.urandom(300_000)
    for one, other in ((alice, sam), (sam, alice)):
        mxc = await upload(one, data, "video/mp4", "film.mp4")
        answer = await download(other, mxc)
        assert (answer.status, answer.body) == (200, data)
        assert answer.headers["Content-Type"] == "video/mp4"
        assert answer.file_name == "film.mp4"


async def test_a_thumbnail_is_made_of_a_picture_across(alice: Client, sam: Client) -> None:
    for one, other in ((alice, sam), (sam, alice)):
        mxc = await upload(one, picture(300, 300), "image/png")
        assert (await thumbnail(other, mxc, 96, 96)).image().size == (96, 96)


async def test_what_is_not_there_is_not_found_across(alice: Client, sam: Client) -> None:
    for one, other in ((alice, sam), (sam, alice)):
        mxc = await upload(one, b"x")
        assert (await download(other, mxc + "nothing")).status == 404
