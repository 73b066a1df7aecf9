"""What other servers send us."""

from __future__ import annotations

from typing import Any

import msgspec

from homeserver.errors import BadJson
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

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
    await federation.edus.take(call.origin, body.edus)
    return {
        "pdus": {
            event_id: {} if problem is None else {"error": problem}
            for event_id, problem in outcomes.items()
        }
    }
