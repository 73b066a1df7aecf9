"""Search in rooms. client-server-api#server-side-search"""

from __future__ import annotations

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.services.search import SearchRequest

endpoints = Endpoints()


@endpoints.post("/search", auth=Auth.USER)
async def search(call: Call, body: SearchRequest) -> JsonObject:
    """client-server-api#post_matrixclientv3search"""
    await call.parts.search_index.freshen()
    return await call.parts.search.search(
        call.requester, body.search_categories, call.query("next_batch") or None
    )
