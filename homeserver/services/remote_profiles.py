"""Profiles of users of other servers. server-server-api#get_matrixfederationv1queryprofile"""

from __future__ import annotations

import time
from collections.abc import Callable

from homeserver.errors import NotFound
from homeserver.json_types import JsonObject
from homeserver.lru_cache import LruCache
from homeserver.protocol.identifiers import server_name_of
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.remote.errors import RemoteRefusal

REMEMBERED = 5_000
SECONDS = 60.0
TERMS = Terms(seconds=10.0, max_bytes=200_000)


class RemoteProfiles:
    """Asks other servers; an answer is good for a minute."""

    def __init__(
        self, client: FederationClient, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._monotonic = monotonic
        self._known: LruCache[str, tuple[float, JsonObject]] = LruCache(REMEMBERED)

    async def get(self, user_id: str) -> JsonObject:
        """A user's profile. Raises NotFound, Unreachable, Forbidden."""
        known = self._known.get(user_id)
        now = self._monotonic()
        if known is not None and now - known[0] < SECONDS:
            return known[1]
        path = path_to("/_matrix/federation/v1/query/profile", query=[("user_id", user_id)])
        try:
            profile = await self._client.get(server_name_of(user_id), path, TERMS)
        except RemoteRefusal as refusal:
            if refusal.remote_status == 404:
                raise NotFound("There is no such user") from None
            raise
        for field in ("displayname", "avatar_url", "m.tz"):
            if not isinstance(profile.get(field), str):
                profile.pop(field, None)
        self._known.put(user_id, (now, profile))
        return profile
