"""Notices of the server to its users, as Synapse's admin API sends them."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject

endpoints = Endpoints(prefix="/_synapse/admin", versions=("v1",))


class NoticeBody(msgspec.Struct):
    user_id: str
    content: dict[str, Any]
    type: str = "m.room.message"
    state_key: str | None = None

    @property
    def draft(self) -> JsonObject:
        return {"type": self.type, "content": self.content, "state_key": self.state_key}


@endpoints.post("/send_server_notice", auth=Auth.ADMIN)
async def send_server_notice(call: Call, body: NoticeBody) -> JsonObject:
    """Synapse's admin API: server_notices"""
    stored = await call.parts.server_notices.send(body.user_id, body.draft)
    return {"event_id": stored.event_id}


@endpoints.put("/send_server_notice/{txn_id}", auth=Auth.ADMIN)
async def send_server_notice_once(call: Call, txn_id: str, body: NoticeBody) -> JsonObject:
    """Synapse's admin API: server_notices"""
    notices = call.parts.server_notices
    event_id = await call.parts.stream.transactions.once(
        notices.transaction(call.requester, txn_id),
        "server_notice",
        lambda transaction: notices.send(body.user_id, body.draft, transaction),
    )
    return {"event_id": event_id}
