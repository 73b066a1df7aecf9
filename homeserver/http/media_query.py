"""The query parameters of downloads and thumbnails, which clients and servers give alike."""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.services.media.thumbnails import Frame

MAX_TIMEOUT_MS = 60_000
MAX_SIDE = 65_535


def timeout_ms(call: Call) -> int:
    """How long the caller waits for an upload. "SHOULD impose a maximum value"."""
    return call.query_int("timeout_ms", 20_000, maximum=MAX_TIMEOUT_MS)


def frame_of(call: Call) -> Frame:
    """What a request for a thumbnail asks for. Raises MissingParam, InvalidParam."""
    call.required_query("width")
    call.required_query("height")
    return Frame(
        call.query_int("width", 0, minimum=1, maximum=MAX_SIDE),
        call.query_int("height", 0, minimum=1, maximum=MAX_SIDE),
        call.query_choice("method", ("scale", "crop"), "scale"),
        call.query_bool("animated"),
    )
