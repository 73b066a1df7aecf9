"""The headers of a served file, by which a browser can't be made to run it; ranges.

client-server-api#serving-inline-content
"""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

CSP = (
    "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf;"
    " style-src 'unsafe-inline'; object-src 'self';"
)

# "Servers SHOULD restrict `Content-Type` headers to one of the following values when serving
# content with `Content-Disposition: inline`"
INLINE_TYPES = frozenset(
    {
        *("text/css", "text/plain", "text/csv", "application/json", "application/ld+json"),
        *("image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif"),
        *("video/mp4", "video/webm", "video/ogg", "video/quicktime"),
        *("audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg", "audio/wave"),
        *("audio/wav", "audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac"),
    }
)
DEFAULT_TYPE = "application/octet-stream"
CACHE_PRIVATE = "private, max-age=86400, immutable"
CACHE_PUBLIC = "public, max-age=86400, immutable"

_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
_PARAMETERS = re.compile(r"[\t\x20-\x7e]*")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&+.^_~-]+")
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


class Unsatisfiable(Exception):
    """None of the asked range is in the file."""


def content_type(said: str | None) -> str:
    """The type as the uploader said it, or application/octet-stream if it isn't one.

    Text without a charset gets one: UTF-8.
    """
    kind, semicolon, parameters = (said or "").partition(";")
    kind = kind.strip()
    if not _TYPE.fullmatch(kind) or not _PARAMETERS.fullmatch(parameters):
        return DEFAULT_TYPE
    if kind.lower().startswith("text/") and "charset=" not in parameters.lower():
        return f"{kind}; charset=utf-8"
    return f"{kind};{parameters}" if semicolon else kind


def disposition(said: str | None, file_name: str | None) -> str:
    """`inline` for what can do no harm, else `attachment`, with the file's name if it has one."""
    kind = content_type(said).partition(";")[0].strip().lower()
    how = "inline" if kind in INLINE_TYPES else "attachment"
    if not file_name:
        return how
    if _TOKEN.fullmatch(file_name):  # without quotes, as SyTest asks for
        return f"{how}; filename={file_name}"
    return f"{how}; filename*=utf-8''{quote(file_name, safe='', errors='replace')}"


def file_headers(said: str | None, file_name: str | None) -> dict[str, str]:
    """All headers that make a file safe to serve; the caller's to add to."""
    return dict(_file_headers(said, file_name))


@lru_cache(2048)
def _file_headers(said: str | None, file_name: str | None) -> dict[str, str]:
    return {
        "Content-Type": content_type(said),
        "Content-Disposition": disposition(said, file_name),
        "Content-Security-Policy": CSP,
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex, nofollow, noarchive, noimageindex",
    }


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The asked part as (start, end), end excluded; None for the whole file.

    Several ranges, other units and what isn't understood mean the whole file (RFC 9110, 14.2).
    Raises Unsatisfiable.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        if int(last) == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - int(last)), size
    start, end = int(first), min(int(last) + 1 if last else size, size)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable
    return start, end
