"""What one `/sync` asks for, and the pieces that its answer is put together from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from homeserver.protocol.filters import Filter

encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class SyncRequest:
    """`since` is a stream position, None for an initial sync.

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

    @property
    def from_scratch(self) -> bool:
        """Whether nothing of the client's state is taken for granted."""
        return self.since is None or self.full_state


@dataclass(frozen=True, slots=True)
class Part:
    """A top-level member of the answer. `news`: worth ending a long poll for."""

    name: str
    json: bytes
    news: bool = True


def json_object(members: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A JSON object of ready-made keys (quoted) and values."""
    return b"{" + b",".join([key + b":" + value for key, value in members]) + b"}"


def events_object(events: Iterable[bytes]) -> bytes:
    """`{"events": [...]}`."""
    return b'{"events":[' + b",".join(events) + b"]}"
