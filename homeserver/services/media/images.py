"""Pictures made smaller: pure, slow, run in a thread.

Rules of this file: a picture is measured by its header before anything is decoded; only these
formats are opened; nothing is ever made larger.
client-server-api#thumbnails
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from msgspec import Struct

from homeserver.store.media_thumbnails import Box

if TYPE_CHECKING:
    from PIL.Image import Image

# What a thumbnail may be: "one of image/jpeg, image/png, image/apng, image/gif, image/webp"
SERVED = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
}
TYPES = {**SERVED, "AVIF": "image/avif", "BMP": "image/bmp"}
FORMATS = tuple(TYPES)
MAX_FRAMES = 300
JPEG_QUALITY = 82
WEBP_QUALITY = 75


class CannotThumbnail(Exception):
    """It isn't a picture, or a broken one."""


class TooManyPixels(Exception):
    """The picture is too large to be decoded."""


class Thumbnail(Struct, frozen=True):
    """A made picture; without `data` the original is its own thumbnail."""

    content_type: str
    data: bytes | None


def make_thumbnail(source: Path, box: Box, max_pixels: int) -> Thumbnail:
    """`source` made to fit `box`. Raises CannotThumbnail, TooManyPixels, FileNotFoundError."""
    with _opened(source, max_pixels) as image:
        return _thumbnail(image, box, max_pixels)


class Measured(Struct, frozen=True):
    content_type: str
    width: int
    height: int


def measure(data: bytes, max_pixels: int) -> Measured:
    """Kind and size of a picture, as its header says. Raises CannotThumbnail, TooManyPixels."""
    with _opened(io.BytesIO(data), max_pixels) as image:
        width, height = _upright_size(image)
        return Measured(TYPES[image.format or ""], width, height)


@contextmanager
def _opened(source: Path | IO[bytes], max_pixels: int) -> Iterator[Image]:
    """A picture that isn't too large, with what broken ones raise told apart."""
    from PIL import Image, UnidentifiedImageError  # only once a picture is looked at

    Image.MAX_IMAGE_PIXELS = None  # we look ourselves, before decoding
    try:
        with Image.open(source, formats=FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise TooManyPixels(f"{image.width}x{image.height}")
            yield image
    except FileNotFoundError:
        raise
    except UnidentifiedImageError:
        raise CannotThumbnail("It is no picture of a known kind") from None
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, KeyError) as error:
        # What Pillow's decoders raise for broken pictures
        raise CannotThumbnail(str(error)) from error
    except (MemoryError, OverflowError) as error:
        raise TooManyPixels(str(error)) from error


def _thumbnail(image: Image, box: Box, max_pixels: int) -> Thumbnail:
    frames = getattr(image, "n_frames", 1)
    is_animated = frames > 1
    keeps_moving = (
        box.animated
        and is_animated
        and frames <= MAX_FRAMES
        and frames * image.width * image.height <= 4 * max_pixels
    )
    # "When the content is smaller than the requested dimensions, servers should return the
    # original content rather than thumbnail it."
    if (
        _fits(_upright_size(image), box)
        and image.format in SERVED
        and (not is_animated or keeps_moving)
    ):
        image.load()  # a broken one is found out now
        return Thumbnail(SERVED[image.format], None)
    if keeps_moving:
        return Thumbnail("image/webp", _animated(image, box))
    return _still(image, box)


def _fits(size: tuple[int, int], box: Box) -> bool:
    return size[0] <= box.width and size[1] <= box.height


def _upright_size(image: Image) -> tuple[int, int]:
    """Width and height as it is shown, after the rotation that its EXIF data asks for."""
    is_turned = image.getexif().get(0x0112, 1) >= 5
    return (image.height, image.width) if is_turned else image.size


def _still(image: Image, box: Box) -> Thumbnail:
    from PIL import ImageOps

    side = max(box.width, box.height)
    image.draft("RGB", (side * 2, side * 2))  # JPEG: decode at a fraction of the size
    upright = ImageOps.exif_transpose(image)
    has_alpha = upright.has_transparency_data
    resized = _resized(_plain(upright, has_alpha), box)
    options: dict[str, Any] = {}
    if image.mode in {"RGB", "RGBA"} and (profile := image.info.get("icc_profile")):
        options["icc_profile"] = profile
    out = io.BytesIO()
    if has_alpha:
        resized.save(out, "PNG", **options)
        return Thumbnail("image/png", out.getvalue())
    resized.save(out, "JPEG", quality=JPEG_QUALITY, **options)
    return Thumbnail("image/jpeg", out.getvalue())


def _plain(image: Image, has_alpha: bool) -> Image:
    """The picture in RGB or RGBA, which everything can be made of."""
    if image.mode.startswith("I;16") or image.mode == "I":
        image = image.point(lambda value: value / 256).convert("L")
    mode = "RGBA" if has_alpha else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _resized(image: Image, box: Box) -> Image:
    from PIL.Image import Resampling

    crop, size = placement(image.size, box)
    return image.resize(size, Resampling.LANCZOS, box=crop, reducing_gap=2.0)


def placement(
    size: tuple[int, int], box: Box
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """Which part of a picture of `size` is taken, and to which size it is brought."""
    width, height = size
    if box.method == "scale":
        # "scale" maintains the original aspect ratio of the image
        factor = min(1.0, box.width / width, box.height / height)
        return (0, 0, width, height), (
            max(1, round(width * factor)),
            max(1, round(height * factor)),
        )
    # "crop" provides an image in the aspect ratio of the sizes given in the request
    factor = min(width / box.width, height / box.height)
    taken = (min(width, factor * box.width), min(height, factor * box.height))
    left, top = (width - taken[0]) / 2, (height - taken[1]) / 2
    shrink = min(1.0, 1 / factor)
    return (left, top, min(width, left + taken[0]), min(height, top + taken[1])), (
        max(1, round(taken[0] * shrink)),
        max(1, round(taken[1] * shrink)),
    )


def _animated(image: Image, box: Box) -> bytes:
    """All frames as a WebP. "Servers SHOULD prefer to return `image/webp` thumbnails"."""
    from PIL import ImageSequence

    frames: list[Image] = []
    durations: list[int] = []
    for frame in ImageSequence.Iterator(image):
        durations.append(int(frame.info.get("duration", 0)) or 100)
        frames.append(_resized(frame.convert("RGBA"), box))
    out = io.BytesIO()
    frames[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=image.info.get("loop", 0),
        quality=WEBP_QUALITY,
        method=2,
    )
    return out.getvalue()
