"""What one `/sync` asks for, and the pieces that its answer is put together from."""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from homeserver.protocol.filters import Filter

encode = msgspec.json.encode
_TOKEN = re.compile(r"s([0-9]{1,18})(?:_([0-9]{1,18}))?")


class SyncRequest(Struct, frozen=True):
    """`since` is a stream position, None for an initial sync. `to_device_since` is up to where the
    client has got its to-device messages: less than `since` where they were too many.

    `state_after` is the name under which the client wants the state at the end of the timeline
    instead of the one at its start, if it does. `now` in milliseconds.
    """

    user_id: str
    device_id: str | None
    since: int | None
    filter: Filter
    now: int
    full_state: bool = False
    state_after: str | None = None
    to_device_since: int = 0

    @property
    def from_scratch(self) -> bool:
        """Whether nothing of the client's state is taken for granted."""
        return self.since is None or self.full_state


class Part(Struct, frozen=True):
    """A top-level member of the answer. `news`: worth ending a long poll for.

    `told_upto`: the position up to which it tells everything, if that is not all there is.
    """

    name: str
    json: bytes
    news: bool = True
    told_upto: int | None = None


class Token(Struct, frozen=True):
    """A sync token: `s<position>`, or `s<position>_<position>` where to-device messages were left.

    The second is up to where the client has got those. docs/decisions has why.
    """

    position: int
    to_device: int

    def __str__(self) -> str:
        if self.to_device == self.position:
            return f"s{self.position}"
        return f"s{self.position}_{self.to_device}"


def parse_token(text: str) -> Token | None:
    """None if it is no token that a sync could have given."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    position = int(match[1])
    return Token(position, position if match[2] is None else int(match[2]))


def next_batch(upto: int, parts: Iterable[Part]) -> str:
    """The token with which the next sync goes on after this one."""
    told = [part.told_upto for part in parts if part.told_upto is not None]
    return str(Token(upto, min(told, default=upto)))


def json_object(members: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A JSON object of ready-made keys (quoted) and values."""
    return b"{" + b",".join([key + b":" + value for key, value in members]) + b"}"


def events_object(events: Iterable[bytes]) -> bytes:
    """`{"events": [...]}`."""
    return b'{"events":[' + b",".join(events) + b"]}"
