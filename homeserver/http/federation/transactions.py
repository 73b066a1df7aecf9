"""What other servers send us."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import BadJson
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import server_name_of
from homeserver.stream.incoming import NOT_WELCOME
from homeserver.stream.receive import LeftAside

endpoints = Endpoints("/_matrix/federation", ("v1",), Resource.FEDERATION)

MAX_PDUS = 50
MAX_EDUS = 100


class TransactionBody(msgspec.Struct):
    pdus: list[Any] = []
    edus: list[Any] = []


@endpoints.put("/send/{txn_id}", auth=Auth.FEDERATION, limit=Limit.FEDERATION)
async def send_transaction(call: Call, txn_id: str, body: TransactionBody) -> JsonObject:
    """server-server-api#put_matrixfederationv1sendtxnid"""
    if len(body.pdus) > MAX_PDUS or len(body.edus) > MAX_EDUS:
        raise BadJson(f"A transaction holds at most {MAX_PDUS} PDUs and {MAX_EDUS} EDUs")
    federation = call.parts.federation
    outcomes = await federation.inbound.incoming.take(call.origin, body.pdus)
    for pdu in body.pdus:
        if _ends_an_invite(pdu, call.parts.config.server_name):
            await federation.inbound.outside.take_back(call.origin, pdu)
    await federation.edus.take(call.origin, body.edus)
    return {"pdus": {event_id: _result(problem) for event_id, problem in outcomes.items()}}


def _result(problem: str | None) -> JsonObject:
    """A PDU Processing Result. What is rejected by the rules was processed all the same."""
    if problem is None or isinstance(problem, LeftAside):
        return {}
    if problem == NOT_WELCOME:
        return {"errcode": "M_FORBIDDEN", "error": problem}
    return {"error": problem}


def _ends_an_invite(pdu: Any, server_name: str) -> bool:
    """Might it take back the invite (refuse the knock) of a user of ours, by its look?"""
    if not isinstance(pdu, dict) or pdu.get("type") != "m.room.member":
        return False
    content, user_id = pdu.get("content"), pdu.get("state_key")
    return (
        isinstance(content, dict)
        and content.get("membership") in ("leave", "ban")
        and isinstance(user_id, str)
        and server_name_of(user_id) == server_name
        and pdu.get("sender") != user_id
    )
