"""Messages from device to device. client-server-api#send-to-device-messaging"""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import InvalidParam
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import fits

endpoints = Endpoints()


class SendBody(msgspec.Struct):
    messages: dict[str, dict[str, dict[str, Any]]]


@endpoints.put("/sendToDevice/{event_type}/{txn_id}", auth=Auth.GUEST)
async def send_to_device(call: Call, event_type: str, txn_id: str, body: SendBody) -> JsonObject:
    """client-server-api#put_matrixclientv3sendtodeviceeventtypetxnid"""
    if len(txn_id) > 255 or not fits(event_type):
        raise InvalidParam("The transaction id or the type is too long")
    # An application service may act without a device; its transactions are its user's then.
    sender = (call.requester.user_id, call.requester.device_id or "")
    await call.parts.encryption.to_device.send(sender, event_type, txn_id, body.messages)
    return {}
