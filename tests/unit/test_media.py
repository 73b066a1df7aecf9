"""The pure parts of the content repository."""

from __future__ import annotations

import subprocess
import sys
from email.message import Message
from typing import Any

import pytest
from aiohttp.multipart import content_disposition_filename, parse_content_disposition
from hypothesis import given
from hypothesis import strategies as st

from homeserver.http.content_headers import (
    INLINE_TYPES,
    Unsatisfiable,
    byte_range,
    content_type,
    disposition,
)
from homeserver.protocol.mxc import Mxc, checked_mxc, mxcs_in, parse_mxc
from homeserver.services.media.images import placement
from homeserver.services.media.thumbnails import Frame, box_for
from homeserver.store.media_thumbnails import Box
from tests.support.strategies import json_values

SIDE = st.integers(1, 70_000)


@given(SIDE, SIDE, SIDE, SIDE, st.sampled_from(["crop", "scale"]))
def test_a_thumbnail_stays_inside_its_picture_and_its_box(
    width: int, height: int, box_width: int, box_height: int, method: str
) -> None:
    box = Box(box_width, box_height, method, False)
    (left, top, right, bottom), (made_width, made_height) = placement((width, height), box)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert 1 <= made_width <= min(width, box_width)
    assert 1 <= made_height <= min(height, box_height)


@given(SIDE, SIDE, st.sampled_from(["crop", "scale"]))
def test_a_box_is_never_smaller_than_what_is_asked_for(
    width: int, height: int, method: str
) -> None:
    box = box_for(Frame(width, height, method, False))
    assert box.width >= min(width, 65_535) and box.height >= min(height, 65_535)


@given(st.text(), st.text())
def test_no_file_name_and_no_type_breaks_out_of_its_header(said: str, name: str) -> None:
    header = disposition(said, name)
    assert header.isascii() and header.isprintable()
    kind = content_type(said)
    assert kind.isascii() and "\r" not in kind and "\n" not in kind
    message = Message()
    message["Content-Type"] = kind
    assert (header.partition(";")[0] == "inline") == (message.get_content_type() in INLINE_TYPES)


@given(st.text(st.characters(codec="utf-8"), min_size=1))
def test_a_file_name_survives_its_header(name: str) -> None:
    kind, parameters = parse_content_disposition(disposition("image/png", name))
    assert kind == "inline"
    assert content_disposition_filename(parameters) == name


@given(st.text(), st.integers(0, 1000))
def test_a_range_lies_inside_the_file(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            part = byte_range(text, size)
        except Unsatisfiable:
            continue
        assert part is None or 0 <= part[0] < part[1] <= size


@given(json_values)
def test_content_uris_are_found_wherever_they_stand(value: Any) -> None:
    mxc = Mxc("example.org", "abc_DEF-1")
    assert mxcs_in({"a": [value, {"b": str(mxc)}]}) >= {mxc}


@pytest.mark.parametrize(
    "uri",
    [
        *("mxc://example.org/", "mxc:///abc", "mxc://example.org/a/b", "mxc://example.org/a.b"),
        *("https://example.org/abc", "mxc://exam ple/abc", "mxc://a/ä", "mxc://..", 7, None, []),
    ],
)
def test_what_is_no_content_uri(uri: Any) -> None:
    assert parse_mxc(uri) is None


def test_content_uris() -> None:
    assert parse_mxc("mxc://example.org:8448/abc#autoplay") == Mxc("example.org:8448", "abc")
    assert checked_mxc("[2001:db8::1]:80", "a") == Mxc("[2001:db8::1]:80", "a")
    assert str(Mxc("a.b", "c")) == "mxc://a.b/c"


def test_heavy_libraries_wait_until_somebody_needs_them() -> None:
    code = (
        "import sys, homeserver.app;"
        "print(sorted({'PIL', 'obstore', 'lxml', 'boto3'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
