"""Content URIs (`mxc://server/id`): read strictly, found inside an event's content.

client-server-api#matrix-content-mxc-uris
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from homeserver.protocol.identifiers import is_server_name

SCHEME = "mxc://"
# The specification allows only alphanumeric characters, `_` and `-` in this segment.
_MEDIA_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
MAX_DEPTH = 20


class Mxc(Struct, frozen=True):
    """The name of a piece of media: the server where it originated and that server's id for it."""

    server_name: str
    media_id: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.server_name}/{self.media_id}"


def checked_mxc(server_name: str, media_id: str) -> Mxc | None:
    """The two segments as an Mxc, or None if one of them may not be used.

    client-server-api#content-repo-security-considerations
    """
    if is_server_name(server_name) and _MEDIA_ID.fullmatch(media_id):
        return Mxc(server_name, media_id)
    return None


def parse_mxc(uri: Any) -> Mxc | None:
    """`uri` as an Mxc, or None if it isn't one. A fragment (`#autoplay`) doesn't matter."""
    if not isinstance(uri, str) or not uri.startswith(SCHEME):
        return None
    server_name, _, media_id = uri[len(SCHEME) :].partition("#")[0].partition("/")
    return checked_mxc(server_name, media_id)


def mxcs_in(content: Any) -> set[Mxc]:
    """All content URIs in a JSON value that stand there as a whole string."""
    found: set[Mxc] = set()
    level = [content]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
            elif (mxc := parse_mxc(value)) is not None:
                found.add(mxc)
        level = inner
    return found
