"""Thumbnails: the right size, never larger than the picture, never a danger."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib

from PIL import Image

from tests.conftest import StartServer
from tests.support.media import (
    AUTHED,
    animation,
    download,
    get,
    media_folder,
    picture,
    stored_files,
    thumbnail,
    upload,
)
from tests.support.server import RunningServer

MOVING = {"animated": "true"}


FRAMES = [
    ("crop", (32, 32), (32, 32)),
    ("crop", (96, 96), (96, 96)),
    ("crop", (40, 40), (96, 96)),
    ("crop", (200, 200), (240, 240)),
    ("scale", (320, 240), (320, 160)),
    ("scale", (640, 480), (640, 320)),
    ("scale", (800, 600), (800, 400)),
    ("scale", (1, 1), (320, 160)),
    ("crop", (320, 240), (320, 240)),
    ("scale", (1500, 1500), (1000, 500)),
    ("crop", (5000, 5000), (1000, 500)),
]


async def test_a_picture_is_scaled_or_cropped(server: RunningServer) -> None:
    alice = await server.user()
    for method, asked, size in FRAMES:
        mxc = await upload(alice, picture(1000, 500), "image/png")
        answer = await thumbnail(alice, mxc, *asked, method)
        assert answer.status == 200
        image = answer.image()
        assert image.size == size
        assert answer.headers["Content-Type"] == f"image/{str(image.format).lower()}"
        assert answer.file_name == f"thumbnail.{str(image.format).lower()}"
        assert "script-src 'none'" in answer.headers["Content-Security-Policy"]
        left, right = (
            image.convert("RGB").getpixel((1, 1)),
            image.convert("RGB").getpixel((size[0] - 2, size[1] - 2)),
        )
        assert isinstance(left, tuple) and isinstance(right, tuple)
        assert left[0] > 200 > 50 > left[2] and right[2] > 200 > 50 > right[0]


async def test_a_small_picture_is_its_own_thumbnail(server: RunningServer) -> None:
    alice = await server.user()
    data = picture(20, 10, "PNG")
    mxc = await upload(alice, data, "application/x-lie", "a.html")
    answer = await thumbnail(alice, mxc, 32, 32)
    assert answer.body == data
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.headers["Content-Disposition"].startswith("inline")


async def test_a_narrow_picture_is_cropped_without_growing(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(50, 500))
    assert (await thumbnail(alice, mxc, 96, 96, "crop")).image().size == (50, 50)


FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "AVIF"]


async def test_the_usual_formats_are_understood(server: RunningServer) -> None:
    alice = await server.user()
    for kind in FORMATS:
        mxc = await upload(alice, picture(400, 400, kind))
        answer = await thumbnail(alice, mxc, 96, 96)
        assert answer.image().size == (96, 96)
        assert answer.headers["Content-Type"] in {"image/jpeg", "image/png"}


MODES = ["RGBA", "LA", "L", "P", "CMYK", "I;16", "1"]


async def test_the_modes_of_pictures_are_understood(server: RunningServer) -> None:
    alice = await server.user()
    for mode in MODES:
        out = io.BytesIO()
        Image.new(mode, (400, 300)).save(out, "JPEG" if mode == "CMYK" else "PNG")
        mxc = await upload(alice, out.getvalue())
        answer = await thumbnail(alice, mxc, 320, 240, "scale")
        assert answer.image().size == (320, 240)
        has_alpha = mode in {"RGBA", "LA"}
        assert answer.headers["Content-Type"] == ("image/png" if has_alpha else "image/jpeg")


async def test_a_picture_is_turned_as_its_camera_says(server: RunningServer) -> None:
    alice = await server.user()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    mxc = await upload(alice, picture(1000, 500, "JPEG", exif=exif))
    image = (await thumbnail(alice, mxc, 320, 240, "scale")).image()
    assert image.size == (120, 240)
    assert not image.getexif()
    red = image.convert("RGB").getpixel((60, 5))
    assert isinstance(red, tuple) and red[0] > 200


MOVING_FORMATS = ["GIF", "WEBP", "PNG"]


async def test_moving_pictures_move_only_if_asked_to(server: RunningServer) -> None:
    alice = await server.user()
    for kind in MOVING_FORMATS:
        mxc = await upload(alice, animation(400, 400, kind))
        moving = await thumbnail(alice, mxc, 96, 96, query=MOVING)
        assert moving.headers["Content-Type"] == "image/webp"
        assert getattr(moving.image(), "n_frames", 1) == 3
        for query in ({}, {"animated": "false"}):
            still = await thumbnail(alice, mxc, 96, 96, "crop", query=query)
            assert getattr(still.image(), "n_frames", 1) == 1


async def test_a_small_moving_picture_does_not_move_unasked(server: RunningServer) -> None:
    alice = await server.user()
    data = animation(20, 20)
    mxc = await upload(alice, data)
    assert (await thumbnail(alice, mxc, query=MOVING)).body == data
    still = await thumbnail(alice, mxc)
    assert getattr(still.image(), "n_frames", 1) == 1
    assert still.image().size == (20, 20)


async def test_a_still_picture_can_be_asked_for_as_moving(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(400, 400, "JPEG"))
    assert (await thumbnail(alice, mxc, query=MOVING)).headers["Content-Type"] == "image/jpeg"


SENSELESS = [
    {"width": "0", "height": "10"},
    {"width": "-5", "height": "10"},
    {"width": "1.5", "height": "10"},
    {"width": "x", "height": "10"},
    {"width": "10"},
    {"width": "10", "height": "10", "method": "stretch"},
    {"width": "10", "height": "10", "animated": "maybe"},
]


async def test_senseless_sizes_are_refused(server: RunningServer) -> None:
    alice = await server.user()
    for query in SENSELESS:
        mxc = await upload(alice, picture(100, 100))
        answer = await get(alice, f"{AUTHED}/thumbnail/{mxc.removeprefix('mxc://')}", query)
        assert answer.status == 400


def png_of(width: int, height: int, rows: int = 0) -> bytes:
    """A PNG that claims a size and has only `rows` rows of data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(b"\0" * ((width + 7) // 8 + 1) * rows)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", data) + chunk(b"IEND", b"")


async def test_enormous_pictures_are_refused_unopened(server: RunningServer) -> None:
    alice = await server.user()
    huge_webp = b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff"
    for data in (png_of(100_000, 100_000, rows=10), png_of(2**31 - 1, 2**31 - 1), huge_webp):
        mxc = await upload(alice, data, "image/png")
        answer = await thumbnail(alice, mxc)
        assert (answer.status, answer.errcode) in {(413, "M_TOO_LARGE"), (400, "M_UNKNOWN")}
        assert (await download(alice, mxc)).body == data
    mxc = await upload(alice, png_of(50_000, 50_000, rows=2))
    answer = await thumbnail(alice, mxc)
    assert (answer.status, answer.errcode) == (413, "M_TOO_LARGE")


async def test_the_limit_of_pixels_can_be_set(start_server: StartServer) -> None:
    server = await start_server(media={"max_image_pixels": 1_000_000})
    alice = await server.user()
    assert (await thumbnail(alice, await upload(alice, picture(1000, 1000)))).status == 200
    answer = await thumbnail(alice, await upload(alice, picture(1001, 1000)))
    assert answer.status == 413


async def test_a_film_of_very_many_pixels_stands_still(start_server: StartServer) -> None:
    server = await start_server(media={"max_image_pixels": 1_000_000})
    alice = await server.user()
    mxc = await upload(alice, animation(700, 700, "WEBP", frames=10))
    answer = await thumbnail(alice, mxc, query=MOVING)
    assert answer.status == 200
    assert getattr(answer.image(), "n_frames", 1) == 1


STILL_FORMATS = ["JPEG", "PNG", "GIF", "WEBP"]


async def test_truncated_pictures_are_refused(server: RunningServer) -> None:
    alice = await server.user()
    for kind in STILL_FORMATS:
        noise = Image.effect_noise((400, 400), 100).convert("RGB")
        out = io.BytesIO()
        noise.save(out, kind)
        for length in (20, len(out.getvalue()) // 2):
            answer = await thumbnail(alice, await upload(alice, out.getvalue()[:length]))
            assert (answer.status, answer.errcode) == (400, "M_UNKNOWN")


NO_PICTURES = [
    b"",
    b"not a picture",
    b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'></svg>",
    b"%PDF-1.7",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
]


async def test_what_is_no_picture_has_no_thumbnail(server: RunningServer) -> None:
    alice = await server.user()
    for data in NO_PICTURES:
        mxc = await upload(alice, data, "image/png")
        for _ in range(2):
            answer = await thumbnail(alice, mxc)
            assert (answer.status, answer.errcode) == (400, "M_UNKNOWN")


async def test_a_thumbnail_is_made_once_for_all_who_wait(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(3000, 2000, "JPEG"))
    answers = await asyncio.gather(*(thumbnail(alice, mxc, 96, 96) for _ in range(20)))
    assert len({answer.body for answer in answers}) == 1
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    folder = media_folder(server) / "thumbnails"
    assert len([p for p in folder.rglob("*") if p.is_file()]) == 1
    assert len(stored_files(server)) == 1


async def test_thumbnails_survive_a_restart(server: RunningServer) -> None:
    alice = await server.user()
    mxc = await upload(alice, picture(300, 300))
    before = await thumbnail(alice, mxc)
    await server.restart()
    assert (await thumbnail(server.moved(alice), mxc)).body == before.body


async def test_a_large_thumbnail_is_streamed(server: RunningServer) -> None:
    alice = await server.user()
    noise = Image.effect_noise((900, 900), 100).convert("RGBA")
    out = io.BytesIO()
    noise.save(out, "PNG")
    mxc = await upload(alice, out.getvalue())
    for _ in range(2):
        answer = await thumbnail(alice, mxc, 800, 600, "scale")
        assert answer.image().size == (600, 600)
        assert len(answer.body) == int(answer.headers["Content-Length"]) > 262_144
