"""Small files and thumbnails that were asked for lately, held in memory."""

from __future__ import annotations

from typing import TypeAlias

from homeserver.lru_cache import LruCache
from homeserver.protocol.mxc import Mxc
from homeserver.services.media.content import Content

MAX_FILE = 262_144

HotFiles: TypeAlias = LruCache[tuple[Mxc, str], Content]
"""Contents with `whole`, by the media and the box of a thumbnail ("" for the file itself).

Whoever deletes or quarantines media clears it.
"""


def hot_files(budget: int) -> HotFiles:
    """Holds `budget` bytes."""
    return LruCache(budget, weigh=lambda content: len(content.whole or b""))
