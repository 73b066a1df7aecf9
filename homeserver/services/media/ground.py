"""What all parts of the content repository stand on."""

from __future__ import annotations

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.config import Media
from homeserver.protocol.mxc import Mxc
from homeserver.store.database import Database
from homeserver.store.media_bytes import MediaBytes


class Ground(Struct, frozen=True):
    database: Database
    media_bytes: MediaBytes
    config: Media
    server_name: str
    clock: Clock

    def is_ours(self, mxc: Mxc) -> bool:
        """Did it originate here?"""
        return mxc.server_name == self.server_name
