"""The server of an invited user signs the invite before anybody else sees it.

server-server-api#inviting-to-a-room
"""

from __future__ import annotations

import msgspec

from homeserver.errors import BadGateway
from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event, with_signatures
from homeserver.protocol.identifiers import server_name_of
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.remote.errors import RemoteRefusal
from homeserver.store.database import Database
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.policy_servers import PolicyServers
from homeserver.stream.serve_pdus import served_by_ids
from homeserver.stream.stripped_state import STRIPPED_KEYS

V1 = "/_matrix/federation/v1/invite"
V2 = "/_matrix/federation/v2/invite"
STEP = Terms(seconds=30.0, ignore_backoff=True)


class InvitedServers:
    """Asks them."""

    def __init__(
        self, database: Database, client: FederationClient, policy_servers: PolicyServers
    ) -> None:
        self._database = database
        self._client = client
        self._policy_servers = policy_servers

    async def signed(self, room: LiveRoom, invite: Event) -> Event:
        """An invite that we signed, with the signature of the invited user's server too.

        "*all* servers in the room MUST ask the Policy Server to sign their events before sending
        them to clients and servers", so it is asked first. Raises Forbidden, BadGateway,
        Unreachable and what either server refuses with.
        """
        assert invite.state_key is not None
        server = server_name_of(invite.state_key)
        invite = await self._policy_servers.recommended(room, invite)
        pdu = await self._ask(server, room, invite)
        signatures = pdu.get("signatures") if isinstance(pdu, dict) else None
        if not isinstance(signatures, dict):
            raise BadGateway("The other server did not sign the invite")
        return with_signatures(invite, signatures)

    async def _ask(self, server: str, room: LiveRoom, invite: Event) -> object:
        ids = [room.state[key] for key in STRIPPED_KEYS if key in room.state]
        async with self._database.connection() as connection:
            served = await served_by_ids(connection, ids, room.rules)
        room_state = [msgspec.json.decode(pdu) for pdu in served]
        body: JsonObject = {
            "room_version": room.rules.identifier,
            "event": invite.pdu,
            "invite_room_state": room_state,
        }
        path = path_to(V2, room.room_id, invite.event_id)
        try:
            return (await self._client.put(server, path, body, STEP)).get("event")
        except RemoteRefusal as refusal:
            # "Senders which receive a 400 or 404 response to this endpoint should retry using the
            # v1 API as the server may be older, if the room version is "1" or "2"."
            if refusal.remote_status not in (400, 404) or not room.rules.event_id_in_pdu:
                raise
        old = {**invite.pdu, "unsigned": {"invite_room_state": room_state}}
        path = path_to(V1, room.room_id, invite.event_id)
        return (await self._client.put(server, path, old, STEP)).get("event")
