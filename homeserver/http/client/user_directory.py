"""Finding people. client-server-api#user-directory, #mutual-rooms"""

from __future__ import annotations

import msgspec

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject

endpoints = Endpoints()


class Search(msgspec.Struct):
    search_term: str
    limit: int | None = None


@endpoints.post("/user_directory/search", auth=Auth.USER)
async def search_user_directory(call: Call, body: Search) -> JsonObject:
    """client-server-api#post_matrixclientv3user_directorysearch"""
    people = call.parts.directories.people
    return await people.search(call.requester, body.search_term, body.limit)


@endpoints.get(
    "/mutual_rooms",
    auth=Auth.USER,
    versions=("v1",),
    unstable=("/unstable/uk.half-shot.msc2666/user/mutual_rooms",),
)
async def mutual_rooms(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientv1mutual_rooms"""
    token = call.query("from") or call.query("batch_token")
    people = call.parts.directories.people
    return await people.mutual_rooms(call.requester, call.required_query("user_id"), token)
