"""PDUs as others tell them, before anything is believed of them."""

from __future__ import annotations

import pytest
from msgspec import Raw

from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.stream.verify import parse


@pytest.mark.parametrize(
    "pdu", [b"", b"{", b"[]", b'{"type": "\xff"}', b'{"content": ' + b"[" * 100_000]
)
def test_what_cannot_be_read_is_dropped(pdu: bytes) -> None:
    assert parse(Raw(pdu), ROOM_VERSIONS["11"]) is None
