"""Small files and thumbnails that were asked for lately, held in memory."""

from __future__ import annotations

from collections import OrderedDict

from homeserver.protocol.mxc import Mxc
from homeserver.services.media.content import Content

MAX_FILE = 262_144

Key = tuple[Mxc, str]
"""The media, and for a thumbnail its box."""


class HotFiles:
    """Contents with `whole`, `budget` bytes together; forgets what wasn't asked for the longest.

    Whoever deletes or quarantines media calls `clear`; what was being read meanwhile is not put
    here (see `epoch`).
    """

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._held = 0
        self._files: OrderedDict[Key, Content] = OrderedDict()
        self.epoch = 0

    def get(self, key: Key) -> Content | None:
        content = self._files.get(key)
        if content is not None:
            self._files.move_to_end(key)
        return content

    def put(self, key: Key, content: Content, epoch: int) -> None:
        """Hold `content`, which was looked up at `epoch`."""
        if content.whole is None or epoch != self.epoch or key in self._files:
            return
        self._files[key] = content
        self._held += len(content.whole)
        while self._held > self._budget:
            _, oldest = self._files.popitem(last=False)
            self._held -= len(oldest.whole or b"")

    def clear(self) -> None:
        self._files.clear()
        self._held = 0
        self.epoch += 1
